"""Small wheels under the names of large ones: setups that take a second, of which everything but the content is real.

The runtime's has an interpreter by name alone; the one of numpy may show the environment the packages of another.
"""

from __future__ import annotations

import base64
import hashlib
import sysconfig
import zipfile
from pathlib import Path

from edgekit.devices.wheel_sets import WheelSet
from edgekit.devices.wheel_tags import Target


def this_target() -> Target:
    """What wheels this machine's own Python needs, as its tests see it."""
    import os
    import platform
    import sys

    glibc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    major, minor = glibc.split()[1].split(".")[:2]
    assert sysconfig.get_config_var("SOABI")
    return Target((3, sys.version_info[1]), platform.machine(), (int(major), int(minor)))


def write_wheel(folder: Path, name: str, files: dict[str, bytes], *, record: bool = True) -> Path:
    """A wheel called ``name`` (without .whl) of ``files``; its RECORD is complete unless ``record`` is false."""
    project, version = name.split("-")[:2]
    info = f"{project}-{version}.dist-info"
    whole = {**files, f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n".encode()}
    whole[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    rows = [f"{path},sha256={_digest(content)},{len(content)}" for path, content in whole.items()]
    path = folder / f"{name}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in whole.items():
            archive.writestr(entry, content)
        if record:
            archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,", ""]))
    return path


def write_wheels(
    folder: Path, wheel_set: WheelSet, target: Target, shown: Path | None = None, *, runtime: bool = False
) -> None:
    """The small wheels of ``wheel_set``; ``shown`` is a site-packages folder that the one of numpy makes visible,
    with ``runtime`` the real runtime there too."""
    for requirement in wheel_set.requirements:
        project, version = requirement.replace(".strenum", "_strenum").split("==")
        project = project.replace("-", "_")
        files = {f"{project}_is_here.txt": version.encode()}
        if project == "numpy" and shown:
            files["shown.pth"] = f"{shown}\n".encode()
        if project == "ai_edge_litert" and not runtime:
            files["ai_edge_litert/interpreter.py"] = b"class Interpreter: ...\n"
        if project == "tflite_runtime" and not runtime:
            files["tflite_runtime/interpreter.py"] = b"class Interpreter: ...\n"
        write_wheel(folder, f"{project}-{version}-{target.tag}-{target.tag}-manylinux2014_{target.architecture}", files)


STAND_IN = b"""import importlib, json, os, sys
MODULES = {"litert": "ai_edge_litert", "tflite": "tflite_runtime"}
def main(arguments):
    if "--version" in arguments:
        return print("edgekit-device stand-in")
    if "--runtime" in arguments:
        importlib.import_module(MODULES[arguments[arguments.index("--runtime") + 1]] + ".interpreter")
    site = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    print(json.dumps({"runtimes": {k: "1" for k, v in MODULES.items() if os.path.isdir(os.path.join(site, v))}}))
main(sys.argv[1:])
"""


def write_stand_in(folder: Path, version: str) -> Path:
    """A wheel in place of edgekit-device's: it says which runtimes are there, and loads the one it is told, without numpy."""
    files = {
        "edgekit_device/__init__.py": b"",
        "edgekit_device/__main__.py": STAND_IN,
        "edgekit_device/large": bytes(20_000),
    }
    return write_wheel(folder, f"edgekit_device-{version}-py3-none-any", files)


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
