"""ARM userlands, what runs programs in them, and the models whose outputs are compared."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from edgekit_device import Model

from edgekit import convert
from edgekit.devices.emulated import MARKER, EmulatedTransport
from tests.arm.graphs import OPERATIONS, float_model, samples
from tests.conftest import ROOT
from tests.device.models import MODELS

FOLDER_VARIABLE = "EDGEKIT_ARM_FOLDER"
ROWS = 40
PROGRAMS = Path(__file__).parent


@dataclass(frozen=True)
class Side:
    """One combination under test: a userland, a runtime in it, and the processor emulated."""

    architecture: str
    runtime: str
    version: str
    cpu: str
    machine: str
    pointer_bits: int
    delegates: str  # what takes over a float32 and an int8 model

    @property
    def place(self) -> str:
        """What is behind ``emulated://``."""
        folder = Path(os.environ.get(FOLDER_VARIABLE) or ROOT / ".arm") / self.architecture
        return f"{folder}?runtime={self.runtime}&cpu={self.cpu}"


SIDES = {
    "arm64-litert": Side("arm64", "litert", "2.3.0", "cortex-a72", "aarch64", 64, "xnnpack,xnnpack"),
    "arm64-tflite": Side("arm64", "tflite", "2.14.0", "cortex-a72", "aarch64", 64, "xnnpack,none"),
    "armhf-tflite": Side("armhf", "tflite", "2.14.0", "cortex-a7", "armv7l", 32, "none,none"),
}
Program = Callable[..., str]


@pytest.fixture(scope="session", params=SIDES)
def side(request: pytest.FixtureRequest) -> Side:
    """Every userland and runtime; scripts/test-arm builds them."""
    chosen = SIDES[request.param]
    if not (Path(chosen.place.partition("?")[0]) / MARKER).is_file():
        pytest.skip(f"no {chosen.architecture} userland is built: scripts/arm-userland {chosen.architecture}")
    return chosen


@pytest.fixture
def transport(side: Side) -> Iterator[EmulatedTransport]:
    """An emulated device of that side."""
    made = EmulatedTransport(side.place)
    yield made
    made.close()


def run_there(side: Side, program: str | Path, *arguments: object, timeout: float = 240) -> str:
    """What a Python program prints when it runs on that side, with the device package and the runtime at hand."""
    made = EmulatedTransport(side.place)
    try:
        command = [*made.command([])[:-2], str(program), *(str(argument) for argument in arguments)]
        done = subprocess.run(
            command,
            env=dict(made.environment([])),
            cwd=made.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    finally:
        made.close()
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def device_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every model of tests/device/models.py."""
    folder = tmp_path_factory.mktemp("device-models")
    for name, make in MODELS.items():
        (folder / f"{name}.tflite").write_bytes(make())
    return folder


@pytest.fixture(scope="session")
def operations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``float32`` and ``int8`` folders with every model of OPERATIONS and ROWS inputs for it, in the model's own steps."""
    folder = tmp_path_factory.mktemp("operations")
    for precision in ("float32", "int8"):
        (folder / precision).mkdir()
    for name in OPERATIONS:
        given = folder / "float32" / f"{name}.tflite"
        given.write_bytes(float_model(name))
        x = samples(name, ROWS, seed=2)
        np.save(given.with_suffix(".npy"), x)
        _quantize(name, given, folder / "int8" / f"{name}.tflite", x)
    return folder


def _quantize(name: str, given: Path, out: Path, x: np.ndarray) -> None:
    """``edgekit convert`` with integers at both ends, so that outputs can be compared in steps."""
    labels = np.zeros(200, np.int64)
    data = {"x_train": samples(name, 200, seed=1), "y_train": labels, "x_test": x, "y_test": labels[: len(x)]}
    made = convert(given, data=data, recipes=("int8",), input_type="int8", output_type="int8").or_raise()
    out.write_bytes(made.by_variant["int8"].tflite)
    with Model(out, probe=False) as model:
        spec = model.inputs[0]
        steps = np.round(x / spec.scale) + spec.zero_point
    np.save(out.with_suffix(".npy"), np.clip(steps, -128, 127).astype(np.int8))


@pytest.fixture(scope="session")
def host_pythons(device_python: Path, request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """This machine's Python with a runtime: the same version as the userlands', by the same constraints."""

    def find(runtime: str) -> Path:
        return device_python if runtime == "litert" else request.getfixturevalue("tflite_python")

    return find


def versions(printed: str) -> set[str]:
    """The versions of the runtime that ran the models, as outputs.py prints them."""
    return {facts["version"] for facts in json.loads(printed).values()}
