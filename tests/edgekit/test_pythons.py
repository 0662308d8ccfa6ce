"""What a board says of its Pythons, and which of them is taken."""

from __future__ import annotations

import json
import os
import platform
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from edgekit.devices.pythons import BoardPython, Machine, choose_python, find_pythons, parse_pythons
from edgekit.errors import DeviceError

from .this_machine import ThisMachine

PI = {
    "executable": "/usr/bin/python3",
    "version": [3, 11, 2],
    "implementation": "cpython",
    "machine": "aarch64",
    "bits": 64,
    "build": {"SOABI": "cpython-311-aarch64-linux-gnu", "HOST_GNU_TYPE": "aarch64-unknown-linux-gnu"},
    "libc": "glibc 2.36",
    "venv": True,
    "numpy": "1.24.2",
}


def _said(**changes: Any) -> str:
    return "edgekit-python " + json.dumps({**PI, **changes})


def _python(**changes: Any) -> BoardPython:
    return parse_pythons(_said(**changes)).pythons[0]


@pytest.fixture
def board(tmp_path: Path) -> ThisMachine:
    """This machine with the shell's own tools alone on its PATH, no Python among them."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "uname"):
        (tools / name).symlink_to(f"/bin/{name}")
    (tmp_path / "home").mkdir()
    return ThisMachine(tmp_path / "home", str(tools))


def _put(board: ThisMachine, name: str, text: str) -> None:
    path = Path(board.path) / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_this_machine_s_python_is_described_as_it_is(board: ThisMachine) -> None:
    """One command asks; what comes back is what this interpreter knows of itself."""
    (Path(board.path) / "python3").symlink_to(sys.executable)

    machine = find_pythons(board)

    (found,) = machine.pythons
    assert len(board.ran) == 1
    assert machine.system == f"{platform.system()} {platform.machine()}"
    assert found.version == tuple(sys.version_info[:3])
    assert found.architecture == platform.machine()
    assert found.bits == sys.maxsize.bit_length() + 1
    assert found.glibc == tuple(int(part) for part in platform.libc_ver()[1].split(".")[:2])
    assert (found.venv, found.implementation, found.musl, found.soft_float) == (True, "cpython", False, False)


def test_a_named_python_is_asked_alone_also_below_the_home(board: ThisMachine) -> None:
    """A path, absolute or from ``~``, as a user types it."""
    (board.home / "mine").symlink_to(sys.executable)
    _put(board, "python3", "exit 1")

    for name in (str(board.home / "mine"), "~/mine", "./mine"):
        assert [item.version for item in find_pythons(board, name).pythons] == [tuple(sys.version_info[:3])]


def test_a_board_without_python_is_told_how_to_get_one(board: ThisMachine) -> None:
    """Names looked for, and the line for Debian."""
    with pytest.raises(
        DeviceError, match=r"has no Python: looked for python3, python3\.14.*sudo apt-get install python3"
    ):
        find_pythons(board)


def test_a_named_python_that_is_not_there_is_told(board: ThisMachine) -> None:
    """The name comes back clean."""
    with pytest.raises(DeviceError, match=r"has no Python at /nowhere/python \[31m: name another one with --python"):
        find_pythons(board, "/nowhere/python\x1b[31m")


def test_a_python_that_fails_is_passed_over(board: ThisMachine) -> None:
    """One that works further down the list is found."""
    _put(board, "python3", "echo rubbish; exit 3")
    (Path(board.path) / "python3.12").symlink_to(sys.executable)

    assert len(find_pythons(board).pythons) == 1


def test_a_python_that_hangs_is_told(board: ThisMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board whose disk is dying, for one."""
    (Path(board.path) / "sleep").symlink_to("/bin/sleep")
    _put(board, "python3", "exec sleep 60")
    monkeypatch.setattr("edgekit.devices.pythons.DEADLINE_S", 0.5)

    with pytest.raises(DeviceError, match=r"did not say which Python it has within 0\.5 s"):
        find_pythons(board)


def test_what_is_no_linux_is_told(board: ThisMachine) -> None:
    """A Mac answers to ssh as well."""
    (Path(board.path) / "uname").unlink()
    _put(board, "uname", "echo Darwin arm64")

    with pytest.raises(DeviceError, match="runs Darwin arm64, expected Linux"):
        find_pythons(board)


def test_what_has_no_shell_is_told_with_its_answer(board: ThisMachine) -> None:
    """A router's menu, for instance."""
    (Path(board.path) / "sh").unlink()
    _put(board, "sh", "")
    Path(board.path, "sh").write_text("#!/bin/false\n")

    with pytest.raises(DeviceError, match="does not run POSIX shell commands"):
        find_pythons(board)


@pytest.mark.parametrize(
    ("machine", "bits", "expected"),
    [
        ("aarch64", 64, "aarch64"),
        ("aarch64", 32, "armv7l"),  # a 64-bit kernel under a 32-bit Raspberry Pi OS
        ("armv8l", 32, "armv7l"),
        ("armv7l", 32, "armv7l"),
        ("armv6l", 32, "armv6l"),
        ("arm64", 64, "aarch64"),
        ("x86_64", 64, "x86_64"),
        ("x86_64", 32, "i686"),
    ],
)
def test_the_userland_s_architecture_counts_not_the_kernel_s(machine: str, bits: int, expected: str) -> None:
    """Wheels are chosen for the process, by the size of its pointers."""
    assert _python(machine=machine, bits=bits).architecture == expected


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": [3, 8, 10]}, "is Python 3.8.10, expected 3.9 or newer"),
        ({"version": [2, 7, 18], "implementation": ""}, "is Python 2.7.18"),
        ({"implementation": "pypy"}, "is pypy, and the runtimes have wheels for plain CPython"),
        ({"build": {"Py_GIL_DISABLED": "1"}}, "is a free-threaded build"),
        ({"build": {"SOABI": "cpython-312-aarch64-linux-musl"}, "libc": ""}, "uses musl (Alpine Linux)"),
        ({"machine": "armv6l", "bits": 32}, "armv6l (Raspberry Pi 1 or Zero)"),
        ({"machine": "armv7l", "bits": 32, "build": {"MULTIARCH": "arm-linux-gnueabi"}}, "soft-float"),
        ({"machine": "riscv64"}, "unknown architecture riscv64 (64 bits)"),
        ({"machine": "x86_64", "bits": 32}, "unknown architecture i686 (32 bits)"),
        ({"machine": None, "bits": "64"}, "unknown architecture not said (0 bits)"),
        ({"libc": ""}, "does not say which glibc"),
        ({"venv": False}, "sudo apt-get install python3.11-venv"),
        (
            {"version": [3, 13, 1], "machine": "aarch64", "bits": 32},
            "Python 3.13 on armv7l has no TFLite runtime wheel",
        ),
    ],
    ids=str,
)
def test_a_python_without_wheels_is_refused_by_its_reason(changes: dict[str, Any], told: str) -> None:
    """What is wrong, and what to use instead."""
    with pytest.raises(DeviceError) as caught:
        choose_python(parse_pythons(_said(**changes)))

    assert told in str(caught.value)


def test_the_first_python_with_wheels_is_taken() -> None:
    """A 32-bit trixie's own 3.13 has none; the 3.11 beside it does."""
    small = {"machine": "armv7l", "bits": 32}
    text = "\n".join(
        [
            _said(**small, version=[3, 13, 5]),
            _said(**small, version=[3, 11, 9], executable="/usr/local/bin/python3.11"),
            _said(**small, version=[3, 9, 2], executable="/usr/bin/python3.9"),
        ]
    )

    python, wheels = choose_python(parse_pythons(text))

    assert (python.executable, wheels.name) == ("/usr/local/bin/python3.11", "tflite")


def test_no_python_at_all_is_an_error_too() -> None:
    """Whoever passes an empty machine hears of it."""
    with pytest.raises(DeviceError, match="no Python was found"):
        choose_python(Machine(()))


@pytest.mark.parametrize(
    "text",
    [
        "edgekit-python",
        "edgekit-python null",
        "edgekit-python []",
        "edgekit-python {",
        "edgekit-python " + "[" * 3000,
        "edgekit-python " + json.dumps({**PI, "executable": "python3"}),
        "edgekit-python " + json.dumps({**PI, "executable": "/bin/\x1b[2Jpython"}),
        "edgekit-python " + json.dumps({**PI, "numpy": "1" * 5000}),
        "\n" * 500 + _said(),
        "motd: edgekit-python {}",
    ],
    ids=range(10),
)
def test_rubbish_is_no_python(text: str) -> None:
    """Lines that are too long, too late, or not what the script prints are passed over."""
    assert parse_pythons(text).pythons == ()


def test_rubbish_in_a_description_becomes_nothing() -> None:
    """Every field of the wrong kind has its empty value; text is printable."""
    found = _python(
        version=[3, "x", True], bits=-1, libc="glibc x.y", build="no", venv=1, numpy=["1"], machine="a\x1b[0mb"
    )

    assert found == BoardPython("/usr/bin/python3", implementation="cpython", machine="a [0mb")


def test_the_home_variable_reaches_the_script(board: ThisMachine) -> None:
    """``~`` is the board's home, not this host's."""
    assert os.environ.get("HOME") != str(board.home)
    with pytest.raises(DeviceError, match="has no Python at ~/mine"):
        find_pythons(board, "~/mine")
