"""The one door to all data, and what opening it loads."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import edgekit.data
from edgekit.data import BUILTIN_NAMES, Dataset, Split, load_data
from edgekit.errors import DataError, UsageError

X = np.arange(16, dtype=np.uint8).reshape(4, 2, 2)
Y = np.array([0, 1, 0, 1])


def _folder(root):
    image = pytest.importorskip("PIL.Image")
    (root / "train" / "a").mkdir(parents=True)
    image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(root / "train" / "a" / "0.png")
    return root


def test_all_is_sorted_and_complete():
    """The public names are in order, exist, and include what others build on."""
    assert list(edgekit.data.__all__) == sorted(edgekit.data.__all__)
    assert all(hasattr(edgekit.data, name) for name in edgekit.data.__all__)
    assert {"Calibration", "Dataset", "Preprocessing", "Split", "draw_calibration", "load_data"} <= set(
        edgekit.data.__all__
    )


def test_importing_loads_nothing_heavy():
    """A clean interpreter has neither Pillow, scikit-learn, TensorFlow nor Keras after the import."""
    code = (
        "import sys, edgekit.data; loaded = {name.split('.')[0] for name in sys.modules}; "
        "print(sorted({'PIL', 'sklearn', 'tensorflow', 'keras', 'scipy'} & loaded))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_dataset_passes_through():
    """The same object comes back."""
    dataset = Dataset("mine", Split({"x": X}, Y), None)
    assert load_data(dataset) is dataset


@pytest.mark.parametrize("spec", [{"x_train": X, "y_train": Y}, ((X, Y), (None, None))], ids=["mapping", "pairs"])
def test_arrays_in_memory_are_taken(spec):
    """Arrays need no file."""
    dataset = load_data(spec)
    assert np.array_equal(dataset.train.inputs["x"], X)
    assert np.array_equal(dataset.train.labels, Y)


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_an_npz_path_is_read(tmp_path, kind):
    """Text and path objects are the same."""
    np.savez(tmp_path / "data.npz", x_test=X)
    assert load_data(kind(tmp_path / "data.npz")).test.count == 4


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    """A tilde that no shell has seen is understood."""
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "data.npz", x_test=X)
    assert load_data("~/data.npz").test.count == 4


def test_a_folder_is_read_with_its_options(tmp_path):
    """Size and channels reach the images."""
    dataset = load_data(_folder(tmp_path), size=(8, 2), channels=1)
    assert dataset.train.inputs["x"].shape == (1, 8, 2, 1)


def test_a_builtin_name_is_known():
    """The digits need no file."""
    pytest.importorskip("sklearn")
    assert load_data("digits").name == "digits"


def test_a_folder_of_images_beats_a_builtin_name(tmp_path, monkeypatch):
    """Whoever has a folder named digits gets the folder."""
    _folder(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    assert load_data("digits").labels == ("a",)


def test_the_folder_of_fashion_mnist_reaches_it(tmp_path):
    """The option is passed on, and so is the error about an empty folder."""
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        load_data("fashion-mnist", folder=tmp_path)


def test_a_function_is_called(tmp_path, monkeypatch):
    """module:function works through the same door."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "user_door.py").write_text("import numpy as np\ndef load():\n    return {'x_test': np.zeros(3)}\n")
    assert load_data("user_door:load").test.count == 3
    del sys.modules["user_door"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digist", "none of them; did you mean 'digits'"),
        ("", "which is none of them. Choose from: digits, fashion-mnist"),
        ("missing.npz", r"expected an \.npz file, got missing\.npz, which does not exist"),
        ("data.npy", "got the single array"),
        ("folder/sub", "'folder/sub', which does not exist; check the path"),
        ("missing.csv", "'missing.csv', which does not exist"),
        ("notes.csv", r"an \.npz file, a folder .*, module:function, or a built-in name .*got the file notes\.csv"),
        ("user_none:load", "expected a module 'user_none'"),
    ],
)
def test_other_specs_list_what_is_possible(tmp_path, monkeypatch, spec, message):
    """A misspelling, a missing path and a foreign file each have their message."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=message):
        load_data(spec)


@pytest.mark.parametrize("spec", [3, None, [1, 2], (X, Y), X])
def test_other_objects_are_refused(spec):
    """What is neither path, dataset nor arrays is named by its type."""
    with pytest.raises(DataError, match="expected a Dataset, a mapping with the keys"):
        load_data(spec)


@pytest.mark.parametrize("option", [{"channels": 1}, {"folder": "."}])
def test_options_that_would_be_ignored_are_refused(tmp_path, option):
    """Neither belongs to arrays, an .npz file, or the other's kind of data."""
    np.savez(tmp_path / "data.npz", x_test=X)
    for spec in ({"x_test": X}, tmp_path / "data.npz"):
        with pytest.raises(UsageError, match=f"{next(iter(option))}: expected only with .*leave it away"):
            load_data(spec, **option)


def test_options_of_the_other_kind_are_refused(tmp_path):
    """Channels mean nothing to a built-in name, nor the folder option to a folder of images."""
    with pytest.raises(UsageError, match="channels"):
        load_data(BUILTIN_NAMES[0], channels=1)
    with pytest.raises(UsageError, match="folder"):
        load_data(_folder(tmp_path), folder=tmp_path)
