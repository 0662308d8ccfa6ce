"""What a model answers on ARM and on this machine, with the same runtime in the same version: equal, or how far apart and why."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from edgekit_device import Model

from tests.arm.conftest import PROGRAMS, SIDES, Side, run_there, versions
from tests.arm.graphs import OPERATIONS
from tests.conftest import ROOT

pytestmark = pytest.mark.arm

UNIT_ROUNDOFF = 2.0**-24  # float32
# Terms of the longest sum behind one output value; 1 where nothing is summed.
TERMS = {
    "conv": 72,
    "conv_linear": 72,
    "conv_1x1": 8,
    "depthwise": 9,
    "dense": 64,
    "average_pool": 9,
    "mean": 256,
    "softmax": 64,
    "resize_bilinear": 4,
}
# tflite-runtime 2.14 hands these to ruy, which requantizes with two roundings; its x86 and ARM kernels take a tie of the
# second one apart: upwards on x86, away from zero on ARM. So an output below zero may be one step lower on ARM (-0.5 becomes
# 0 and -1). Behind a ReLU6 those are zero on both.
TIES = ("conv_linear", "dense")
# Without XNNPACK, as on armhf, a float LOGISTIC is an approximation that is off by 7.4e-6 (against numpy in double precision).
LOGISTIC_TOLERANCE = 1e-5

Answers = Callable[[Side, str], Path]


@pytest.fixture(scope="session")
def answers(operations: Path, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """The folder of what a side answers for all models of one precision; each side is asked once."""
    known: dict[tuple[Side, str], Path] = {}

    def ask(side: Side, precision: str) -> Path:
        if (side, precision) not in known:
            folder = tmp_path_factory.mktemp("answers")
            printed = run_there(side, PROGRAMS / "outputs.py", operations / precision, folder, side.runtime)
            assert versions(printed) == {side.version}
            known[side, precision] = folder
        return known[side, precision]

    return ask


@pytest.fixture(scope="session")
def host_answers(
    operations: Path, tmp_path_factory: pytest.TempPathFactory, host_pythons: Callable[[str], Path]
) -> Answers:
    """The same by this machine's own processor and the same runtime."""
    known: dict[tuple[str, str], Path] = {}

    def ask(side: Side, precision: str) -> Path:
        if (side.runtime, precision) not in known:
            folder = tmp_path_factory.mktemp("host")
            command = [
                host_pythons(side.runtime),
                PROGRAMS / "outputs.py",
                operations / precision,
                folder,
                side.runtime,
            ]
            environment = {**os.environ, "PYTHONPATH": str(ROOT / "device")}
            done = subprocess.run(
                command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0, done.stderr
            assert versions(done.stdout) == {side.version}
            known[side.runtime, precision] = folder
        return known[side.runtime, precision]

    return ask


@pytest.mark.parametrize("name", OPERATIONS)
def test_int8_outputs_equal_the_host_s(
    name: str, side: Side, answers: Answers, host_answers: Answers, operations: Path
) -> None:
    """To the bit; where the kernels promise less, by at most one step, at the values and in the direction that explains it."""
    there = np.load(answers(side, "int8") / f"{name}.npy").astype(int)
    here = np.load(host_answers(side, "int8") / f"{name}.npy").astype(int)
    apart = there != here
    if side.runtime == "tflite" and name in TIES:
        with Model(operations / "int8" / f"{name}.tflite", probe=False) as model:
            negative = there < model.outputs[0].zero_point
        assert np.array_equal(there[apart], here[apart] - 1)
        assert negative[apart].all()
        assert apart.mean() < 0.01
    else:
        assert np.array_equal(there, here)
    assert len(np.unique(here)) > 20  # these were no constants


@pytest.mark.parametrize("name", OPERATIONS)
def test_float_outputs_equal_the_host_s(
    name: str, side: Side, answers: Answers, host_answers: Answers, operations: Path
) -> None:
    """To the rounding of a float32 sum taken in another order.

    |difference| <= 3 sqrt(K) u S for K terms (Higham and Mary, 2019, with lambda 3), where u is the unit roundoff and S bounds
    the sum of the terms' magnitudes: |w| |x| by Cauchy and Schwarz, |w| near 1 here and |x| at most sqrt(K) max |x|.
    """
    there = np.load(answers(side, "float32") / f"{name}.npy")
    here = np.load(host_answers(side, "float32") / f"{name}.npy")
    largest = np.abs(np.load(operations / "float32" / f"{name}.npy")).max()
    terms = TERMS.get(name, 1)
    tolerance = 3 * np.sqrt(terms) * UNIT_ROUNDOFF * 2 * np.sqrt(terms) * largest
    if name == "logistic" and side.architecture == "armhf":
        tolerance = LOGISTIC_TOLERANCE
    if name == "cnn":  # twelve layers deep; softmax attenuates what reaches it
        tolerance = 1e-5
    assert there.dtype == here.dtype == np.float32
    assert np.abs(there - here).max() <= tolerance


def test_the_instructions_of_newer_processors_answer_the_same(
    answers: Answers, host_answers: Answers, operations: Path
) -> None:
    """LiteRT has int8 kernels of its own for dot products (a Pi 5's cores), and for i8mm and SVE: bit equal as well.

    Not for SME, which no such board has: with it qemu 7.2 gives convolutions that are wrong, whosever fault that is.
    """
    plain = SIDES["arm64-litert"]
    if not (Path(plain.place.partition("?")[0])).is_dir():
        pytest.skip("no arm64 userland is built: scripts/arm-userland arm64")
    for cpu in ("cortex-a76", "max%2Csme%3Doff"):
        newer = Side(plain.architecture, plain.runtime, plain.version, cpu, plain.machine, 64, plain.delegates)
        there, here = answers(newer, "int8"), host_answers(newer, "int8")
        for name in OPERATIONS:
            assert np.array_equal(np.load(there / f"{name}.npy"), np.load(here / f"{name}.npy")), (cpu, name)
