"""Who may import whom: the arrows of docs/architecture.md, held against every import in the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "edgekit": ROOT / "edgekit",
    "edgekit_converters": ROOT / "converters" / "edgekit_converters",
    "edgekit_device": ROOT / "device" / "edgekit_device",
}
ARROWS = {
    "edgekit": {"edgekit", "edgekit_converters", "edgekit_device"},
    "edgekit_converters": {"edgekit_converters"},
    "edgekit_device": {"edgekit_device"},
}
TENSORFLOW = {"tensorflow", "keras", "tf_keras", "tensorflow_model_optimization"}
RUNTIMES = {"ai_edge_litert", "tflite_runtime"}
MODULES = [(name, path) for name, folder in PACKAGES.items() for path in sorted(folder.rglob("*.py"))]


def _imports(path: Path) -> Iterator[str]:
    """The absolute modules a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def _id(value: object) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


@pytest.mark.parametrize(("package", "path"), MODULES, ids=_id)
def test_a_package_imports_only_those_its_arrows_point_to(package: str, path: Path) -> None:
    """edgekit may import the other two; they import neither it nor each other."""
    ours = {name.split(".")[0] for name in _imports(path)} & set(PACKAGES)

    assert ours <= ARROWS[package]


@pytest.mark.parametrize(("package", "path"), MODULES, ids=_id)
def test_tensorflow_is_imported_by_the_converters_alone(package: str, path: Path) -> None:
    """TensorFlow and the Kerases come in through edgekit_converters._tf; one module takes TFLite's private quantizer."""
    found = {name.split(".")[0] for name in _imports(path)} & TENSORFLOW
    allowed = package == "edgekit_converters" and path.name in ("_tf.py", "quantize_mlir.py")

    assert allowed or not found


@pytest.mark.parametrize(("package", "path"), [item for item in MODULES if item[0] == "edgekit_device"], ids=_id)
def test_the_device_package_needs_numpy_and_the_standard_library_alone(package: str, path: Path) -> None:
    """A runtime is imported by name in _runtime.py, and nowhere else."""
    import sys

    roots = {name.split(".")[0] for name in _imports(path)}

    assert roots <= set(sys.stdlib_module_names) | {"numpy", "edgekit_device"}


def test_print_is_the_command_line_s_alone() -> None:
    """Libraries log; only the cli modules, and the device's supervisor of its cli, print."""
    printing = {
        path.relative_to(ROOT).as_posix()
        for _, path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }

    assert {name for name in printing if "/cli" not in name} <= {"device/edgekit_device/supervise.py"}


def test_nothing_evaluates_data_or_starts_a_shell() -> None:
    """No eval, exec, pickle or shell=True anywhere in the packages."""
    for _, path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        shells = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "shell"]

        assert not names & {"eval", "exec"}, path
        assert not shells, path
        assert not {"pickle", "marshal", "dill", "joblib"} & {name.split(".")[0] for name in _imports(path)}, path
