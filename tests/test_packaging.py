"""What is built, what it holds and what it costs to import."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import build_wheels

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture(scope="session")
def wheels(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both wheels, built as scripts/build builds them."""
    folder = tmp_path_factory.mktemp("wheels")
    build_wheels(folder, root, root / "device")
    return {path.name.split("-")[0]: path for path in folder.glob("*.whl")}


def test_the_host_wheel_holds_both_packages_and_their_data(wheels: dict[str, Path]) -> None:
    """Recipes, the report's template and the type markers travel; tests and the device package do not."""
    names = set(zipfile.ZipFile(wheels["edgekit"]).namelist())

    assert {
        "edgekit/recipes/int8.toml",
        "edgekit/render/report.html.j2",
        "edgekit/devices/find_pythons.sh",
        "edgekit/py.typed",
        "edgekit_converters/py.typed",
        "edgekit_converters/quantize.py",
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "edgekit_device/", "device/", "scripts/"))]


def test_the_device_wheel_is_small_and_alone(wheels: dict[str, Path]) -> None:
    """Under 200 KB, pure Python, numpy its one dependency beside the runtime extras."""
    wheel = wheels["edgekit_device"]
    with zipfile.ZipFile(wheel) as archive:
        metadata_name = next(name for name in archive.namelist() if name.endswith("METADATA"))
        metadata = archive.read(metadata_name).decode()
        tops = {name.split("/")[0] for name in archive.namelist()}

    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert wheel.stat().st_size < 200_000
    assert wheel.name.endswith("-py3-none-any.whl")
    assert required == ["Requires-Dist: numpy>=1.23"]
    assert tops == {"edgekit_device", metadata_name.split("/")[0]}
    assert "Requires-Python: >=3.9" in metadata


def test_the_device_environment_holds_only_the_wheel_numpy_and_a_runtime(device_python: Path) -> None:
    """No TensorFlow, no edgekit, not even pip: what the runtime itself requires is the rest."""
    listing = "import importlib.metadata as m; print(*sorted(d.name.lower() for d in m.distributions()))"
    done = subprocess.run([device_python, "-c", listing], capture_output=True, text=True, check=True, cwd="/")
    required_by_litert = {"backports.strenum", "flatbuffers", "ml_dtypes", "protobuf", "tqdm", "typing_extensions"}

    assert set(done.stdout.split()) - required_by_litert == {"ai-edge-litert", "edgekit-device", "numpy"}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import edgekit", ("numpy", "click", "rich", "jinja2", "tensorflow", "ai_edge_litert", "PIL", "sklearn")),
        ("import edgekit; edgekit.convert", ("tensorflow", "keras", "ai_edge_litert", "rich", "jinja2", "sklearn")),
        (
            "import edgekit_converters",
            ("tensorflow", "keras", "tf_keras", "ai_edge_litert", "ai_edge_quantizer", "h5py"),
        ),
        ("import edgekit_device", ("tensorflow", "ai_edge_litert", "tflite_runtime")),
        ("import edgekit.cli", ("numpy", "rich", "jinja2", "tensorflow", "ai_edge_litert")),
    ],
)
def test_importing_loads_nothing_heavy(statement: str, absent: tuple[str, ...]) -> None:
    """A clean interpreter proves what an import does not bring in."""
    code = f"import sys\n{statement}\nprint(*[name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


@pytest.mark.parametrize("name", ["edgekit", "edgekit_converters", "edgekit_device"])
def test_every_public_name_is_there(name: str) -> None:
    """``__all__`` is sorted, without doubles, and every name in it can be had."""
    code = f"import {name} as m; print([n for n in m.__all__ if getattr(m, n, None) is None], m.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = re.findall(r"'(\w+)'", done.stdout)

    assert done.stdout.startswith("[] ")
    assert len(names) == len(set(names)) > 0


def test_the_versions_agree(root: Path) -> None:
    """The two distributions are released together, and the packages say the same."""
    host = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    device = tomllib.loads((root / "device" / "pyproject.toml").read_text())["project"]["version"]

    assert host == device
    for path in ("edgekit/__init__.py", "device/edgekit_device/__init__.py"):
        assert f'__version__ = "{host}"' in (root / path).read_text()
    assert f"## {host}" in (root / "CHANGELOG.md").read_text()


def test_constraints_name_no_index_and_pin_every_dependency(root: Path) -> None:
    """Exact versions only, no host, and nothing we depend on left unpinned."""
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    names = {re.split(r"[<>=\[; ]", item)[0].lower() for item in wanted} - {"edgekit-device"}

    assert all(re.fullmatch(r"[\w.\-]+==[\w.]+(; python_version .+)?", line) for line in lines)
    assert names <= pinned
