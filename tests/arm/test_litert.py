"""LiteRT's CompiledModel on ARM: its aarch64 wheel is built for processors with LSE atomics, whoever is asked to compute."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.devices.emulated import MARKER, EmulatedTransport
from tests.arm.conftest import PROGRAMS, SIDES, Side, run_there

pytestmark = pytest.mark.arm

OLD = SIDES["arm64-litert"]  # a Raspberry Pi 4's
NEW = dataclasses.replace(OLD, cpu="cortex-a76")  # a Raspberry Pi 5's


@pytest.fixture(autouse=True)
def userland() -> None:
    """scripts/test-arm builds it."""
    if not (Path(OLD.place.partition("?")[0]) / MARKER).is_file():
        pytest.skip("no arm64 userland is built: scripts/arm-userland arm64")


@pytest.fixture(params=[OLD, NEW], ids=["cortex-a72", "cortex-a76"])
def side(request: pytest.FixtureRequest) -> Side:
    """Both processors."""
    chosen: Side = request.param
    return chosen


@pytest.fixture
def transport(side: Side) -> Iterator[EmulatedTransport]:
    """An emulated device of that processor."""
    made = EmulatedTransport(side.place)
    yield made
    made.close()


def test_the_contract_holds_on_a_newer_processor(device_models: Path) -> None:
    """Every promise of Model over litert:cpu."""
    program = PROGRAMS.parent / "device" / "model_contract.py"
    results = json.loads(run_there(NEW, program, device_models, "litert", "litert-cpu,litert-cpu", "litert:cpu"))

    assert {name: failure for name, failure in results.items() if failure} == {}


def test_an_older_processor_is_told_why(side: Side, transport: EmulatedTransport, device_models: Path) -> None:
    """The wheel ends the process there (SIGILL): a message, and no word of a damaged file."""
    command = ["bench", str(device_models / "dense.tflite"), "--delegate", "litert:cpu", "--runs", "3"]
    done = transport.run(command, deadline_s=120)
    listed = json.loads(transport.run(["accelerators", "--json"], deadline_s=120).stdout)["litert"]

    assert listed[0]["available"] == (side == NEW)
    if side == NEW:
        assert done.exit_code == 0
        assert "delegate litert-cpu" in done.stdout
    else:
        assert done.exit_code == 3
        for text in (done.stderr, listed[0]["reason"]):
            assert "litert:cpu kills the process (SIGILL): the GPU library that LiteRT loads" in text
            assert "damaged" not in text
