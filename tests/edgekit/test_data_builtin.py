"""Datasets by name and the IDX files behind one of them."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.data import builtin as builtin_module
from edgekit.data import idx as idx_module
from edgekit.data import load_builtin
from edgekit.data.idx import read_idx
from edgekit.errors import DataError, MissingExtraError, UsageError

IMAGES = np.random.default_rng(3).integers(0, 256, (20, 28, 28), dtype=np.uint8)
LABELS = (np.arange(20) % 10).astype(np.uint8)


def _idx(values, kind=8):
    return bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def _fashion_folder(folder, images=IMAGES, labels=LABELS, zipped=True):
    folder.mkdir(exist_ok=True)
    for prefix in ("train", "t10k"):
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            content = _idx(values)
            name = f"{prefix}-{name}-ubyte"
            (folder / (name + ".gz" if zipped else name)).write_bytes(gzip.compress(content) if zipped else content)
    return folder


def test_digits_are_those_of_scikit_learn():
    """Every one of the 1797 digits is in exactly one split, with its label."""
    datasets = pytest.importorskip("sklearn.datasets")
    bunch = datasets.load_digits()
    dataset = load_builtin("digits")
    x = np.concatenate([dataset.train.inputs["x"], dataset.test.inputs["x"]])
    y = np.concatenate([dataset.train.labels, dataset.test.labels])
    assert x.shape == (1797, 8, 8, 1)
    assert x.dtype == np.uint8
    assert x.max() == 16
    expected = sorted(
        (bytes(row), int(label)) for row, label in zip(bunch.data.astype(np.uint8), bunch.target, strict=True)
    )
    assert sorted((row.tobytes(), int(label)) for row, label in zip(x, y, strict=True)) == expected
    assert dataset.labels == tuple("0123456789")


def test_digits_are_split_by_class_and_always_alike():
    """A fifth of every class is for testing, and two calls agree."""
    pytest.importorskip("sklearn.datasets")
    dataset = load_builtin("digits")
    total = np.bincount(dataset.train.labels) + np.bincount(dataset.test.labels)
    assert np.bincount(dataset.test.labels).tolist() == [round(count * 0.2) for count in total]
    assert load_builtin("digits").test.sha256 == dataset.test.sha256


def test_without_scikit_learn_the_line_to_install_is_given(monkeypatch):
    """The message ends with it."""
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install scikit-learn$"):
        load_builtin("digits")


def test_an_unknown_name_is_refused_with_a_suggestion():
    """A misspelling never becomes another dataset."""
    with pytest.raises(UsageError, match="did you mean 'fashion-mnist'"):
        load_builtin("fashion_mnist")


def test_a_folder_for_digits_is_refused(tmp_path):
    """An option that would be ignored is an error."""
    with pytest.raises(UsageError, match="expected only with fashion-mnist"):
        load_builtin("digits", folder=tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_fashion_mnist_is_read_from_a_folder(tmp_path, zipped):
    """The four files, gzipped or not, become images with a channel axis."""
    dataset = load_builtin("fashion-mnist", folder=_fashion_folder(tmp_path / "f", zipped=zipped))
    for split in (dataset.train, dataset.test):
        assert np.array_equal(split.inputs["x"], IMAGES[..., None])
        assert np.array_equal(split.labels, LABELS)
    assert dataset.labels[9] == "Ankle boot"
    assert len(dataset.labels) == 10


def test_debians_package_is_found_by_itself(tmp_path, monkeypatch):
    """Without a folder, the package is looked for before the network."""
    monkeypatch.setattr(builtin_module, "_DEBIAN_FOLDER", _fashion_folder(tmp_path / "f"))
    monkeypatch.setattr(builtin_module, "_DOWNLOAD_SCRIPT", "raise SystemExit('must not run')")
    assert load_builtin("fashion-mnist").train.count == 20


def test_an_incomplete_folder_lists_all_ways(tmp_path):
    """The missing file is named, and nothing else is tried instead of the folder given."""
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz .*apt-get install .*github.*edgekit\[keras\]"):
        load_builtin("fashion-mnist", folder=tmp_path)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES[:, :20], LABELS, "images of 28x28"),
        (IMAGES, LABELS[:7], "expected 20, one for each sample, got 7"),
        (IMAGES, LABELS + 5, "class numbers from 0 to 9"),
        (IMAGES[:0], LABELS[:0], "at least one sample"),
    ],
)
def test_files_that_are_not_fashion_mnist_are_refused(tmp_path, images, labels, message):
    """MNIST-like files with other contents do not pass under the name."""
    with pytest.raises(DataError, match=message):
        load_builtin("fashion-mnist", folder=_fashion_folder(tmp_path / "f", images, labels))


@pytest.fixture
def keras_script(monkeypatch):
    """Replace what the child runs, so that no test needs TensorFlow or a network."""
    monkeypatch.setattr(builtin_module, "_DEBIAN_FOLDER", Path("/nonexistent"))

    def replace(script):
        monkeypatch.setattr(builtin_module, "_DOWNLOAD_SCRIPT", script)

    return replace


def _child(**shapes):
    arrays = ", ".join(f"{key}=np.zeros({shape}, np.uint8)" for key, shape in shapes.items())
    return f"import sys, numpy as np\nnp.savez(sys.argv[1], {arrays})\n"


def test_the_child_delivers_a_file(keras_script):
    """What the child saves is what comes out."""
    keras_script(_child(x_train=(12, 28, 28), y_train=(12,), x_test=(3, 28, 28), y_test=(3,)))
    dataset = load_builtin("fashion-mnist")
    assert dataset.train.inputs["x"].shape == (12, 28, 28, 1)
    assert dataset.test.labels.tolist() == [0, 0, 0]


def test_the_real_child_script_calls_keras(tmp_path, monkeypatch, keras_script):
    """The script runs against a stand-in for Keras that has the same face."""
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "__init__.py").write_text("from . import datasets\n")
    (tmp_path / "keras" / "datasets.py").write_text(
        "import numpy as np\n"
        "class fashion_mnist:\n"
        "    def load_data():\n"
        "        return tuple((np.ones((n, 28, 28), np.uint8), np.ones(n, np.uint8)) for n in (4, 2))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    dataset = load_builtin("fashion-mnist")
    assert (dataset.train.count, dataset.test.count) == (4, 2)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("raise OSError('no network')", "exit code 1: OSError: no network"),
        ("import sys; sys.exit(3)", "exit code 3: it said nothing"),
        ("pass", "exit code 0"),
        ("import sys; open(sys.argv[1], 'w').close()", r"expected a readable \.npz"),
        (_child(x_train=(2, 28, 28), y_train=(2,)), "got only a part"),
        (_child(x_train=(2, 9, 9), y_train=(2,), x_test=(2, 9, 9), y_test=(2,)), "images of 28x28"),
    ],
)
def test_a_child_that_fails_is_reported(keras_script, script, message):
    """Exit code and last line of the child are in the message."""
    keras_script(script)
    with pytest.raises(DataError, match=message):
        load_builtin("fashion-mnist")


def test_a_child_that_hangs_meets_its_deadline(keras_script, monkeypatch):
    """The wait ends, and all ways to get the data are listed."""
    keras_script("import time; time.sleep(60)")
    monkeypatch.setattr(builtin_module, "_DOWNLOAD_DEADLINE_S", 0.2)
    with pytest.raises(DataError, match=r"within 0\.2 s; .*apt-get install .*github.*edgekit\[keras\]"):
        load_builtin("fashion-mnist")


def test_a_child_that_cannot_start_is_reported(keras_script, monkeypatch):
    """Without an interpreter there is a message, not a traceback."""
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(DataError, match="could not be started"):
        load_builtin("fashion-mnist")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "two zero bytes first, got b''"),
        (b"\x1f\x8b\x08\x00", "two zero bytes first"),
        (b"\0\0\x0d\x03" + bytes(12), "expected unsigned bytes .* got float32"),
        (b"\0\0\x07\x03" + bytes(12), "unknown type 0x07"),
        (b"\0\0\x08\x01" + bytes(12), "expected 3 dimensions, got 1; images and labels may be swapped"),
        (b"\0\0\x08\x03" + bytes(11), "expected 3 sizes, got 11 bytes"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "expected at most 1073741824 values"),
        (_idx(IMAGES)[:-1], r"expected 15680 values for shape \(20, 28, 28\), got only 15679"),
        (_idx(IMAGES) + b"\0", "got more"),
    ],
)
def test_idx_files_that_lie_are_refused(tmp_path, content, message):
    """Magic, type, dimensions and length are each compared with the content."""
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(path, dimensions=3)


def test_an_idx_file_that_cannot_be_opened_is_refused(tmp_path):
    """A missing file and a gzip that is none are named."""
    (tmp_path / "images.gz").write_bytes(_idx(IMAGES))
    for name in ("missing", "images.gz"):
        with pytest.raises(DataError, match=f"expected a readable IDX file, got .*{name}"):
            read_idx(tmp_path / name, dimensions=3)


def test_a_gzip_bomb_is_read_no_further_than_its_header_says(tmp_path):
    """Fifty megabytes behind a header of 4 bytes are not unpacked."""
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(_idx(LABELS[:4]) + bytes(50_000_000), 1))
    with pytest.raises(DataError, match="got more"):
        read_idx(path, dimensions=1)


def test_200_damaged_idx_files_give_an_array_or_a_data_error(tmp_path, monkeypatch):
    """Whatever bytes are damaged, only DataError or an array of the right kind comes out."""
    monkeypatch.setattr(idx_module, "MAX_BYTES", 1 << 20)
    rng = np.random.default_rng(11)
    plain = _idx(IMAGES[:2, :4, :4])
    originals = {tmp_path / "a.gz": gzip.compress(plain), tmp_path / "a": plain}
    refused = 0
    for number in range(200):
        path, original = list(originals.items())[number % 2]
        raw = bytearray(original)
        for _ in range(rng.integers(1, 4)):
            # Half of the damage goes into the header, where it can do most.
            raw[int(rng.integers(16 if number % 4 < 2 else len(raw)))] = int(rng.integers(256))
        path.write_bytes(raw[: int(rng.integers(len(raw)))] if number % 5 == 0 else raw)
        try:
            values = read_idx(path, dimensions=3)
        except DataError:
            refused += 1
        else:
            assert values.ndim == 3
            assert values.dtype == np.uint8
    assert 100 < refused < 200
