"""The contract of ``edgekit_device.Model`` and its way with damaged files, in ARM userlands: the same programs as everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.arm.conftest import PROGRAMS, Side, run_there
from tests.device.model_contract import CHECKS

pytestmark = pytest.mark.arm

DEVICE_TESTS = PROGRAMS.parent / "device"
MUTANTS = 60
_results: dict[Side, dict[str, str | None]] = {}


@pytest.mark.parametrize("check", CHECKS)
def test_contract(check: str, side: Side, device_models: Path) -> None:
    """Every runtime keeps every promise of Model on ARM, with 32-bit pointers too."""
    if side not in _results:
        printed = run_there(side, DEVICE_TESTS / "model_contract.py", device_models, side.runtime, side.delegates)
        _results[side] = json.loads(printed)

    failure = _results[side][check]
    assert failure is None, failure


def test_damaged_models_are_refused_or_run(side: Side, device_models: Path) -> None:
    """The trial in a forked child works under emulation: no mutant ends the process, and no foreign exception comes out."""
    result = json.loads(run_there(side, DEVICE_TESTS / "fuzz_models.py", device_models, side.runtime, MUTANTS, 3))

    assert result["foreign"] == []
    assert sum(result["outcomes"].values()) == MUTANTS
    assert result["outcomes"]["ModelError"] > 10
    assert result["outcomes"]["used: fine"] > 3


def test_large_sizes_are_refused_or_hold(side: Side, device_models: Path) -> None:
    """A board of 32 bits: what its addresses cannot hold is an error of ours, a memory cap above them is none at all."""
    found = json.loads(run_there(side, PROGRAMS / "sizes.py", device_models, side.runtime))

    assert found["pointer_bits"] == side.pointer_bits
    assert found["machine"] == side.machine
    assert found["cap"] == "fine"
    assert found["many_rows"] == "equal"
    assert found["too_large"] in ("InputError", "InferenceError", "ModelError", "DeviceRuntimeError", "MemoryError")
    assert found["afterwards"] == "equal"
