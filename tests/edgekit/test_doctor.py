"""What doctor says of a machine where something is missing."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from edgekit import doctor
from edgekit.devices.local import PYTHON_VARIABLE
from tests.conftest import Cli


def test_everything_is_here(device_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment that scripts/install builds, with the version of each."""
    monkeypatch.setenv(PYTHON_VARIABLE, str(device_python))
    checks = {check.name: check for check in doctor.examine()}

    assert all(check.ok for check in checks.values())
    assert checks["numpy"].found == metadata.version("numpy")
    assert str(device_python) in checks["local device"].found


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
    assert [c["name"] for c in json.loads(as_json.stdout)["checks"] if not c["ok"] and c["name"] != "local device"] == [
        name
    ]


@pytest.mark.parametrize(
    "code", ["import sys; sys.exit(1)", "print('rubbish')", "print('[]')", "print('{\"runtimes\": 1}')"]
)
def test_a_device_that_does_not_answer_is_said(fake_python, monkeypatch: pytest.MonkeyPatch, code: str) -> None:  # type: ignore[no-untyped-def]
    """Without stopping the examination."""
    monkeypatch.setenv(PYTHON_VARIABLE, fake_python(code))
    check = doctor.examine()[-1]

    assert not check.ok
    assert "EDGEKIT_DEVICE_PYTHON" in check.fix
