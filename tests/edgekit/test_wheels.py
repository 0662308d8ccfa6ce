"""Which wheels a board gets, and how they come to this host."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from edgekit.devices.wheel_sets import SETUP_RUNTIMES, WHEEL_SETS, choose_wheels
from edgekit.devices.wheel_tags import Target, parse_wheel_name
from edgekit.devices.wheels import download_command, fetch_wheels, wheel_cache
from edgekit.errors import DeviceError, UsageError

from .board_wheels import write_wheel, write_wheels

BOOKWORM = (2, 36)
BULLSEYE = (2, 31)
NAMES = (
    "numpy-2.4.6-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
    "numpy-1.26.4-cp39-cp39-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "numpy-1.26.4-cp311-cp311-musllinux_1_1_aarch64.whl",
    "numpy-2.4.6-cp313-cp313t-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
    "protobuf-7.36.2-cp310-abi3-manylinux2014_aarch64.whl",
    "flatbuffers-25.12.19-py2.py3-none-any.whl",
    "tflite_runtime-2.14.0-cp39-cp39-manylinux_2_34_armv7l.whl",
    "tflite_runtime-2.13.0-cp39-cp39-manylinux2014_armv7l.whl",
    "old-1.0-1-cp39-cp39-manylinux1_x86_64.whl",
    "python2-1.0-py2-none-any.whl",
    "mac-1.0-cp311-cp311-macosx_11_0_arm64.whl",
    "pypy-1.0-pp311-pypy311_pp73-manylinux_2_27_aarch64.whl",
)
TARGETS = [
    Target((3, minor), architecture, glibc)
    for minor in (9, 11, 13)
    for architecture in ("aarch64", "armv7l", "x86_64")
    for glibc in (BULLSEYE, BOOKWORM, (2, 17))
]


def _usable_tags(target: Target) -> set[Tag]:
    """All tags that ``packaging`` lets such a board use."""
    legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    levels = range(target.glibc[1], 4, -1)
    platforms = [f"manylinux_2_{level}_{target.architecture}" for level in levels]
    platforms += [f"{name}_{target.architecture}" for level, name in legacy.items() if level in levels]
    return {
        *cpython_tags(target.python, platforms=platforms),
        *compatible_tags(target.python, interpreter=target.tag, platforms=platforms),
    }


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_a_wheel_fits_where_packaging_says_so(target: Target) -> None:
    """Python, ABI and platform tags are read as the reference implementation reads them."""
    usable = _usable_tags(target)

    for text in NAMES:
        name = parse_wheel_name(text)
        assert name is not None
        project, version, _, tags = parse_wheel_filename(text)
        assert (name.project, name.version) == (project, str(version))
        assert name.fits(target) == bool(tags & usable), text


@pytest.mark.parametrize("text", ["numpy.whl", "numpy-1.0.tar.gz", "a-b-c-d-e-f-g.whl", "-1-py3-none-any.whl", ""])
def test_what_is_no_wheel_has_no_parts(text: str) -> None:
    """Files that lie about are passed over."""
    assert parse_wheel_name(text) is None


# What the index has (November 2026): a row for each architecture, a runtime for each of Python 3.8 to 3.15.
FACTS = {
    ("aarch64", BOOKWORM): ["", "litert", "litert", "litert", "litert", "litert", "litert", ""],
    ("x86_64", BOOKWORM): ["", "litert", "litert", "litert", "litert", "litert", "litert", ""],
    ("armv7l", BOOKWORM): ["", "tflite", "tflite", "tflite", "", "", "", ""],
    ("aarch64", BULLSEYE): ["", "litert", "litert", "litert", "litert", "litert", "litert", ""],
    ("armv7l", BULLSEYE): ["", "tflite", "tflite", "", "", "", "", ""],
    ("aarch64", (2, 24)): ["", "tflite", "tflite", "", "", "", "", ""],
    ("riscv64", BOOKWORM): [""] * 8,
}


@pytest.mark.parametrize(("place", "expected"), FACTS.items(), ids=str)
def test_the_runtime_is_chosen_by_architecture_python_and_glibc(
    place: tuple[str, tuple[int, int]], expected: list[str]
) -> None:
    """LiteRT wherever it has wheels, tflite-runtime on what is left, an error on the rest."""
    chosen = []
    for minor in range(8, 16):
        try:
            chosen.append(choose_wheels(Target((3, minor), *place)).name)
        except DeviceError:
            chosen.append("")

    assert chosen == expected


@pytest.mark.parametrize(
    ("target", "runtime", "told"),
    [
        (Target((3, 13), "armv7l", BOOKWORM), "auto", "use Python 3.11 (Raspberry Pi OS bookworm)"),
        (Target((3, 13), "armv7l", BOOKWORM), "auto", "or a 64-bit system"),
        (Target((3, 13), "aarch64", BOOKWORM), "tflite", "leave --runtime out"),
        (Target((3, 11), "armv7l", BOOKWORM), "litert", "Use --runtime tflite, or a 64-bit system"),
        (Target((3, 11), "armv7l", BULLSEYE), "auto", "expected 2.34 or newer"),
        (Target((3, 11), "x86_64", (2, 17)), "litert", "expected 2.27 or newer"),
        (Target((3, 12), "aarch64", BOOKWORM), "both", "use Python 3.11"),
        (Target((3, 15), "aarch64", BOOKWORM), "auto", "3.9 to 3.14"),
    ],
    ids=str,
)
def test_where_no_wheel_is_to_be_had_the_message_says_what_would_work(target: Target, runtime: str, told: str) -> None:
    """It names the Python and the architecture there are, and those that would do."""
    with pytest.raises(DeviceError) as caught:
        choose_wheels(target, runtime)

    assert told in str(caught.value)
    assert f"Python 3.{target.python[1]} on {target.architecture}" in str(caught.value)


def test_an_unknown_runtime_is_an_error_with_the_known_ones() -> None:
    """A misspelt runtime does not become another."""
    with pytest.raises(UsageError, match=r"did you mean 'litert'.*auto, both, litert, tflite"):
        choose_wheels(TARGETS[0], "lite-rt")


def test_every_runtime_asked_for_is_in_the_table() -> None:
    """The names a user can type are those of the sets, and ``auto``."""
    assert {item.name for item in WHEEL_SETS} | {"auto"} == set(SETUP_RUNTIMES)


def test_numpy_below_2_goes_with_tflite_runtime_always() -> None:
    """Its extension modules were built against numpy 1."""
    for item in WHEEL_SETS:
        numpy = next(pin for pin in item.requirements if pin.startswith("numpy=="))
        assert numpy.startswith("numpy==1.") == ("tflite" in item.runtimes)


def test_32_bit_arm_takes_numpy_from_the_board() -> None:
    """PyPI has no numpy wheel for armv7l; all else is pinned."""
    target = Target((3, 11), "armv7l", BOOKWORM)
    chosen = choose_wheels(target)

    assert chosen.pinned(target) == ("tflite-runtime==2.14.0",)
    assert chosen.from_board(target) == ("numpy==1.26.4",)
    assert choose_wheels(Target((3, 11), "aarch64", BOOKWORM), "tflite").from_board(target) == ("numpy==1.26.4",)
    assert choose_wheels(target).from_board(Target((3, 11), "aarch64", BOOKWORM)) == ()


@pytest.fixture
def target() -> Target:
    """A Raspberry Pi 5 with bookworm."""
    return Target((3, 11), "aarch64", BOOKWORM)


@pytest.fixture
def folder(tmp_path: Path, target: Target) -> Path:
    """A folder with all wheels such a board needs."""
    path = tmp_path / "wheels"
    path.mkdir()
    write_wheels(path, choose_wheels(target), target, tmp_path)
    return path


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No index answers, and edgekit's home is empty."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "home"))


@pytest.mark.usefixtures("offline")
def test_a_folder_with_all_wheels_needs_no_network(folder: Path, target: Target) -> None:
    """What is taken is exactly what is pinned, from there."""
    found = fetch_wheels(choose_wheels(target), target, folder)

    assert sorted(found) == sorted(folder.glob("*.whl"))
    assert len(found) == len(choose_wheels(target).requirements)


@pytest.mark.usefixtures("offline")
def test_a_folder_that_lacks_wheels_is_told_which_and_how_to_get_them(folder: Path, target: Target) -> None:
    """Both are named with their versions, and the line fetches those alone, for that board, into that folder."""
    next(folder.glob("numpy-*")).unlink()
    tqdm = next(folder.glob("tqdm-*"))
    tqdm.rename(folder / tqdm.name.replace("aarch64", "x86_64"))  # there, and of no use

    with pytest.raises(UsageError) as caught:
        fetch_wheels(choose_wheels(target), target, folder)

    message = str(caught.value)
    line = shlex.split(message.partition("internet: ")[2])
    assert "lacks 2 of the 8 wheels for Python 3.11 on aarch64" in message
    assert line[1:] == download_command(["tqdm==4.70.1", "numpy==2.4.6"], target, folder)[1:]


def test_a_wheels_folder_that_is_none_is_told(tmp_path: Path, target: Target) -> None:
    """A file is no folder."""
    with pytest.raises(UsageError, match="expected --wheels as a folder"):
        fetch_wheels(choose_wheels(target), target, tmp_path / "nothing")


def test_the_host_s_pip_fills_the_cache_once(
    folder: Path, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real pip takes the pinned wheels, of whatever source its configuration names; the second time nothing is fetched."""
    monkeypatch.setenv("EDGEKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    killed = wheel_cache(target) / ".incoming-killed"
    killed.mkdir(parents=True)
    os.utime(killed, (1e9, 1e9))

    first = fetch_wheels(choose_wheels(target), target)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "gone"))

    assert {path.parent for path in first} == {wheel_cache(target)}
    assert {path.name: path.read_bytes() for path in first} == {
        path.name: path.read_bytes() for path in folder.glob("*.whl")
    }
    assert fetch_wheels(choose_wheels(target), target) == first
    assert [path for path in wheel_cache(target).iterdir() if path.suffix != ".whl"] == []


@pytest.mark.usefixtures("offline")
def test_a_host_without_internet_is_told_the_other_way(target: Target) -> None:
    """The message ends with the line to run elsewhere, and names the option that takes the result."""
    with pytest.raises(
        DeviceError,
        match=r"pip cannot fetch.*no package index answers.*--wheels: python3 -m pip.*.*numpy==2\.4\.6",
    ):
        fetch_wheels(choose_wheels(target), target)


@pytest.mark.usefixtures("offline")
def test_a_host_without_pip_is_told_how_to_get_it(
    target: Target, device_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment that some tools make has none."""
    monkeypatch.setattr(sys, "executable", str(device_python))

    with pytest.raises(DeviceError, match=r"has no pip.*-m ensurepip"):
        fetch_wheels(choose_wheels(target), target)


def test_a_cache_that_cannot_be_written_is_told(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what moves it."""
    monkeypatch.setenv("EDGEKIT_HOME", "/dev/null/here")

    with pytest.raises(DeviceError, match=r"cannot keep wheels in /dev/null/here.*Name another place: EDGEKIT_HOME"):
        fetch_wheels(choose_wheels(target), target)


@pytest.mark.usefixtures("offline")
def test_a_download_that_takes_too_long_is_ended(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror that says nothing holds nobody up for ever."""
    monkeypatch.setattr("edgekit.devices.wheels.DEADLINE_S", 0.01)

    with pytest.raises(DeviceError, match=r"pip did not fetch the board's wheels within 0\.01 s"):
        fetch_wheels(choose_wheels(target), target)


@pytest.mark.usefixtures("offline")
def test_a_download_that_brings_nothing_is_told(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should pip ever think another wheel fits than we do."""
    monkeypatch.setattr("edgekit.devices.wheels._run_pip", lambda command, offline: None)

    with pytest.raises(
        DeviceError, match=r"pip fetched no wheel of ai-edge-litert==2\.3\.0 for Python 3\.11 on aarch64"
    ):
        fetch_wheels(choose_wheels(target), target)


def test_a_wheel_that_was_cut_off_is_found_before_it_is_sent(folder: Path, target: Target) -> None:
    """Half a wheel is no ZIP file."""
    numpy = next(folder.glob("numpy-*"))
    numpy.write_bytes(numpy.read_bytes()[:100])

    with pytest.raises(DeviceError, match=r"numpy-2\.4\.6.*is no whole wheel: remove it"):
        fetch_wheels(choose_wheels(target), target, folder)


def test_a_wheel_without_record_is_no_whole_one(folder: Path, target: Target) -> None:
    """Nothing could be checked on the board."""
    tqdm = next(folder.glob("tqdm-*"))
    write_wheel(folder, tqdm.stem, {"tqdm.py": b""}, record=False)

    with pytest.raises(DeviceError, match="is no whole wheel"):
        fetch_wheels(choose_wheels(target), target, folder)


@pytest.mark.parametrize(
    ("numpy", "taken"),
    [("1.24.2", True), ("1.26.4", True), ("2.0.0", False), ("1.19.5", False)],
)
def test_a_numpy_from_piwheels_is_taken_from_the_folder(tmp_path: Path, numpy: str, taken: bool) -> None:
    """Any that edgekit-device and tflite-runtime can both be used with."""
    target = Target((3, 11), "armv7l", BOOKWORM)
    write_wheel(tmp_path, "tflite_runtime-2.14.0-cp311-cp311-manylinux_2_34_armv7l", {})
    name = f"numpy-{numpy}-cp311-cp311-linux_armv7l"
    write_wheel(tmp_path, name, {})

    found = [path.stem for path in fetch_wheels(choose_wheels(target), target, tmp_path)]

    assert (name in found) == taken
    assert len(found) == 1 + taken


@pytest.mark.index
@pytest.mark.parametrize("target", [t for t in TARGETS if t.glibc in (BOOKWORM, BULLSEYE)], ids=str)
@pytest.mark.parametrize("runtime", ["litert", "tflite", "both"])
def test_the_index_has_every_wheel_of_the_table(target: Target, runtime: str, tmp_path: Path) -> None:
    """Real pip finds each pinned version for each board."""
    try:
        chosen = choose_wheels(target, runtime)
    except DeviceError:
        return
    command = download_command(chosen.pinned(target), target, tmp_path)
    done = subprocess.run([*command, "-q"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert len(fetch_wheels(chosen, target, tmp_path)) == len(chosen.pinned(target))


@pytest.mark.index
@pytest.mark.parametrize("target", [t for t in TARGETS if t.architecture != "armv7l" and t.glibc == BOOKWORM], ids=str)
@pytest.mark.parametrize("runtime", ["litert", "tflite", "both"])
def test_the_pins_are_all_that_is_required(target: Target, runtime: str, tmp_path: Path) -> None:
    """Resolving the pins with their dependencies adds no project and changes no version."""
    try:
        chosen = choose_wheels(target, runtime)
    except DeviceError:
        return
    command = [item for item in download_command(chosen.pinned(target), target, tmp_path) if item != "--no-deps"]
    done = subprocess.run([*command, "-q"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*.whl"))) == len(chosen.pinned(target))
