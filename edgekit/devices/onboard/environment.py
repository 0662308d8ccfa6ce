"""A private environment on the board: wheels unpacked by hand, every file against its hash; pip is not needed."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile

from .files import CHUNK, SetupFailed, Task, file_digest, read_json, remove
from .home import MARKER

__all__ = ["check", "install_wheel", "is_reusable", "make_environment", "point_at", "remove_others", "site_packages"]

DEADLINE_S = 300.0
FULL = ("No space left", "Disk quota", "File too large")


def make_environment(folder: str, system_packages: bool) -> None:
    """A virtual environment of the Python that runs this, without pip."""
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    command = [sys.executable, "-m", "venv", "--without-pip", *(["--system-site-packages"] * system_packages), folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if done.returncode != 0:
        full = any(word in done.stdout + done.stderr for word in FULL)
        raise SetupFailed("disk" if full else "venv", said=(done.stderr or done.stdout)[-600:])
    for name in os.listdir(os.path.join(folder, "bin")):
        if name.lower().startswith("activate"):  # for people at a prompt; they would name this folder for ever
            os.remove(os.path.join(folder, "bin", name))


def site_packages(env: str) -> str:
    """Where an environment keeps its packages."""
    lib = os.path.join(env, "lib")
    found = [name for name in sorted(os.listdir(lib)) if name.startswith("python3")] if os.path.isdir(lib) else []
    return os.path.join(lib, found[0] if found else "python3", "site-packages")


def install_wheel(home: str, site: str, name: str, sha256: str) -> None:
    """Unpack the wheel from ``incoming``; one that was not sent is in the environment in use, and linked from there."""
    wheel = os.path.join(home, "incoming", name)
    if os.path.exists(wheel):
        _unpack(wheel, name, sha256, site)
        return
    source = site_packages(os.path.join(home, "env"))
    for path in _recorded(source, name):
        target = os.path.join(site, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            os.link(os.path.join(source, path), target)
        except OSError:  # a file system without hard links
            shutil.copy2(os.path.join(source, path), target)


def is_reusable(home: str, name: str, sha256: str) -> bool:
    """Whether the environment in use was made with this very wheel and has every file of it unchanged."""
    env = os.path.join(home, "env")
    if read_json(os.path.join(env, MARKER)).get("wheels", {}).get(name) != sha256:
        return False
    site = site_packages(env)
    try:
        recorded = _recorded(site, name)
        for path, expected in recorded.items():
            if expected and _as_recorded(file_digest(os.path.join(site, path))) != expected:
                return False
    except OSError:
        return False
    return bool(recorded)


def check(folder: str, runtimes: list[str]) -> Task:
    """Run edgekit-device of the environment with every runtime it should have; which versions it finds."""
    found: Task = {}
    command = [os.path.join(folder, "bin", "python"), "-I", "-m", "edgekit_device", "info", "--json", "--runtime"]
    environment = dict(os.environ, EDGEKIT_DEVICE_HOME="")
    for runtime in runtimes:
        try:
            done = subprocess.run(
                [*command, runtime],
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
                env=environment,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SetupFailed("broken", runtime=runtime, said=str(error), exit_code=0) from error
        try:
            found = dict(json.loads(done.stdout)["runtimes"])
        except (ValueError, KeyError, TypeError) as error:
            raise SetupFailed("broken", runtime=runtime, said=done.stderr[-1000:], exit_code=done.returncode) from error
    return {"runtimes": found}


def point_at(home: str, folder: str) -> None:
    """Make ``env`` a link to ``folder`` in one step."""
    link, aside = os.path.join(home, "env"), os.path.join(home, "env.new")
    remove(aside)
    os.symlink(os.path.relpath(folder, home), aside)
    os.replace(aside, link)


def remove_others(home: str, kept: str) -> None:
    """Remove every environment but ``kept``."""
    environments = os.path.join(home, "environments")
    for name in os.listdir(environments) if os.path.isdir(environments) else []:
        if os.path.realpath(os.path.join(environments, name)) != os.path.realpath(kept):
            remove(os.path.join(environments, name))


def _unpack(wheel: str, name: str, sha256: str, site: str) -> None:
    """Unpack into ``site``; scripts, headers and data files of the wheel are left out."""
    if file_digest(wheel).hex() != sha256:
        raise SetupFailed("damaged", wheel=name, why="it arrived changed")
    try:
        with zipfile.ZipFile(wheel) as archive:
            hashes = _checked_record(archive, name)
            for entry, expected in hashes.items():
                _unpack_file(archive, entry, expected, site, name)
    except (zipfile.BadZipFile, UnicodeDecodeError, EOFError, ValueError, FileExistsError) as error:
        raise SetupFailed("damaged", wheel=name, why=str(error)) from error


def _checked_record(archive: zipfile.ZipFile, wheel: str) -> dict[str, str]:
    """Every file of the archive and its hash; a file that RECORD does not know, or lacks, makes the wheel a damaged one."""
    names = {entry for entry in archive.namelist() if not entry.endswith("/")}
    records = [entry for entry in names if entry.endswith(".dist-info/RECORD") and entry.count("/") == 1]
    if len(records) != 1:
        raise SetupFailed("damaged", wheel=wheel, why=f"expected one RECORD in it, got {len(records)}")
    rows = [row for row in csv.reader(archive.read(records[0]).decode().splitlines()) if len(row) == 3]
    hashes = {row[0]: row[1] for row in rows}
    unknown = [entry for entry in names if entry not in records and not hashes.get(entry, "").startswith("sha256=")]
    odd = sorted(unknown) or sorted(set(hashes) - names)
    if odd:
        raise SetupFailed("damaged", wheel=wheel, why=f"{odd[0]} is not as its RECORD says")
    return hashes


def _unpack_file(archive: zipfile.ZipFile, entry: str, expected: str, site: str, wheel: str) -> None:
    parts = entry.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise SetupFailed("damaged", wheel=wheel, why=f"the unsafe name {entry}")
    if parts[0].endswith(".data"):
        if parts[1:2] not in (["purelib"], ["platlib"]):
            return
        parts = parts[2:]
    target = os.path.join(site, *parts)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    digest = hashlib.sha256()
    with archive.open(entry) as source, open(target, "xb") as file:
        for chunk in iter(lambda: source.read(CHUNK), b""):
            digest.update(chunk)
            file.write(chunk)
    if archive.getinfo(entry).external_attr >> 16 & 0o111:
        os.chmod(target, os.stat(target).st_mode | 0o111)  # noqa: S103  for those who may read it
    if expected and _as_recorded(digest.digest()) != expected:
        raise SetupFailed("damaged", wheel=wheel, why=f"{entry} is not as its RECORD says")


def _recorded(site: str, wheel: str) -> dict[str, str]:
    """The files of an installed wheel in ``site`` and their hashes; empty when it is not there whole."""
    info = "-".join(wheel.split("-")[:2]).lower() + ".dist-info"
    names = [name for name in os.listdir(site) if name.lower() == info] if os.path.isdir(site) else []
    if not names:
        return {}
    with open(os.path.join(site, names[0], "RECORD"), encoding="utf-8", newline="") as file:
        rows = {row[0]: row[1] for row in csv.reader(file) if len(row) == 3}
    strange = [path for path in rows if path.startswith("/") or ".." in path.split("/") or ".data/" in path]
    return {} if strange else rows


def _as_recorded(digest: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
