"""A run that is interrupted, or killed, goes on where it stopped. On a float .tflite, so that no TensorFlow is needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from edgekit.devices.local import PYTHON_VARIABLE
from edgekit.store import RunStore
from tests.conftest import Cli

RECIPES = ["float32", "float16", "dynamic-int8", "int8"]
# A device that hangs as soon as it shall measure.
SLOW = """
    import subprocess, sys, time
    if "bench" in sys.argv:
        open({marker!r}, "w").close()
        time.sleep(300)
    sys.exit(subprocess.run([{python!r}, *sys.argv[1:]]).returncode)
"""


@pytest.fixture
def config(float_model: Path, data: Path, tmp_path: Path) -> Path:
    """An experiment on the dense model."""
    path = tmp_path / "edgekit.toml"
    path.write_text(
        f'name = "dense"\n[data]\nsource = "{data}"\n[model]\npath = "{float_model}"\n'
        f"[convert]\nrecipes = {json.dumps(RECIPES)}\n[bench]\nruns = 5\n"
    )
    return path


def interrupted(
    config: Path, out: Path, fake_python: Callable[[str], str], device_python: Path, number: int
) -> tuple[int, str]:
    """Exit code and standard error of a run that gets signal ``number`` while the device hangs on what is not measured yet."""
    marker = out.parent / "hanging"
    slow = fake_python(SLOW.format(marker=str(marker), python=str(device_python)))
    with subprocess.Popen(
        [sys.executable, "-m", "edgekit", "run", str(config), "--out", str(out), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, PYTHON_VARIABLE: slow},
        start_new_session=True,
    ) as process:
        until = time.monotonic() + 60
        while not marker.exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert marker.exists()
        with pytest.raises(Exception, match="another edgekit is writing"), RunStore.open(out).locked():
            pass
        os.killpg(process.pid, number)
        stdout, stderr = process.communicate(timeout=30)
    assert stdout == ""
    return process.returncode, stderr


def hanging(fake: Path) -> list[psutil.Process]:
    """Device processes that still run ``fake``."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if str(fake) in (process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_goes_on_where_it_stopped(
    edgekit_cli: Cli,
    config: Path,
    tmp_path: Path,
    fake_python: Callable[[str], str],
    device_python: Path,
    number: signal.Signals,
) -> None:
    """Ctrl-C, a request to end, or kill -9: what was finished is kept, the rest is done, and the verdict is there."""
    out = tmp_path / "run"
    whole = config.read_text()
    config.write_text(whole.replace(json.dumps(RECIPES), '["float32"]'))
    assert edgekit_cli("run", config, "--out", out).returncode == 0
    config.write_text(whole)
    (out / "report.json").unlink()
    code, stderr = interrupted(config, out, fake_python, device_python, number)

    assert "Traceback" not in stderr
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
        for orphan in hanging(tmp_path / "device-python"):  # nobody was left to end it
            orphan.kill()
    else:
        assert code == 130
        assert "interrupted: what was finished is kept; run the same command again" in stderr
        until = time.monotonic() + 5
        while hanging(tmp_path / "device-python") and time.monotonic() < until:
            time.sleep(0.05)
        assert hanging(tmp_path / "device-python") == []
    assert [path.name for path in (out / "reports").iterdir()] == ["float32.json"]
    assert not (out / "report.json").exists()

    done = edgekit_cli("run", config, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stderr.splitlines()]
    for name in RECIPES:
        assert f"{name}: made before, kept" in lines
        assert f"{name}: evaluated before, kept" in lines
        assert (f"{name}: measured before, kept" in lines) == (name == "float32")
    assert [line for line in lines if line.startswith("measuring")] == [
        "measuring float16, dynamic-int8, int8 in turns on local"
    ]
    found = json.loads(done.stdout)
    assert all(line["median_ms"] for line in found["variants"])
    assert found["choice"]


def test_one_recipe_or_variant_that_fails_ends_with_its_code(
    edgekit_cli: Cli, config: Path, tmp_path: Path, fake_python: Callable[[str], str], device_python: Path
) -> None:
    """The others are compared, what failed is said, and the next run does only that again."""
    code = (
        "import os, subprocess, sys\nfor path in sys.argv:\n    if os.path.basename(path) == 'int8.tflite':\n"
        "        open(path, 'wb').write(b'rubbish')\n"
        f"sys.exit(subprocess.run([{str(device_python)!r}, *sys.argv[1:]]).returncode)"
    )
    out = tmp_path / "run"
    done = edgekit_cli("run", config, "--out", out, "--json", env={PYTHON_VARIABLE: fake_python(code)})

    assert done.returncode == 2
    [error] = [line for line in done.stderr.splitlines() if "error" in line]
    assert error.startswith("edgekit: error: int8: local refuses int8.tflite: expected a .tflite model")
    found = json.loads(done.stdout)
    assert [item["variant"] for item in found["failures"]] == ["int8"]
    assert (out / "report.html").exists()

    again = edgekit_cli("run", config, "--out", out)
    assert again.returncode == 0
    assert again.stderr.count("measuring") == 1


def test_recipes_taken_out_of_the_file_are_not_compared(edgekit_cli: Cli, config: Path, tmp_path: Path) -> None:
    """What lies in the folder from before may be of another model."""
    out = tmp_path / "run"
    assert edgekit_cli("run", config, "--out", out).returncode == 0
    config.write_text(config.read_text().replace(json.dumps(RECIPES), '["float32", "int8"]'))
    found = json.loads(edgekit_cli("run", config, "--out", out, "--json").stdout)

    assert {line["name"] for line in found["variants"]} == {"float32", "int8"}
