"""Files in a scratch folder of this machine: the part that local transports share."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ..errors import DeviceError

__all__ = ["ScratchFolder"]


class ScratchFolder:
    """A folder that stands for the device's work space; it exists until ``close``."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="edgekit-device-"))

    def put(self, local: Path, name: str) -> str:
        """Copy ``local`` into the scratch folder; returns the path there."""
        target = self.folder / Path(name).name
        try:
            shutil.copyfile(local, target)
        except OSError as error:
            raise DeviceError(f"cannot copy {local} to the device's work space: {error.strerror or error}") from error
        return str(target)

    def get(self, remote: str, local: Path) -> None:
        """Copy a file of the scratch folder to ``local``."""
        try:
            shutil.copyfile(self.folder / Path(remote).name, local)
        except OSError as error:
            raise DeviceError(f"the device did not write {Path(remote).name}: {error.strerror or error}") from error

    def close(self) -> None:
        """Remove the scratch folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
