"""Data in, from wherever it lies: an ``.npz`` file, a folder of images, a Python function, a built-in name.

Importing this package loads neither Pillow, scikit-learn nor TensorFlow.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..errors import DataError, UsageError, suggest
from .arrays import dataset_from_value
from .builtin import BUILTIN_NAMES, load_builtin
from .calibration import Calibration, draw_calibration
from .dataset import Dataset, Split, check_dataset, check_split
from .folder import is_image_folder, load_folder
from .function import is_function_spec, load_function
from .npz import load_npz
from .preprocess import Preprocessing, parse_size, resize

__all__ = [
    "BUILTIN_NAMES",
    "Calibration",
    "Dataset",
    "Preprocessing",
    "Split",
    "check_dataset",
    "check_split",
    "draw_calibration",
    "load_builtin",
    "load_data",
    "load_folder",
    "load_function",
    "load_npz",
    "parse_size",
    "resize",
]

_FORMS = (
    "an .npz file, a folder with train/ and test/ of images, module:function, or a built-in name "
    f"({', '.join(BUILTIN_NAMES)})"
)


def load_data(
    spec: str | os.PathLike[str] | Dataset | Mapping[str, Any] | tuple[Any, ...],
    *,
    size: tuple[int, int] | None = None,
    folder: str | os.PathLike[str] | None = None,
    channels: int | None = None,
) -> Dataset:
    """The checked dataset that ``spec`` stands for.

    ``spec`` is a Dataset, which passes through, arrays as a mapping with the ``.npz`` keys or as
    ((x_train, y_train), (x_test, y_test)), the path of an ``.npz`` file, an existing folder of images, the name of
    a built-in dataset, or ``module:function``, tried in this order. ``size`` and ``channels`` shape a folder of images;
    other data is resized by ``Preprocessing``, so size is not applied to it here. ``folder`` says where the files of
    fashion-mnist lie. Raises DataError, UsageError for an option that does not belong, MissingExtraError.
    """
    if not isinstance(spec, (str, os.PathLike)):
        _refuse(folder=folder, channels=channels)
        return dataset_from_value(spec, "the given data")
    text = os.path.expanduser(os.fsdecode(spec))
    # A folder "digits" with train/ inside is of images; a folder "fashion-mnist" may as well hold what its name says.
    if text in BUILTIN_NAMES and not is_image_folder(text):
        _refuse(channels=channels)
        return load_builtin(text, folder=folder)
    if os.path.isdir(text):
        _refuse(folder=folder)
        return load_folder(text, size=size, channels=channels)
    dataset = _load_named(text)  # first, so that a misspelt path is what the message is about
    _refuse(folder=folder, channels=channels)
    return dataset


def _refuse(*, folder: object = None, channels: object = None) -> None:
    if channels is not None:
        raise UsageError(f"channels: expected only with a folder of images, got {channels!r}; leave it away")
    if folder is not None:
        raise UsageError(f"folder: expected only with fashion-mnist, got {folder}; leave it away")


def _load_named(text: str) -> Dataset:
    suffix = os.path.splitext(text)[1].lower()
    if suffix in (".npz", ".npy"):
        return load_npz(text)
    if is_function_spec(text):
        return load_function(text)
    if os.path.exists(text):
        raise DataError(f"expected {_FORMS}, got the file {text}; convert it with np.savez, or write a function")
    if os.sep in text or suffix:
        raise DataError(f"expected {_FORMS}, got {text!r}, which does not exist; check the path")
    raise DataError(f"expected {_FORMS}, got {text!r}, which is none of them{suggest(text, BUILTIN_NAMES)}")
