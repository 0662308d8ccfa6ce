"""A small float model whose answers numpy can work out, data it classifies perfectly, and a run made from both."""

from __future__ import annotations

import shutil
import stat
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit import convert
from tests.conftest import Cli
from tests.edgekit.sshd import SSHServer, needed_ssh, ssh_server
from tests.tflite_builder import DENSE_INPUTS, DENSE_UNITS, dense_model

RECIPES = ("float32", "float16", "dynamic-int8", "int8")


def dense_scores(x: np.ndarray) -> np.ndarray:
    """What the dense model answers, by the numbers it was built from."""
    kernel = np.random.default_rng(7).normal(size=(DENSE_UNITS, DENSE_INPUTS)).astype("float32")
    return x @ kernel.T + 1


@pytest.fixture(scope="session")
def float_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 .tflite of one dense layer with 32 classes."""
    path = tmp_path_factory.mktemp("models") / "dense.tflite"
    path.write_bytes(dense_model())
    return path


@pytest.fixture(scope="session")
def arrays() -> dict[str, np.ndarray]:
    """Samples in -1..1 and the classes the dense model answers for them."""
    draw = np.random.default_rng(1)
    train, test = (draw.uniform(-1, 1, (count, DENSE_INPUTS)).astype("float32") for count in (200, 100))
    labels = (dense_scores(part).argmax(axis=1) for part in (train, test))
    return dict(zip(("x_train", "x_test", "y_train", "y_test"), (train, test, *labels), strict=True))


@pytest.fixture(scope="session")
def data(arrays: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples as an .npz."""
    path = tmp_path_factory.mktemp("data") / "samples.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="session")
def made_run(float_model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with four variants; not to be written to."""
    folder = tmp_path_factory.mktemp("runs") / "made"
    assert not convert(float_model, data=data, recipes=RECIPES, out=folder).failures
    return folder


@pytest.fixture
def run_folder(made_run: Path, tmp_path: Path) -> Path:
    """A copy of the run, for one test alone."""
    return Path(shutil.copytree(made_run, tmp_path / "run"))


@pytest.fixture
def fake_python(tmp_path: Path) -> Callable[[str], str]:
    """fake_python(code): an executable to name in EDGEKIT_DEVICE_PYTHON that runs ``code`` instead of a device."""

    def write(code: str) -> str:
        path = tmp_path / "device-python"
        path.write_text(f"#!{sys.executable}\n{textwrap.dedent(code)}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return write


@pytest.fixture(scope="session")
def digits_run(edgekit_cli: Cli, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The main job, run once: a trained CNN, five variants, measured, compared and reported."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    done = edgekit_cli("run", root / "examples" / "digits" / "edgekit.toml", "--out", folder, "--json")
    assert done.returncode == 0, done.stderr
    (folder.parent / "stdout.json").write_text(done.stdout)
    (folder.parent / "stderr.txt").write_text(done.stderr)
    return folder


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    """A real sshd on loopback that lets this user in; its home folder is empty unless ``board`` is asked for."""
    needed_ssh()
    with ssh_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def board(sshd: SSHServer, device_python: Path) -> Iterator[SSHServer]:
    """The sshd with what ``edgekit device setup`` leaves behind on a board: an environment with edgekit-device."""
    there = sshd.home / ".edgekit-device"
    there.mkdir()
    (there / "env").symlink_to(device_python.parent.parent)
    yield sshd
    shutil.rmtree(there)
