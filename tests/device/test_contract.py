"""One contract, every runtime: model_contract.py runs once in each environment, and each check is a test here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.device.model_contract import CHECKS

# Environment, runtime, what takes over a float32 and an int8 model (tflite-runtime 2.14 runs int8 by itself), and what is
# asked for: litert:cpu is LiteRT's CompiledModel instead of its Interpreter.
RUNTIMES = {
    "device": ("device_python", "litert", "xnnpack,xnnpack", "auto"),
    "compiled": ("device_python", "litert", "litert-cpu,litert-cpu", "litert:cpu"),
    "tflite": ("tflite_python", "tflite", "xnnpack,none", "auto"),
    "host": ("host_python", "tf", "xnnpack,xnnpack", "auto"),
}
_results: dict[str, dict[str, str | None]] = {}


@pytest.fixture(scope="session")
def host_python() -> Path:
    return Path(sys.executable)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("environment", ["device", "compiled", "tflite", pytest.param("host", marks=pytest.mark.keras)])
def test_contract(
    environment: str, check: str, models: Path, clean_environment: dict[str, str], request: pytest.FixtureRequest
) -> None:
    """Every runtime keeps every promise of Model."""
    if environment not in _results:
        fixture, runtime, delegates, asked = RUNTIMES[environment]
        python = request.getfixturevalue(fixture)
        program = Path(__file__).with_name("model_contract.py")
        done = subprocess.run(
            [python, "-W", "error::RuntimeWarning", program, models, runtime, delegates, asked],
            capture_output=True,
            text=True,
            timeout=180,
            cwd=models,
            env=clean_environment,
            check=False,
        )
        assert done.returncode == 0, f"{environment} ended with {done.returncode}: {done.stderr[-2000:]}"
        _results[environment] = json.loads(done.stdout)

    failure = _results[environment][check]
    assert failure is None, failure
