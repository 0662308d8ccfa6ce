"""CIFAR-10 from the two archives of JPEGs."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["cifar10", "images"]


def images(archive: Path, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of shape (N, 32, 32, 3) and labels of shape (N,), in the order of their names; ``limit`` draws some, seeded."""
    with zipfile.ZipFile(archive) as opened:
        names = sorted(name for name in opened.namelist() if name.endswith(".jpg"))
        classes = sorted({name.split("/")[-2] for name in names})
        if limit is not None:
            names = [names[i] for i in np.random.default_rng(0).choice(len(names), limit, replace=False)]
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(opened.read(name))).convert("RGB")) for name in names])
        return pixels, np.array([classes.index(name.split("/")[-2]) for name in names])


def cifar10(folder: Path) -> dict[str, np.ndarray]:
    """The 50,000 training and 10,000 test images, as edgekit takes them."""
    x_train, y_train = images(folder / "cifar10_train_jpg.zip")
    x_test, y_test = images(folder / "cifar10_test_jpg.zip")
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
