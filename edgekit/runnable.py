"""Which variants of a run can run where: those that were compiled for an accelerator run nowhere else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import EdgekitError, UsageError
from .progress import Progress, Silent
from .records import Variant
from .store import file_sha256

if TYPE_CHECKING:
    from .devices import Device

__all__ = ["has_edgetpu", "host_file", "is_compiled", "on_processors", "to_measure"]

EDGETPU = "edgetpu"
ASKING_S = 60.0


def is_compiled(variant: Variant) -> bool:
    """Whether a variant was compiled for an accelerator from another one."""
    return bool(variant.compiled_from)


def on_processors(
    variants: Sequence[Variant], named: Sequence[str] = (), progress: Progress | None = None
) -> list[Variant]:
    """The variants a processor runs; those that were compiled are left out with a note, unless they are in ``named``.

    Raises UsageError where none is left.
    """
    kept = [item for item in variants if not is_compiled(item) or item.name in named]
    if not kept:
        names = ", ".join(item.name for item in variants)
        raise UsageError(f"expected a variant that a processor runs, got {names}: {_how(variants[0])}")
    for item in variants:
        if item not in kept:
            (progress or Silent()).note(f"{item.name}: compiled for {item.target}, left out. {_how(item)}")
    return kept


def to_measure(
    variants: Sequence[Variant],
    named: Sequence[str],
    delegate: str | None,
    device: Device,
    progress: Progress | None = None,
) -> list[Variant]:
    """The variants to measure where nobody said which: with an Edge TPU's delegate those compiled for one, without any all of
    them on a device that has one, else those a processor runs."""
    compiled = [item for item in variants if is_compiled(item)]
    if not named and compiled and delegate in (None, "auto") and has_edgetpu(device):
        return list(variants)
    if named or not compiled or not (delegate or "").startswith(EDGETPU):
        return on_processors(variants, named, progress)
    others = [item.name for item in variants if item not in compiled]
    if others:
        (progress or Silent()).note(f"not compiled for an Edge TPU, left out: {', '.join(others)}")
    return compiled


def has_edgetpu(device: Device) -> bool:
    """Whether a device says that an Edge TPU is there and nothing stands in its way; one that says nothing has none."""
    try:
        completed = device.transport.run(["accelerators", "--json"], deadline_s=ASKING_S)
        found = json.loads(completed.stdout) if completed.exit_code == 0 else {}
        severities = {finding["severity"] for finding in found.get("findings", [])}
        return bool(found.get("edgetpus")) and "error" not in severities
    except (EdgekitError, ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return False


def host_file(variant: Variant) -> Path | None:
    """The file whose outputs on the host those of a device are held against: its own, or that it was compiled from; None
    where that is gone or has been converted anew."""
    own = Path(variant.path)
    if not is_compiled(variant):
        return own
    path = own.with_name(f"{variant.compiled_from}.tflite")
    return path if path.is_file() and variant.key in ("", file_sha256(path)) else None


def _how(variant: Variant) -> str:
    return f"Measure it where one is: edgekit bench RUN --variant {variant.name} --device NAME"
