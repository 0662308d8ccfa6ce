"""The run folder: variants, evaluations and reports as files that are whole or absent.

run.json             what this folder is, and its id
model.keras          the trained model, where edgekit trained one
float.tflite         the one float model that every precision is made from
variants/NAME.tflite, variants/NAME.json
models/NAME.keras, models/NAME.tflite   Keras models that a recipe's steps changed, and their float exports
recipes/NAME.toml    the recipe of a variant, whole: convert --recipe makes it again
checkpoints/         of compressions that are not finished; techniques that recipes begin with alike are shared
budget.json          the search for a variant that keeps its accuracy
evaluations/NAME.json   reports/NAME.json   parity/NAME.json
targets/TARGET/NAME.json   what a target makes of a variant; targets/TARGET/NAME/ what was compiled for it
history/ID.json      every report that ever came, also those that another has replaced in reports/
report.json, report.md, report.html
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgekit_device import BenchmarkReport, ReportError
from edgekit_device.outbox import is_report_id

from .errors import StoreError, UsageError, suggest
from .plain import is_file_name, plain_json
from .records import Evaluation, Parity, Variant, from_dict, to_dict

if TYPE_CHECKING:
    from edgekit_converters.targets.records import TargetReport

__all__ = ["FLOAT_FILE", "RunStore", "file_sha256", "is_run", "now", "read_json_file", "write_atomically"]

FORMAT = 1
FLOAT_FILE = "float.tflite"
FOLDERS = ("variants", "evaluations", "reports", "parity", "models", "recipes", "history")
CHECKPOINTS = "checkpoints"
TARGETS = "targets"
ASIDE_SUFFIX = ".part"
JSON_CAP_BYTES = 64 * 1024 * 1024
Record = TypeVar("Record", Variant, Evaluation, Parity)


class RunStore:
    """A run folder on disk. Raises UsageError for a foreign folder, StoreError when it cannot be read or written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: str | os.PathLike[str]) -> RunStore:
        """Open the run at ``folder``, making it when there is nothing; a folder that holds something else is refused."""
        path = Path(folder)
        store = cls(path)
        try:
            if path.exists() and not path.is_dir():
                raise UsageError(f"expected a folder for the run, got a file: {path}. Choose another --out")
            known = is_run(path)
            if not known and path.is_dir() and not _is_vacant(path):
                raise UsageError(
                    f"{path} holds files that are no edgekit run. Choose another --out, or an empty folder"
                )
            for sub in FOLDERS:
                (path / sub).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _store_error("make the run folder", path, error) from error
        if not known:
            store.write_json("run.json", {"kind": "edgekit-run", "format": FORMAT, "created": now(), "id": _new_id()})
        _note_place(store)
        return store

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> RunStore:
        """Open an existing run; raises UsageError when it is not one."""
        path = Path(folder)
        if not is_run(path):
            raise UsageError(
                f"expected a run folder (one with run.json), got {path}. Make one: edgekit convert … --out {path}"
            )
        return cls(path)

    def run_id(self) -> str:
        """What a board's report is told to belong to; a run made before there were ids gets one now."""
        facts = self.read_facts("run.json")
        known = facts.get("id")
        if isinstance(known, str) and known:
            return known
        made = _new_id()
        self.write_json("run.json", {**facts, "id": made})
        return made

    # -- variants -----------------------------------------------------------------------------------------------

    def variant_path(self, name: str) -> Path:
        """Where the ``.tflite`` of a variant is."""
        return self.folder / "variants" / f"{name}.tflite"

    def save_variant(self, variant: Variant, tflite: bytes) -> Variant:
        """Keep a variant; the record is written last, so that it always speaks of a whole file."""
        placed = replace(variant, path=f"variants/{variant.name}.tflite")
        write_atomically(self.variant_path(variant.name), tflite)
        self.write_json(f"variants/{variant.name}.json", to_dict(placed))
        return self._absolute(placed)

    def save_run_with(self, name: str, device: str, facts: dict[str, Any]) -> None:
        """Remember in the record of a variant how it runs fastest on ``device``; a variant that is gone is left alone."""
        record = self._read(f"variants/{name}.json", Variant)
        if record is not None:
            tuned = replace(record, run_with={**record.run_with, device: facts})
            self.write_json(f"variants/{name}.json", to_dict(tuned))

    def variants(self, names: Iterable[str] = ()) -> list[Variant]:
        """The variants ``names``, or all whose file is whole, largest first.

        Raises UsageError for an unknown name, and when there is none at all.
        """
        found = [self.variant(path.stem) for path in (self.folder / "variants").glob("*.json")]
        whole = {item.name: item for item in found if item is not None}
        if not whole:
            raise UsageError(f"{self.folder} has no variants. Make some: edgekit convert MODEL --out {self.folder}")
        wanted = tuple(names)
        for name in wanted:
            if name not in whole:
                raise UsageError(f"{self.folder} has no variant {name!r}{suggest(name, whole)}")
        ordered = sorted(whole.values(), key=lambda item: (-item.size_bytes, item.name))
        return [item for item in ordered if not wanted or item.name in wanted]

    def variant(self, name: str) -> Variant | None:
        """A variant, or None when there is none, or its record or its file is not what was written."""
        record = self._read(f"variants/{name}.json", Variant)
        path = self.variant_path(name)
        if record is None or record.name != name or not path.is_file():
            return None
        whole = path.stat().st_size == record.size_bytes and file_sha256(path) == record.sha256
        return self._absolute(record) if whole else None

    def damaged(self) -> list[str]:
        """Names of variants that are there, but not as they were written."""
        files = {path.stem for kind in ("json", "tflite") for path in (self.folder / "variants").glob(f"*.{kind}")}
        return sorted(name for name in files if self.variant(name) is None)

    # -- what is known of them ----------------------------------------------------------------------------------

    def save_evaluation(self, evaluation: Evaluation) -> None:
        """Keep an evaluation."""
        self.write_json(f"evaluations/{evaluation.variant}.json", to_dict(evaluation))

    def evaluation(self, variant: Variant, data_sha256: str | None = None) -> Evaluation | None:
        """The evaluation of exactly this file (on exactly this data), or None."""
        found = self._read(f"evaluations/{variant.name}.json", Evaluation)
        if found is None or found.model_sha256 != variant.sha256:
            return None
        return found if data_sha256 in (None, found.data_sha256) else None

    def save_report(
        self, name: str, report: BenchmarkReport, request: dict[str, Any] | None = None, *, received: str = ""
    ) -> None:
        """Keep a report as the one that is shown of the variant ``name``, with the request (device, threads, …) it answers
        and when it came (UTC, ISO 8601; now by default)."""
        came = received or now()
        self.write_json(
            f"reports/{name}.json", {"request": request or {}, "received": came, "report": report.to_dict()}
        )
        self.keep_report(name, report, came)

    def keep_report(self, name: str, report: BenchmarkReport, received: str) -> None:
        """Remember a report without showing it; one without an id that can be a file's name is not remembered."""
        if not is_report_id(report.id):
            return
        try:
            (self.folder / "history").mkdir(exist_ok=True)
        except OSError as error:
            raise _store_error("make", self.folder / "history", error) from error
        self.write_json(
            f"history/{report.id}.json", {"variant": name, "received": received, "report": report.to_dict()}
        )

    def knows_report(self, report_id: str) -> bool:
        """Whether a report with this id has come before, whichever is shown now."""
        return is_report_id(report_id) and (self.folder / "history" / f"{report_id}.json").is_file()

    def received(self, name: str) -> str:
        """When the report that is shown of a variant came (UTC, ISO 8601); empty when there is none, or it is not known."""
        came = self.read_facts(f"reports/{name}.json").get("received")
        return came if isinstance(came, str) else ""

    def report(self, variant: Variant, request: dict[str, Any] | None = None) -> BenchmarkReport | None:
        """The report of exactly this file (answering exactly this request), or None."""
        raw = self.read_json(f"reports/{variant.name}.json")
        if not isinstance(raw, dict) or (request is not None and raw.get("request") != request):
            return None
        try:
            found = BenchmarkReport.from_dict(raw.get("report"))
        except ReportError:
            return None
        return found if found.model.sha256 == variant.sha256 else None

    def save_parity(self, parity: Parity) -> None:
        """Keep a parity check."""
        self.write_json(f"parity/{parity.variant}.json", to_dict(parity))

    def parity(self, variant: Variant) -> Parity | None:
        """The parity check of exactly this file, or None."""
        found = self._read(f"parity/{variant.name}.json", Parity)
        return found if found is not None and found.model_sha256 == variant.sha256 else None

    # -- what targets make of them ------------------------------------------------------------------------------

    def target_folder(self, target: str) -> Path:
        """The folder of what belongs to a target, made where it is missing; raises StoreError where it cannot be."""
        if not is_file_name(target):
            raise StoreError(f"expected the name of a target, got {target!r}: it cannot name a folder")
        path = self.folder / TARGETS / target
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _store_error("make", path, error) from error
        return path

    def save_target_report(self, variant: str, report: TargetReport) -> None:
        """Keep what a target makes of a variant, in the place of what was known of it there."""
        from .target_reports import storable  # it stands on this module

        self.target_folder(report.name)
        self.write_json(f"{TARGETS}/{report.name}/{variant}.json", storable(report))

    def target_reports(self) -> list[tuple[str, TargetReport]]:
        """What targets make of the variants as they are now, by target and variant; what does not read is left out."""
        from .target_reports import read_target_reports  # it stands on this module

        return list(read_target_reports(self).current)

    # -- unfinished training ------------------------------------------------------------------------------------

    def checkpoints(self) -> Path:
        """The folder of the checkpoints of compressions; raises StoreError when it cannot be made."""
        path = self.folder / CHECKPOINTS
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _store_error("make", path, error) from error
        return path

    def drop_checkpoints(self) -> None:
        """Remove them: what they led to is there."""
        shutil.rmtree(self.folder / CHECKPOINTS, ignore_errors=True)

    # -- files --------------------------------------------------------------------------------------------------

    def write_json(self, relative: str, value: Any) -> Path:
        """Write JSON under the run folder, whole or not at all; what is no finite number becomes null."""
        text = json.dumps(plain_json(value), indent=2, allow_nan=False) + "\n"
        return write_atomically(self.folder / relative, text.encode())

    def write_text(self, relative: str, text: str) -> Path:
        """Write text under the run folder, whole or not at all."""
        return write_atomically(self.folder / relative, (text + "\n").encode())

    def read_json(self, relative: str) -> Any:
        """Read JSON under the run folder; None when it is missing, too large or damaged."""
        return read_json_file(self.folder / relative)

    def read_facts(self, relative: str) -> dict[str, Any]:
        """Read a JSON object under the run folder; an empty one where there is none."""
        raw = self.read_json(relative)
        return raw if isinstance(raw, dict) else {}

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second edgekit that would write to it, and clear what a killed one left behind.

        Raises StoreError when another one holds it.
        """
        import fcntl

        try:
            handle = open(self.folder / ".lock", "a+", encoding="utf-8")  # noqa: SIM115 - held for the whole block
        except OSError as error:
            raise _store_error("lock", self.folder, error) from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StoreError(
                    f"another edgekit is writing to {self.folder}. Wait for it, or choose another --out"
                ) from error
            self._sweep()
            yield

    def _sweep(self) -> None:
        for folder in (self.folder, *(self.folder / sub for sub in FOLDERS), *self.folder.glob(f"{TARGETS}/*")):
            for leftover in folder.glob(f".*{ASIDE_SUFFIX}"):
                with contextlib.suppress(OSError):
                    leftover.unlink()

    def _read(self, relative: str, kind: type[Record]) -> Record | None:
        raw = self.read_json(relative)
        try:
            return None if raw is None else from_dict(kind, raw)
        except StoreError:
            return None

    def _absolute(self, variant: Variant) -> Variant:
        return replace(variant, path=str(self.variant_path(variant.name).resolve()))


def is_run(folder: str | os.PathLike[str]) -> bool:
    """Whether ``folder`` is a run folder."""
    raw = read_json_file(Path(folder) / "run.json")
    return isinstance(raw, dict) and raw.get("kind") == "edgekit-run"


def write_atomically(path: Path, content: bytes) -> Path:
    """Write aside, flush to disk, rename; raises StoreError and leaves nothing behind when that fails."""
    aside = path.parent / f".{path.name}.{secrets.token_hex(4)}{ASIDE_SUFFIX}"
    try:
        with aside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        if isinstance(error, OSError):
            raise _store_error("write", path, error) from error
        raise
    return path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, or of every file in a folder by relative name, in hexadecimal."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    for item in files:
        if item != path:
            digest.update(str(item.relative_to(path)).encode() + b"\0")
        with item.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def now() -> str:
    """The time in UTC, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _note_place(store: RunStore) -> None:
    """So that a board's report finds the run; a run can be worked on where that cannot be noted."""
    from .run_index import remember_run  # it stands on this module

    with contextlib.suppress(StoreError):
        remember_run(store)


def _new_id() -> str:
    return secrets.token_hex(16)


def _is_vacant(path: Path) -> bool:
    """Whether a folder is empty, but for what a run that was killed at its very start has made."""
    return all(
        (item.name in FOLDERS and item.is_dir() and not any(item.iterdir())) or item.name.endswith(ASIDE_SUFFIX)
        for item in path.iterdir()
    )


def read_json_file(path: Path) -> Any:
    """JSON of a file; None when it is missing, too large or damaged."""
    try:
        if path.stat().st_size > JSON_CAP_BYTES:
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _store_error(verb: str, path: Path, error: OSError) -> StoreError:
    hint = {
        errno.ENOSPC: "the disk is full: free some space, or choose a folder on another disk",
        errno.EDQUOT: "the disk quota is used up: free some space, or choose another folder",
        errno.EFBIG: "the file would be larger than this process may write (ulimit -f): raise the limit",
        errno.EACCES: "no permission: choose a folder you may write to",
        errno.EROFS: "the file system is read-only: choose another folder",
    }.get(error.errno or 0, f"{error.strerror or error}: choose another folder")
    return StoreError(f"cannot {verb} {path}: {hint}")
