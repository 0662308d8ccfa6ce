"""Data from ``.npz`` files, whole, foreign and damaged."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest

from edgekit.data import Dataset, load_npz
from edgekit.data import npz as npz_module
from edgekit.errors import DataError

X_TRAIN = np.arange(24, dtype=np.float32).reshape(6, 2, 2)
X_BYTES = X_TRAIN.tobytes()
Y_TRAIN = np.array([0, 1, 2, 0, 1, 2])
X_TEST = X_TRAIN[:3] + 100
Y_TEST = np.array([2, 1, 0])


def _npy(descr="<f4", shape=(6, 2, 2), payload=X_BYTES, version=1):
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + payload


def _write_zip(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _saved(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_everything_is_read_as_numpy_saved_it(tmp_path, save):
    """Arrays, dtypes and class names come back, stored or compressed."""
    path = tmp_path / "data.npz"
    save(path, x_train=X_TRAIN, y_train=Y_TRAIN, x_test=X_TEST, y_test=Y_TEST, labels=np.array(["a", "b", "çé"]))
    dataset = load_npz(path)
    assert dataset.name == "data.npz"
    assert dataset.labels == ("a", "b", "çé")
    for split, x, y in ((dataset.train, X_TRAIN, Y_TRAIN), (dataset.test, X_TEST, Y_TEST)):
        assert split.inputs["x"].dtype == np.float32
        assert np.array_equal(split.inputs["x"], x)
        assert np.array_equal(split.labels, y)


@pytest.mark.parametrize(
    "values",
    [
        np.asfortranarray(np.arange(24, dtype=np.int16).reshape(4, 3, 2)),
        np.arange(6, dtype=">f8").reshape(3, 2),
        np.array([[True], [False]]),
        np.arange(5, dtype=np.uint64),
    ],
    ids=["fortran", "big-endian", "bool", "1-d"],
)
def test_every_layout_reads_as_numpy_reads_it(tmp_path, values):
    """np.load is the oracle for order, byte order and dtype."""
    path = _saved(tmp_path / "data.npz", x_test=values)
    loaded = load_npz(path).test.inputs["x"]
    with np.load(path) as oracle:
        assert np.array_equal(loaded, oracle["x_test"])
    assert loaded.dtype == values.dtype.newbyteorder("=")


def test_newer_header_versions_are_read(tmp_path):
    """An .npy member of version 2 is as good as one of version 1."""
    path = _write_zip(tmp_path / "data.npz", {"x_test.npy": _npy(version=2)})
    assert np.array_equal(load_npz(path).test.inputs["x"], X_TRAIN)


def test_a_header_of_python_2_is_read_without_a_word(tmp_path):
    """The long integers of old files are understood, and no warning escapes."""
    member = _npy().replace(b"(6, 2, 2)", b"(6L,2, 2)")
    assert np.array_equal(load_npz(_write_zip(tmp_path / "old.npz", {"x_test.npy": member})).test.inputs["x"], X_TRAIN)


@pytest.mark.parametrize(("key", "present", "absent"), [("x_test", "test", "train"), ("x_train", "train", "test")])
def test_one_split_without_labels_is_enough(tmp_path, key, present, absent):
    """Only x_test serves evaluation, only x_train calibration, and labels are None."""
    dataset = load_npz(_saved(tmp_path / "data.npz", **{key: X_TRAIN}))
    assert getattr(dataset, present).labels is None
    assert getattr(dataset, absent) is None


def test_several_inputs_are_read_by_name(tmp_path):
    """The part after the dot is the name of the model's input."""
    path = _saved(
        tmp_path / "data.npz",
        **{"x_train.image": X_TRAIN, "x_train.age": Y_TRAIN, "x_test.image": X_TEST, "x_test.age": Y_TEST},
    )
    dataset = load_npz(path)
    assert set(dataset.train.inputs) == set(dataset.test.inputs) == {"image", "age"}
    assert np.array_equal(dataset.test.inputs["age"], Y_TEST)


def test_arrays_of_other_names_are_ignored_aloud(tmp_path, caplog):
    """A validation split is left alone and mentioned in the log."""
    load_npz(_saved(tmp_path / "data.npz", x_train=X_TRAIN, x_val=X_TEST))
    assert "ignored the keys 'x_val'" in caplog.text


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": X_TRAIN, "targets": Y_TRAIN}, "x_train, y_train, x_test, y_test .* got 'images', 'targets'"),
        ({}, "got none"),
        ({"y_train": Y_TRAIN}, "expected the keys"),
        ({"x_trian": X_TRAIN}, "unknown key 'x_trian'; did you mean 'x_train'"),
        ({"X_train": X_TRAIN}, "did you mean 'x_train'"),
        ({"x_train": X_TRAIN, "y_tran": Y_TRAIN}, "did you mean 'y_train'"),
        ({"x_train": X_TRAIN, "y_test": Y_TEST}, "expected x_test beside y_test"),
        ({"x_train": X_TRAIN, "x_train.a": X_TRAIN}, "either x_train or x_train.NAME"),
        ({"x_train.a": X_TRAIN, "x_test.b": X_TEST}, "same inputs in train and test"),
        ({"x_train": X_TRAIN, "y_train": Y_TRAIN, "labels": np.array(["a", "b"])}, "class numbers from 0 to 1"),
        ({"x_train": X_TRAIN, "labels": Y_TRAIN}, "`labels` as a list of class names, got dtype int64"),
        ({"x_train": X_TRAIN, "labels": np.array("a")}, "`labels` as a list of class names"),
        ({"x_train": np.array(["a", "b"])}, "dtype <U1"),
        ({"x_train": np.array([1 + 2j])}, "dtype complex128"),
        ({"x_train": np.zeros(3, [("a", "i4")])}, "expected an array of numbers"),
    ],
)
def test_wrong_keys_and_kinds_are_named(tmp_path, arrays, message):
    """Missing, misspelt and contradicting keys say what was found and what is expected."""
    with pytest.raises(DataError, match=message):
        load_npz(_saved(tmp_path / "data.npz", **arrays))


def test_pickled_objects_are_refused_without_being_loaded(tmp_path):
    """An object array never reaches the unpickler, which would run the code in it."""

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    path = tmp_path / "data.npz"
    np.savez(path, x_train=np.array([Bomb(), Bomb()], object))
    with pytest.raises(DataError, match="pickled Python objects, which can run code and are never loaded"):
        load_npz(path)
    assert not (tmp_path / "owned").exists()


def test_a_single_npy_is_refused_with_the_line_to_type(tmp_path):
    """The hint turns the array into a file that works."""
    np.save(tmp_path / "data.npy", X_TRAIN)
    with pytest.raises(DataError, match=r"np\.savez\('data\.npz', x_test=np\.load\('data\.npy'\)"):
        load_npz(tmp_path / "data.npy")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04", _npy()])
def test_what_is_no_zip_is_refused(tmp_path, content):
    """A file of another kind is named, with the line that makes a right one."""
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"expected a readable \.npz file, got .*data\.npz .*np\.savez"):
        load_npz(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    """Neither is a traceback."""
    with pytest.raises(DataError, match="does not exist; check the path"):
        load_npz(tmp_path / "data.npz")
    with pytest.raises(DataError, match="expected a readable"):
        load_npz(tmp_path)


def test_every_truncation_is_refused(tmp_path):
    """A zip cut anywhere lacks its directory, so nothing half-read comes out."""
    whole = _saved(tmp_path / "whole.npz", x_train=X_TRAIN, y_train=Y_TRAIN).read_bytes()
    path = tmp_path / "cut.npz"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            load_npz(path)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (_npy(shape=(6, 2, 3)), "expected 144 bytes .* got 96"),
        (_npy(payload=X_BYTES + b"\0"), "expected 96 bytes .* got 97"),
        (_npy(shape=(2**40, 2**20)), "expected 4611686018427387904 bytes"),
        (_npy(shape=(10**30,)), "the file is damaged"),
        (_npy(shape=(-6, 2, -2)), r"shape \(-6, 2, -2\)"),
        (_npy(shape=(0, 2**70), payload=b""), "expected a readable"),
        (_npy(descr="|V4", shape=(24,)), "expected an array of numbers"),
        (_npy(descr="no such type"), "expected a readable"),
        (_npy(version=9), r"unknown \.npy version \(9, 0\)"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "expected a readable"),
        (b"text", "expected a readable"),
    ],
    ids=["short", "long", "huge", "huger", "negative", "empty-huge", "void", "dtype", "version", "header", "text"],
)
def test_headers_that_lie_are_refused(tmp_path, member, message):
    """What a header claims is compared with what is there, before memory is reserved."""
    with pytest.raises(DataError, match=message):
        load_npz(_write_zip(tmp_path / "data.npz", {"x_train.npy": member}))


def test_a_directory_that_claims_the_impossible_is_refused(tmp_path):
    """No deflate stream grows more than 1032-fold, so a claim beyond that is damage."""
    path = _write_zip(tmp_path / "data.npz", {"x_train.npy": _npy()})
    raw = bytearray(path.read_bytes())
    start = raw.index(b"PK\x01\x02") + 24
    raw[start : start + 4] = struct.pack("<I", 2**31)
    path.write_bytes(raw)
    with pytest.raises(DataError, match="got a claim of 2147483648"):
        load_npz(path)


def test_a_member_shorter_than_its_directory_entry_is_refused(tmp_path):
    """Bytes that the directory promises and the stream lacks are counted."""
    member = _npy(shape=(6, 2, 3))  # claims 48 bytes more than it holds, and so will the directory
    path = _write_zip(tmp_path / "data.npz", {"x_train.npy": member})
    raw = bytearray(path.read_bytes())
    start = raw.index(b"PK\x01\x02") + 24
    raw[start : start + 4] = struct.pack("<I", len(member) + 48)
    path.write_bytes(raw)
    with pytest.raises(DataError, match="expected a readable"):
        load_npz(path)


def test_other_compressions_are_refused(tmp_path):
    """Numpy writes stored or deflated members; the rest cannot be bounded."""
    path = _write_zip(tmp_path / "data.npz", {"x_train.npy": _npy()}, zipfile.ZIP_BZIP2)
    with pytest.raises(DataError, match="expected no or deflate compression, got method 12"):
        load_npz(path)


def test_more_than_the_limit_is_refused(tmp_path, monkeypatch):
    """The sum over all arrays is bounded."""
    monkeypatch.setattr(npz_module, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="at most 100 bytes of arrays"):
        load_npz(_saved(tmp_path / "data.npz", x_train=X_TRAIN))


def _mutated(rng, original):
    raw = bytearray(original)
    kind = rng.integers(4)
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(len(raw)))
        if kind == 0:
            raw[place] = int(rng.integers(256))
        elif kind == 1:
            raw[place] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del raw[place : place + int(rng.integers(1, 9))]
        else:
            raw[place:place] = rng.bytes(int(rng.integers(1, 9)))
    return bytes(raw)


def test_500_damaged_files_give_a_dataset_or_a_data_error(tmp_path):
    """Whatever bytes are damaged, only DataError or a valid dataset comes out."""
    buffers = [io.BytesIO(), io.BytesIO()]
    labels = np.array(["a", "b", "c"])
    np.savez(buffers[0], x_train=X_TRAIN, y_train=Y_TRAIN, labels=labels)
    np.savez_compressed(buffers[1], x_test=X_TRAIN, y_test=Y_TRAIN, labels=labels)
    rng = np.random.default_rng(20240607)
    path = tmp_path / "data.npz"
    refused = 0
    for number in range(500):
        path.write_bytes(_mutated(rng, buffers[number % 2].getvalue()))
        try:
            assert isinstance(load_npz(path), Dataset)
        except DataError:
            refused += 1
    assert 250 < refused < 500


def test_300_damaged_headers_give_a_dataset_or_a_data_error(tmp_path):
    """With the zip intact, so that its checksum hides nothing, the header parser is on its own."""
    rng = np.random.default_rng(7)
    path = tmp_path / "data.npz"
    refused = 0
    for _ in range(300):
        _write_zip(path, {"x_train.npy": _mutated(rng, _npy()[:80]) + _npy()[80:]})
        try:
            assert isinstance(load_npz(path), Dataset)
        except DataError:
            refused += 1
    assert 150 < refused < 300
