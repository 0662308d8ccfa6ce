"""Samples from a file, through a model, to answers: on the device."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import edgekit_device.evaluation as module
import numpy as np
import pytest
from edgekit_device import DataError, Model
from edgekit_device.arrays import RowsFile, map_npz, read_arrays, write_npy, write_npz
from edgekit_device.embedded import append_note
from edgekit_device.evaluation import measure_accuracy, read_samples
from edgekit_device.tasks import answers, predict_all, preprocess

from tests.device.model_contract import KERNEL, floats
from tests.device.models import MODELS
from tests.tflite_builder import dense_model


def _npz(folder: Path, **arrays: Any) -> str:
    path = folder / "samples.npz"
    np.savez(path, **arrays)
    return str(path)


def test_samples_and_labels(tmp_path: Path) -> None:
    """``x`` and ``y``, and the hash of the very file."""
    path = _npz(tmp_path, x=np.ones((3, 64)), y=np.arange(3))
    samples = read_samples(path)

    assert list(samples.inputs) == ["x"]
    assert samples.count == 3
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 2]
    assert samples.sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_keras_names_and_several_inputs(tmp_path: Path) -> None:
    """``x_test`` with ``y_test`` beside the training data, and ``x.NAME`` for each of several inputs."""
    keras = read_samples(_npz(tmp_path, x_train=np.ones(9), y_train=np.ones(9), x_test=np.ones((2, 4)), y_test=[1, 0]))
    named = read_samples(_npz(tmp_path, **{"x.a": np.ones((2, 4)), "x.b": np.zeros((2, 4))}))

    assert keras.count == 2
    assert keras.labels is not None
    assert keras.labels.tolist() == [1, 0]
    assert set(named.inputs) == {"a", "b"}
    assert named.labels is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": [[1.0]]}, r"'x' or 'x_test'.*got \['images'\]"),
        ({}, "got nothing"),
        ({"x": [[1.0]], "x_test": [[1.0]]}, "not both, got both"),
        ({"x": [[1.0]] * 3, "y": [1, 2]}, r"same number of samples.*got \[2, 3\]"),
        ({"x": np.ones((0, 4))}, r"at least one.*got \[0\]"),
        ({"x": 1.0}, r"at least one.*got \[0\]"),
        ({"x": ["a"]}, "numbers in 'x'.*got <U1"),
        ({"x": [[1.0, np.nan]]}, "finite values in 'x'.*NaN"),
        ({"x": [[np.inf]]}, "finite values in 'x'"),
    ],
    ids=str,
)
def test_data_that_cannot_be_used_is_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    """Each refusal says what was expected and what is in the file."""
    with pytest.raises(DataError, match=message):
        read_samples(_npz(tmp_path, **arrays))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, a folder, rubbish, cut, pickled, too large, and an .npy: a message each, with the path."""
    good = Path(_npz(tmp_path, x=np.ones((30, 64))))
    rubbish, cut, pickled = (tmp_path / name for name in ("rubbish.npz", "cut.npz", "pickled.npz"))
    rubbish.write_bytes(os.urandom(500))
    cut.write_bytes(good.read_bytes()[:300])
    np.savez(pickled, x=np.array([{"a": 1}], object))
    np.save(tmp_path / "one.npy", np.ones(3))
    for path, message in (
        (tmp_path / "absent.npz", "cannot read .*No such file"),
        (tmp_path, "cannot read .*directory"),
        (rubbish, "expected .*npz of plain numbers"),
        (cut, "expected .*npz of plain numbers"),
        (pickled, "expected .*npz of plain numbers"),
        (tmp_path / "one.npy", r"expected .*as \.npz .*one array of an \.npy"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            read_samples(str(path))
        assert str(path) in str(caught.value)
    monkeypatch.setattr(module, "CAP_BYTES", 100)
    with pytest.raises(DataError, match="at most 100 bytes"):
        read_samples(str(good))


def test_accuracy_equals_numpy(tmp_path: Path) -> None:
    """The share of labels that numpy's own product of the weights answers, batch after batch, and the outputs' hash."""
    x = floats(300, 64)
    scores = x @ KERNEL.T + 1
    labels = np.random.default_rng(3).integers(0, 32, 300)
    labels[:200] = scores[:200].argmax(axis=1)
    expected = int((scores.argmax(axis=1) == labels).sum())
    samples = read_samples(_npz(tmp_path, x=x, y=labels))
    kept = tmp_path / "outputs.npz"
    with Model(dense_model()) as model:
        facts = measure_accuracy(model, samples, outputs_path=str(kept))

    assert (facts.correct, facts.count, facts.accuracy) == (expected, 300, expected / 300)
    outputs = np.load(kept)["output_0"]
    assert np.allclose(outputs, scores, atol=1e-4)
    assert facts.outputs_sha256 == hashlib.sha256(outputs.tobytes()).hexdigest()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs.npz", "samples.npz"]


@pytest.mark.parametrize("y", [None, np.ones((2, 3)), np.ones(2)], ids=["none", "one-hot", "floats"])
def test_without_class_labels_there_is_no_accuracy(tmp_path: Path, y: Any) -> None:
    """Outputs are hashed all the same; a figure is measured or absent."""
    arrays = {"x": floats(2, 64)} if y is None else {"x": floats(2, 64), "y": y}
    facts = measure_accuracy(Model(dense_model()), read_samples(_npz(tmp_path, **arrays)))

    assert facts.accuracy is None
    assert facts.count == 2
    assert len(facts.outputs_sha256) == 64


def test_data_of_another_shape_is_a_data_error(tmp_path: Path) -> None:
    """The data is at fault, and the message names the model and both shapes."""
    samples = read_samples(_npz(tmp_path, x=np.ones((2, 63))))
    with pytest.raises(DataError, match=r"does not fit the model.*\(N, 64\).*\(2, 63\)"):
        measure_accuracy(Model(dense_model()), samples)


def test_the_note_says_how_raw_samples_are_fed() -> None:
    """Pixels as uint8 are scaled as the note says, never taken for native steps."""
    noted = append_note(dense_model(), {"preprocessing": {"scale": 1 / 255, "offset": -0.5}})
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64), dtype=np.uint8)
    (outputs,) = predict_all(Model(noted), {"x": pixels})

    assert np.allclose(outputs, (pixels / 255 - 0.5) @ KERNEL.T + 1, atol=1e-4)


def test_small_integers_without_a_note_are_real_values() -> None:
    """int8 samples for an int8 model are what they count, since data files hold real values."""
    values = np.zeros((1, 64), np.int8)
    values[0, 0] = 2
    model = Model(dense_model("int8"))

    assert np.array_equal(predict_all(model, {"x": values})[0], model.predict(values.astype(np.float32)))


def test_several_inputs_go_by_name() -> None:
    """In whatever order they lie in the file."""
    a, b = floats(300, 4), floats(300, 4, seed=2)
    outputs = predict_all(Model(MODELS["difference_and_product"]()), {"input_1": a, "input_0": b})

    assert any(np.array_equal(value, a * b) for value in outputs)
    assert any(np.array_equal(value, a - b) for value in outputs)


@pytest.mark.parametrize("value", ["red", None, [], {}, float("nan"), 1e999, 10**400])
def test_a_note_without_numbers_is_refused(value: object) -> None:
    """The note came with the file: rubbish in it is a message, not a traceback."""
    with pytest.raises(DataError, match=r"expected a number as preprocessing\.scale"):
        preprocess(np.ones(3), {"preprocessing": {"scale": value}})


def test_no_preprocessing_leaves_the_samples_alone() -> None:
    """Not even their dtype changes."""
    raw = np.ones(3, np.uint8)

    assert preprocess(raw, {}) is raw
    assert preprocess(raw, {"preprocessing": "rubbish"}) is raw


def test_answers() -> None:
    """The largest of several scores, or whether the one score is above a half; masks are no answers."""
    assert answers(np.array([[0.1, 0.9], [0.8, 0.2]])).tolist() == [1, 0]
    assert answers(np.array([[0.5], [0.6]])).tolist() == [0, 1]
    assert answers(np.array([[[[0.1, 0.9]]]])).tolist() == [1]
    with pytest.raises(DataError, match="one row of class scores"):
        answers(np.zeros((2, 4, 4, 3)))


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    """What stood at the path stays, and no part lies beside it."""
    path = tmp_path / "a.npy"
    write_npy(str(path), np.ones(3))

    with pytest.raises(FileNotFoundError):
        write_npz(str(tmp_path / "absent" / "a.npz"), {})
    with pytest.raises((AttributeError, pickle.PicklingError)):
        write_npy(str(path), np.array([lambda: None], object))
    assert np.array_equal(read_arrays(str(path)), np.ones(3))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.npy"]


def test_uncompressed_arrays_are_mapped_and_not_read(tmp_path: Path) -> None:
    """Of every dtype and rank as numpy reads them; compressed and Fortran-ordered ones are read, to the same values."""
    draw = np.random.default_rng(0)
    arrays = {
        "x": draw.normal(size=(5, 3, 2)).astype("float32"),
        "pixels": draw.integers(0, 256, (4, 7), dtype=np.uint8),
        "y": np.arange(5, dtype=np.int16),
    }
    np.savez(tmp_path / "stored.npz", **arrays)
    np.savez_compressed(tmp_path / "compressed.npz", **arrays)
    np.savez(tmp_path / "fortran.npz", x=np.asfortranarray(arrays["pixels"]))
    mapped, read = map_npz(str(tmp_path / "stored.npz")), map_npz(str(tmp_path / "compressed.npz"))

    for name, value in arrays.items():
        assert isinstance(mapped[name], np.memmap)
        assert not isinstance(read[name], np.memmap)
        assert mapped[name].dtype == value.dtype
        assert np.array_equal(mapped[name], value)
        assert np.array_equal(read[name], value)
    assert np.array_equal(map_npz(str(tmp_path / "fortran.npz"))["x"], arrays["pixels"])


def test_data_larger_than_the_memory_allowed_is_evaluated(
    device_python: Path, clean_environment: dict[str, str], tmp_path: Path
) -> None:
    """512 MB of samples through a process that may hold 400 MB of its own: mapped pages do not count as such."""
    rows = 2_000_000
    with zipfile.ZipFile(tmp_path / "samples.npz", "w") as archive:
        for name, dtype, shape in (("x", "<f4", (rows, 64)), ("y", "<i8", (rows,))):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, {"descr": dtype, "fortran_order": False, "shape": shape})
                block = bytes(np.dtype(dtype).itemsize * int(np.prod(shape[1:])) * 20_000)
                for _ in range(rows // 20_000):
                    member.write(block)
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (400 << 20, 400 << 20))\n"
        "from edgekit_device.evaluation import read_samples\n"
        "samples = read_samples(sys.argv[1])\n"
        "print(samples.count, int(samples.labels.sum()))\n"
    )
    done = subprocess.run(
        [device_python, "-c", code, tmp_path / "samples.npz"],
        capture_output=True, text=True, check=True, env=clean_environment, cwd="/",
    )  # fmt: skip

    assert done.stdout.split() == [str(rows), "0"]


def test_rows_are_written_as_they_come(tmp_path: Path) -> None:
    """Two outputs in three batches make the file that numpy would have written at once; an error leaves nothing."""
    first, second = floats(7, 3), np.arange(7, dtype=np.int64)
    with RowsFile(str(tmp_path / "out.npz")) as rows:
        for part in (slice(0, 3), slice(3, 6), slice(6, 7)):
            rows.append((first[part], second[part]))
    with np.load(tmp_path / "out.npz") as archive:
        assert np.array_equal(archive["output_0"], first)
        assert np.array_equal(archive["output_1"], second)
    with suppress(KeyError), RowsFile(str(tmp_path / "none.npz")) as rows:
        rows.append((first,))
        raise KeyError
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.npz"]
