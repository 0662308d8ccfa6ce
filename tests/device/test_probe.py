"""What becomes of an action that kills, hangs, fails or succeeds in a child."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import edgekit_device.probe as module
import psutil
import pytest
from edgekit_device import Model, ModelCrashError, ModelError
from edgekit_device.loading import read_model
from edgekit_device.probe import probe, signal_name

from tests.tflite_builder import dense_model


def _raise(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def _children() -> set[int]:
    """Every child of this process, those that ended and were not reaped as well."""
    return {child.pid for child in psutil.Process().children()}


def test_success_is_silent_and_leaves_nothing_behind() -> None:
    """What the child did to its memory stays there, and it is reaped."""
    values, before = [1], _children()
    probe(lambda: values.append(2), "trying")

    assert values == [1]
    assert _children() == before


@pytest.mark.parametrize(
    ("action", "name"),
    [
        (lambda: ctypes.string_at(0), "SIGSEGV"),
        (os.abort, "SIGABRT"),
        (lambda: os.kill(os.getpid(), signal.SIGBUS), "SIGBUS"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
    ],
    ids=["segfault", "abort", "bus", "kill"],
)
def test_a_signal_is_a_crash(action: Callable[[], object], name: str) -> None:
    """The error names the signal, and carries it."""
    with pytest.raises(ModelCrashError, match=name) as caught:
        probe(action, "trying")

    assert caught.value.signal_name == name
    assert ("memory" in str(caught.value)) == (name == "SIGKILL")


def test_a_hang_ends_at_the_deadline() -> None:
    """A child that does not finish is killed, in about the time it had."""
    started = time.monotonic()
    with pytest.raises(ModelCrashError, match=r"did not finish within 0\.2 s"):
        probe(lambda: time.sleep(60), "trying", deadline_s=0.2)

    assert 0.2 <= time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("no such thing\nsecond line"), "trying: no such thing$"),
        (RuntimeError(), "trying: RuntimeError$"),
        (SystemExit(0), "trying: 0$"),
        (KeyboardInterrupt(), "trying: KeyboardInterrupt$"),
        (MemoryError("\udc80 \x1b[31m" + "x" * 10_000), r"trying: \[31mx{100}"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_exception_is_a_model_error(error: BaseException, message: str) -> None:
    """Its first line comes over, printable and capped; no exception of the child ends well."""
    with pytest.raises(ModelError, match=message) as caught:
        probe(_raise(error), "trying")

    assert not isinstance(caught.value, ModelCrashError)
    assert len(str(caught.value)) < 700


def test_allocating_without_bound_fails_in_the_child() -> None:
    """A damaged shape that asks for more memory than the board has is refused, not granted."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with pytest.raises(ModelError):
        probe(lambda: bytearray(physical), "trying")


def test_an_interrupt_leaves_no_child_behind() -> None:
    """Ctrl-C while waiting kills the child, and is passed on."""
    before = _children()
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        probe(lambda: [time.sleep(1) for _ in range(60)] if signal.signal(signal.SIGINT, signal.SIG_IGN) else None, "x")

    assert _children() == before


def test_file_descriptors_do_not_leak() -> None:
    """50 trials, good and bad, leave as many open files as there were."""
    before = len(os.listdir("/proc/self/fd"))
    for number in range(50):
        with contextlib.suppress(ModelCrashError):
            probe(os.abort if number % 2 else lambda: None, "trying")

    assert len(os.listdir("/proc/self/fd")) == before


def test_where_nothing_can_be_forked_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model then loads without a trial."""
    monkeypatch.setattr(module, "CAN_FORK", False)
    probe(os.abort, "trying")

    assert Model(dense_model()).batch == 1


def test_unknown_signals_have_a_name_too() -> None:
    """Real-time signals have numbers only."""
    assert signal_name(11) == "SIGSEGV"
    assert signal_name(60) == "signal 60"


def test_models_can_be_tried_beside_busy_threads() -> None:
    """Threads that predict all the while do not make a trial hang: 30 trials, each far under the deadline."""
    content, _ = read_model(dense_model())
    model, stop, failures = Model(content, threads=2), threading.Event(), []

    def work() -> None:
        import numpy as np

        x = np.ones((1, 64), np.float32)
        while not stop.is_set():
            try:
                model.predict(x)
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    slowest = 0.0
    try:
        for _ in range(30):
            started = time.monotonic()
            Model(content, threads=2).close()
            slowest = max(slowest, time.monotonic() - started)
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert failures == []
    assert slowest < 10


@pytest.mark.keras
def test_models_can_be_tried_in_a_process_that_runs_tensorflow() -> None:
    """100 trials beside TensorFlow's own busy threads: none hangs, none fails."""
    code = f"""
import threading, time, warnings
import tensorflow as tf
from edgekit_device import Model
content = bytes.fromhex("{dense_model().hex()}")
stop = threading.Event()
def work():
    while not stop.is_set():
        x = tf.random.normal((4, 16, 16, 8))
        tf.nn.conv2d(x, tf.random.normal((3, 3, 8, 8)), 1, "SAME")
        for _ in tf.data.Dataset.range(50).map(lambda v: v * 2, num_parallel_calls=2).prefetch(2):
            pass
thread = threading.Thread(target=work)
thread.start()
slowest = 0.0
try:
    for _ in range(100):
        started = time.monotonic()
        Model(content, threads=2).close()
        slowest = max(slowest, time.monotonic() - started)
finally:
    stop.set()
    thread.join()
print("slowest", slowest)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False)

    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout.split()[-1]) < 30
