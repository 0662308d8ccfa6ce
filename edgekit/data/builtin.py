"""Datasets by name, for trying edgekit before one's own data is at hand."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError, MissingExtraError, UsageError, suggest
from .dataset import Dataset, Split, check_dataset
from .idx import read_idx
from .npz import load_npz

__all__ = ["BUILTIN_NAMES", "load_builtin"]

BUILTIN_NAMES = ("digits", "fashion-mnist")
_FASHION_LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # as listed by: dpkg -L dataset-fashion-mnist
_DOWNLOAD_DEADLINE_S = 300.0
_DOWNLOAD_SCRIPT = """
import sys, numpy, keras
(x_train, y_train), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
numpy.savez(sys.argv[1], x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
"""
_WAYS = (
    "there are three ways to get it: the package of Debian and Ubuntu (sudo apt-get install dataset-fashion-mnist), a "
    "folder with the four files from https://github.com/zalandoresearch/fashion-mnist, or Keras and a network "
    '(pip install "edgekit[keras]")'
)


def load_builtin(name: str, *, folder: str | os.PathLike[str] | None = None) -> Dataset:
    """A dataset of BUILTIN_NAMES, images of uint8.

    ``digits``: 1797 handwritten digits of 8x8x1 with values 0..16, from scikit-learn. ``fashion-mnist``: 70000
    pictures of clothes of 28x28x1 (Xiao et al., arXiv:1708.07747), taken from ``folder`` if given, else from
    Debian's package, else downloaded by Keras in a process of its own. Raises DataError, UsageError for an unknown
    name or a folder that makes no sense, MissingExtraError without scikit-learn.
    """
    if name not in BUILTIN_NAMES:
        raise UsageError(f"unknown dataset {name!r}{suggest(name, BUILTIN_NAMES)}")
    if name == "fashion-mnist":
        return _fashion_mnist(None if folder is None else Path(folder))
    if folder is not None:
        raise UsageError(f"folder: expected only with fashion-mnist, got {folder} with {name}; leave it away")
    return _digits()


def _digits() -> Dataset:
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise MissingExtraError("digits come with scikit-learn; type: pip install scikit-learn") from error
    bunch = datasets.load_digits()
    everything = Split({"x": bunch.images.astype(np.uint8)[..., None]}, bunch.target.astype(np.int64))
    is_test = _stratified(bunch.target, fraction=0.2, seed=0)
    train, test = (everything.take(np.flatnonzero(chosen)) for chosen in (~is_test, is_test))
    return check_dataset(Dataset("digits", train, test, tuple("0123456789")))


def _stratified(labels: npt.NDArray[Any], *, fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        chosen[rng.permutation(rows)[: round(len(rows) * fraction)]] = True
    return chosen


def _fashion_mnist(folder: Path | None) -> Dataset:
    if folder is not None:
        splits = _read_folder(folder)
    elif _DEBIAN_FOLDER.is_dir():
        splits = _read_folder(_DEBIAN_FOLDER)
    else:
        splits = _download()
    return check_dataset(Dataset("fashion-mnist", splits["train"], splits["test"], _FASHION_LABELS))


def _read_folder(folder: Path) -> Mapping[str, Split]:
    splits = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images = read_idx(_find(folder, f"{prefix}-images-idx3-ubyte"), dimensions=3)
        labels = read_idx(_find(folder, f"{prefix}-labels-idx1-ubyte"), dimensions=1)
        splits[part] = _images(images, labels, str(folder))
    return splits


def _find(folder: Path, name: str) -> Path:
    for file in (folder / f"{name}.gz", folder / name):
        if os.path.isfile(file):
            return file
    raise DataError(f"expected {name}.gz or {name} in {folder}, got neither; {_WAYS}")


def _images(images: npt.NDArray[Any], labels: npt.NDArray[Any], source: str) -> Split:
    if images.shape[1:] != (28, 28):
        raise DataError(f"{source}: expected fashion-mnist images of 28x28, got shape {images.shape}; {_WAYS}")
    return Split({"x": images[..., None]}, labels)


def _download() -> Mapping[str, Split]:
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        file = Path(folder) / "fashion-mnist.npz"
        _run_download(file)
        dataset = load_npz(file)
    if dataset.train is None or dataset.test is None or dataset.train.labels is None or dataset.test.labels is None:
        raise DataError(f"expected all of fashion-mnist from Keras, got only a part; {_WAYS}")
    return {
        part: _images(split.inputs["x"], split.labels, "Keras")
        for part, split in (("train", dataset.train), ("test", dataset.test))
        if split.labels is not None
    }


def _run_download(file: Path) -> None:
    """Let Keras fetch the data in a child, because importing TensorFlow here would cost seconds and memory for ever."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _DOWNLOAD_SCRIPT, str(file)],
            cwd=file.parent,  # python -c looks for modules there first; a keras.py of the user must not be run
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_DOWNLOAD_DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"Keras did not fetch fashion-mnist within {_DOWNLOAD_DEADLINE_S:g} s; {_WAYS}") from error
    except OSError as error:
        raise DataError(f"Keras could not be started to fetch fashion-mnist ({error}); {_WAYS}") from error
    if done.returncode != 0 or not file.is_file():
        output = (done.stderr or done.stdout).decode(errors="replace").strip()
        reason = output.splitlines()[-1][:300] if output else "it said nothing"
        raise DataError(f"Keras could not fetch fashion-mnist (exit code {done.returncode}: {reason}); {_WAYS}")
