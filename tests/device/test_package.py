"""The package as a whole: what is public, what an import loads, and how large it may grow."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import edgekit_device
import pytest

LINE_BUDGET = 10_500


def test_public_names() -> None:
    """A name added here is a promise."""
    assert edgekit_device.__all__ == [
        "BenchmarkReport", "ClosedError", "DataError", "DelegateError", "DeviceRuntimeError", "InferenceError", "InputError",
        "Model", "ModelCrashError", "ModelError", "ReportError", "RuntimeMissingError", "TensorSpec", "__version__", "measure",
    ]  # fmt: skip
    assert all(getattr(edgekit_device, name) is not None for name in edgekit_device.__all__)
    assert callable(edgekit_device.measure)
    with pytest.raises(AttributeError, match="has no attribute 'modle'"):
        _ = edgekit_device.modle


def test_every_error_is_drawn_in_the_tree() -> None:
    """The errors module's docstring names each error once, and each has an exit code."""
    from edgekit_device import errors

    drawn = re.findall(r"── (\w+)", errors.__doc__ or "")

    assert sorted([*drawn, "DeviceRuntimeError"]) == sorted(errors.__all__)
    assert all(getattr(errors, name).exit_code in (2, 3) for name in errors.__all__)


@pytest.mark.parametrize("python", ["device_python", "tflite_python"])
@pytest.mark.parametrize(
    "statement", ["import edgekit_device", "import edgekit_device.cli", "import edgekit_device.measurement"]
)
def test_importing_loads_no_runtime(
    python: str, statement: str, request: pytest.FixtureRequest, clean_environment: dict[str, str]
) -> None:
    """A clean interpreter of each environment proves it; the command itself waits for no numpy either."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    command = [request.getfixturevalue(python), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=clean_environment, cwd="/")
    loaded = set(done.stdout.split())

    assert not {"ai_edge_litert", "tflite_runtime", "tensorflow"} & {name.split(".")[0] for name in loaded}
    if statement != "import edgekit_device.measurement":
        assert "numpy" not in loaded
    if statement == "import edgekit_device":
        assert {name for name in loaded if name.startswith("edgekit_device.")} == {"edgekit_device.errors"}


def test_the_package_stays_small(root: Path) -> None:
    """A board's package is read before it is trusted: no module over 400 lines, all of it within the budget."""
    lines = {str(path): len(path.read_text().splitlines()) for path in (root / "device/edgekit_device").rglob("*.py")}

    assert max(lines.values()) <= 400, lines
    assert sum(lines.values()) <= LINE_BUDGET
