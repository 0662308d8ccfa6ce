"""What every test may ask for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
Completed = subprocess.CompletedProcess[str]
Cli = Callable[..., Completed]


def pytest_configure() -> None:
    """Where whoever started us ignores Ctrl-C, as scripts do for what runs in their background, our children would too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_the_user_s(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests keep out of the folders where the user's own edgekit, and this machine's if it is a board, keep what they know."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_HOME", str(tmp_path_factory.mktemp("edgekit-home")))
        patch.setenv("EDGEKIT_DEVICE_HOME", "")
        yield


def build_wheels(folder: Path, *sources: Path) -> None:
    """The wheels of ``sources`` into ``folder``, as scripts/build makes them."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps"]
    command += ["--build-constraint", str(ROOT / "constraints.txt"), "-w", str(folder)]
    subprocess.run([*command, *map(str, sources)], check=True, capture_output=True)


def _venv_python(name: str) -> Path:
    return ROOT / name / "bin" / "python"


@pytest.fixture(scope="session")
def device_python() -> Path:
    """The Python of .venv-device: the built wheel, numpy and LiteRT, nothing else."""
    python = _venv_python(".venv-device")
    assert python.is_file(), "run scripts/install first"
    return python


@pytest.fixture(scope="session")
def tflite_python() -> Path:
    """The Python of .venv-tflite: the built wheel, numpy 1 and tflite-runtime."""
    python = _venv_python(".venv-tflite")
    if not python.is_file():
        pytest.skip("tflite-runtime has wheels for Python 3.9 to 3.11 only, and scripts/install found none of them")
    return python


@pytest.fixture(scope="session")
def edgekit_cli() -> Cli:
    """Run the real ``edgekit`` command in a process of its own: edgekit_cli("inspect", path, timeout=60)."""

    def run(
        *arguments: object, timeout: float = 300, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> Completed:
        command = [sys.executable, "-m", "edgekit", *(str(argument) for argument in arguments)]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=cwd or ROOT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def device_cli(device_python: Path) -> Cli:
    """Run ``edgekit-device`` from .venv-device: device_cli("bench", path)."""

    def run(*arguments: object, python: Path | None = None, timeout: float = 120, cwd: Path | None = None) -> Completed:
        command: Sequence[str] = [str(python or device_python), "-m", "edgekit_device", *(str(a) for a in arguments)]
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    return run
