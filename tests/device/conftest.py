"""Models and environments for the device's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.device.models import MODELS


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every model of tests/device/models.py as NAME.tflite."""
    folder = tmp_path_factory.mktemp("models")
    for name, make in MODELS.items():
        (folder / f"{name}.tflite").write_bytes(make())
    return folder


@pytest.fixture(scope="session")
def clean_environment() -> dict[str, str]:
    """Environment variables without what would lend a device's Python our own packages."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
