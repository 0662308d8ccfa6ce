"""A wheel of the very edgekit_device this host imports: board and host always have one version, and no index is needed."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib import metadata
from pathlib import Path

import edgekit_device

__all__ = ["PROJECT", "device_version", "write_device_wheel"]

PROJECT = "edgekit-device"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date a ZIP can hold: the same files make the same bytes
FILE_MODE = 0o100644
WHEEL = "Wheel-Version: 1.0\nGenerator: edgekit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
ENTRY_POINTS = "[console_scripts]\nedgekit-device = edgekit_device.cli:run\n"


def device_version() -> str:
    """The version of the edgekit_device that is imported here."""
    return edgekit_device.__version__


def write_device_wheel(folder: Path) -> Path:
    """Write ``edgekit_device-VERSION-py3-none-any.whl`` into ``folder`` and return its path.

    The bytes depend on the package's files and its metadata alone, not on the host's clock, file order or zlib.
    """
    package = Path(edgekit_device.__file__).parent
    version = device_version()
    info = f"edgekit_device-{version}.dist-info"
    files = {f"edgekit_device/{name}": content for name, content in _sources(package).items()}
    files |= {
        f"{info}/METADATA": _metadata(version).encode(),
        f"{info}/WHEEL": WHEEL.encode(),
        f"{info}/entry_points.txt": ENTRY_POINTS.encode(),
    }
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD").encode()
    path = folder / f"edgekit_device-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # zlib's bytes differ from build to build
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = FILE_MODE << 16
            archive.writestr(entry, content)
    return path


def _sources(package: Path) -> dict[str, bytes]:
    paths = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    kept = [path for path in paths if path.suffix != ".pyc" and not path.name.startswith(".")]
    return {path.relative_to(package).as_posix(): path.read_bytes() for path in sorted(kept)}


def _metadata(version: str) -> str:
    """What the installed distribution says of itself; the least that is valid where the package runs from its source."""
    try:
        distribution = metadata.distribution(PROJECT)
    except metadata.PackageNotFoundError:
        distribution = None
    text = distribution.read_text("METADATA") if distribution and distribution.version == version else None
    return text or (
        f"Metadata-Version: 2.1\nName: {PROJECT}\nVersion: {version}\nRequires-Python: >=3.9\nRequires-Dist: numpy>=1.23\n"
    )


def _record(files: dict[str, bytes], own_name: str) -> str:
    rows = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in files.items()]
    return "\n".join([*rows, f"{own_name},,", ""])


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
