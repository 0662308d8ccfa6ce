"""Which folder a run's id belongs to: how a board's report finds the run it was measured for."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from .errors import StoreError
from .plain import plain_json
from .recipe import edgekit_home
from .store import RunStore, is_run, read_json_file, write_atomically

__all__ = ["find_run", "make_home", "remember_run"]

INDEX = "runs.json"
MOST_RUNS = 10_000


def remember_run(store: RunStore) -> str:
    """Note where a run is, in runs.json of edgekit's own folder; returns its id. The last place noted is the one that holds.

    The run's lock is held, as a run without an id gets one. Raises StoreError when that cannot be written.
    """
    run_id, folder = store.run_id(), str(store.folder.resolve())
    home = make_home()
    with _locked(home):
        known = _known(home)
        if known.get(run_id) != folder:
            known.pop(run_id, None)
            kept = dict(list(known.items())[-(MOST_RUNS - 1) :])
            _write(home, {**kept, run_id: folder})
    return run_id


def find_run(run_id: str) -> RunStore | None:
    """The run with this id, where it was last seen; None when it is not known, or no longer there."""
    folder = _known(edgekit_home()).get(run_id)
    if not run_id or folder is None or not is_run(folder):
        return None
    store = RunStore.open(folder)
    return store if store.read_facts("run.json").get("id") == run_id else None


def make_home(*below: str) -> Path:
    """Edgekit's own folder, or one below it, made for this user alone; raises StoreError when that fails."""
    folder = edgekit_home().joinpath(*below)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make {folder}, where edgekit keeps its own state: {error.strerror or error}. Name another: EDGEKIT_HOME"
        ) from error
    return folder


def _known(home: Path) -> dict[str, str]:
    raw = read_json_file(home / INDEX)
    runs = raw.get("runs") if isinstance(raw, dict) else None
    if not isinstance(runs, dict):
        return {}
    return {run_id: folder for run_id, folder in runs.items() if isinstance(folder, str)}


def _write(home: Path, runs: dict[str, str]) -> None:
    write_atomically(home / INDEX, (json.dumps(plain_json({"runs": runs}), indent=2) + "\n").encode())


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One writer at a time; the others wait the milliseconds that takes."""
    import fcntl  # not everywhere, and needed by whoever writes alone

    try:
        with open(home / f".{INDEX}.lock", "a", encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise StoreError(f"cannot write {home / INDEX}: {error.strerror or error}") from error
