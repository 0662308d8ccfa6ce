"""Thousands of damaged model files: each ends in one of our errors or a working model, never in a traceback or a signal."""

from __future__ import annotations

import json
import random
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert.interpreter import Interpreter
from edgekit_device import ModelError
from edgekit_device.flatbuffer import verify

from tests.device.fuzz_models import mutate
from tests.device.models import MODELS

PROGRAM = Path(__file__).with_name("fuzz_models.py")


def _fuzz(
    python: Path, runtime: str, count: int, models: Path, scratch: Path, environment: dict[str, str]
) -> dict[str, Any]:
    """Two processes share the mutants; a crash of either fails here with the mutant it died of."""
    halves = []
    for seed in (1, 2):
        folder = scratch / str(seed)
        folder.mkdir()
        command = [str(part) for part in (python, PROGRAM, models, runtime, count // 2, seed)]
        halves.append(
            subprocess.Popen(
                command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    outcomes: dict[str, int] = {}
    for seed, half in enumerate(halves, 1):
        stdout, stderr = half.communicate(timeout=200)
        assert half.returncode == 0, (
            f"{half.returncode} at {scratch / str(seed) / 'last_mutant.tflite'}: {stderr[-2000:]}"
        )
        result = json.loads(stdout)
        assert result["foreign"] == []
        for outcome, number in result["outcomes"].items():
            outcomes[outcome] = outcomes.get(outcome, 0) + number
    assert sum(outcomes.values()) == count
    return outcomes


def test_litert_survives_3000_mutants(
    device_python: Path, models: Path, tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    """Mutants are refused or run; among 3,000 there are plenty of both."""
    outcomes = _fuzz(device_python, "litert", 3000, models, tmp_path, clean_environment)

    assert outcomes["ModelError"] > 1000
    assert outcomes["used: fine"] > 300


def test_tflite_survives_1000_mutants(
    tflite_python: Path, models: Path, tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    """tflite-runtime verifies nothing and crashes on most mutants by itself: those are refused before they reach it."""
    outcomes = _fuzz(tflite_python, "tflite", 1000, models, tmp_path, clean_environment)
    crashes = sum(number for outcome, number in outcomes.items() if outcome.startswith("probe"))

    assert outcomes["ModelError"] > 300
    assert outcomes["used: fine"] > 100
    assert crashes < 20


def test_the_verifier_takes_every_good_model() -> None:
    """No built model, with a note or without, is called damaged."""
    for name, make in MODELS.items():
        verify(make(), name)


def test_the_verifier_refuses_nothing_that_litert_takes() -> None:
    """Of 3,000 mutants, each whose layout our verifier calls damaged is refused by LiteRT's own too."""
    rng = random.Random(5)
    seeds = [make() for make in MODELS.values()]
    refused = 0
    for _ in range(3000):
        mutant = mutate(rng.choice(seeds), rng)
        try:
            verify(mutant, "m")
        except ModelError as error:
            if re.search("signature|metadata|table", str(error)):  # indices and sizes that LiteRT does not check
                continue
            refused += 1
            with pytest.raises(ValueError, match=r"\w"):
                Interpreter(model_content=mutant)

    assert refused > 1000


@pytest.mark.parametrize("length", [16, 20, 40, 100, 400])
def test_a_cut_file_is_refused(length: int) -> None:
    """A download that stopped early is called damaged, with what to do."""
    with pytest.raises(ModelError, match=r"damaged .* convert it again"):
        verify(MODELS["dense"]()[:length], "m")
