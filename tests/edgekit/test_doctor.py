"""What doctor says of a machine where something is missing."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from edgekit import doctor
from edgekit.devices.local import PYTHON_VARIABLE
from tests.conftest import Cli


@pytest.fixture(autouse=True)
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that says it is Coral's compiler, in its place."""
    program = tmp_path / "edgetpu_compiler"
    program.write_text("#!/bin/sh\necho 'Edge TPU Compiler version 16.0.384591198'\n")
    program.chmod(0o755)
    monkeypatch.setenv("EDGEKIT_EDGETPU_COMPILER", str(program))
    return program


def test_everything_is_here(device_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment that scripts/install builds, with the version of each."""
    monkeypatch.setenv(PYTHON_VARIABLE, str(device_python))
    checks = {check.name: check for check in doctor.examine()}

    assert all(check.ok for check in checks.values())
    assert checks["numpy"].found == metadata.version("numpy")
    assert str(device_python) in checks["local device"].found
    assert checks["edgetpu_compiler"].found.startswith("16.0.384591198 (")


def test_a_compiler_that_is_not_there_or_is_none_is_said(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the user's to install: the row says what was found, and where the page is."""
    compiler.write_text("#!/bin/sh\nexit 1\n")
    broken = next(check for check in doctor.examine() if check.name == "edgetpu_compiler")
    monkeypatch.delenv("EDGEKIT_EDGETPU_COMPILER")
    monkeypatch.setenv("PATH", "/nowhere")
    missing = next(check for check in doctor.examine() if check.name == "edgetpu_compiler")

    assert [(check.ok, check.required) for check in (broken, missing)] == [(False, False)] * 2
    assert "ended with exit code 1" in broken.found
    assert missing.found.startswith("no edgetpu_compiler is installed here")
    assert all("docs/edgetpu-compile.md" in check.fix and "\n" not in check.found for check in (broken, missing))


@pytest.mark.parametrize("name", [facts[0] for facts in doctor.PACKAGES])
def test_a_missing_package_comes_with_its_install_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever it is."""
    real = metadata.version

    def version(asked: str) -> str:
        if asked == name:
            raise metadata.PackageNotFoundError(asked)
        return real(asked)

    monkeypatch.setattr(doctor, "_device", lambda: doctor.Check("local device", True, False, "", "", ""))
    monkeypatch.setattr(metadata, "version", version)
    missing = [check for check in doctor.examine() if not check.ok]

    assert [check.name for check in missing] == [name]
    assert missing[0].fix.startswith("pip install ")


@pytest.mark.parametrize(
    ("hidden", "name", "line"),
    [
        ("numpy", "numpy", "pip install numpy"),
        ("tensorflow", "tensorflow", 'pip install "edgekit[keras]"'),
        ("edgekit_device", "edgekit-device", "pip install edgekit-device"),
    ],
)
def test_doctor_works_where_others_do_not(edgekit_cli: Cli, tmp_path: Path, hidden: str, name: str, line: str) -> None:
    """With a package hidden from imports and from the metadata, the command still answers."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nfrom importlib import metadata\n"
        "class Hidden:\n    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] == {hidden!r}: raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "real = metadata.version\n"
        "def version(asked):\n"
        f"    if asked == {name!r}: raise metadata.PackageNotFoundError(asked)\n"
        "    return real(asked)\n"
        "metadata.version = version\n"
    )
    done = edgekit_cli("doctor", env={"PYTHONPATH": str(tmp_path)})
    as_json = edgekit_cli("doctor", "--json", env={"PYTHONPATH": str(tmp_path)})

    assert done.returncode == (0 if name == "tensorflow" else 3)
    assert "Traceback" not in done.stderr
    assert line in done.stdout
    programs = ("local device", "edgetpu_compiler")  # are asked by what needs packages too
    checks = json.loads(as_json.stdout)["checks"]
    assert [c["name"] for c in checks if not c["ok"] and c["name"] not in programs] == [name]


@pytest.mark.parametrize(
    "code", ["import sys; sys.exit(1)", "print('rubbish')", "print('[]')", "print('{\"runtimes\": 1}')"]
)
def test_a_device_that_does_not_answer_is_said(fake_python, monkeypatch: pytest.MonkeyPatch, code: str) -> None:  # type: ignore[no-untyped-def]
    """Without stopping the examination."""
    monkeypatch.setenv(PYTHON_VARIABLE, fake_python(code))
    check = doctor.examine()[-1]

    assert not check.ok
    assert "EDGEKIT_DEVICE_PYTHON" in check.fix
