"""Several models in one command of the device: what is sent, and whose answer each line is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit_device import BenchmarkReport
from edgekit_device.report import clean_text

from ..errors import DeviceError, EdgekitError, UsageError
from ..store import file_sha256
from .request import BenchItem, BenchRequest
from .transport import USAGE_EXIT, Completed

if TYPE_CHECKING:
    from .device import Device

__all__ = ["Outcome", "measure_together"]

Outcome = BenchmarkReport | EdgekitError

MESSAGE_CAP = 600


def measure_together(device: Device, items: Sequence[BenchItem], request: BenchRequest, run: str) -> list[Outcome]:
    """One command for all ``items``; each has its report, or the error it alone failed with.

    A line of the device is a report of a file that was sent, or an error with the model's name. Who has none when the
    command is over failed with the command.
    """
    models = [device.transport.put(item.model, name) for item, name in zip(items, _names(items), strict=True)]
    arguments = ["bench", *models, "--json", *request.arguments, f"--deadline={request.deadline_s:g}"]
    arguments += _data_arguments(device, items)
    outputs = [f"outputs-{at}.npz" for at in range(len(items))]
    if any(item.outputs is not None for item in items):
        arguments += [text for name in outputs for text in ("--outputs", name)]
    if run:
        arguments += [f"--run={run}", *(f"--variant={item.variant}" for item in items)]
    deadline_s = request.deadline_for(len(items))
    completed = device.transport.run(arguments, deadline_s=deadline_s)
    found = _sorted_out(device, items, models, completed, deadline_s)
    for at, item in enumerate(items):
        if item.outputs is not None and isinstance(found[at], BenchmarkReport):
            try:
                device.transport.get(outputs[at], item.outputs)
            except DeviceError as error:
                found[at] = error
    return found


def _names(items: Sequence[BenchItem]) -> list[str]:
    """A name on the device for each model: its own, with its position where two are called the same."""
    own = [item.model.name for item in items]
    return [name if own.count(name) == 1 else f"{at}-{name}" for at, name in enumerate(own)]


def _data_arguments(device: Device, items: Sequence[BenchItem]) -> list[str]:
    """Samples go over once, however many models take them."""
    if all(item.data is None for item in items):
        return []
    paths = dict.fromkeys(item.data for item in items if item.data is not None)
    there = {path: device.transport.put(path, f"samples-{at}.npz") for at, path in enumerate(paths)}
    one_for_all = len(there) == 1
    sent = list(there.values()) if one_for_all else [there[item.data] for item in items if item.data is not None]
    return [text for path in sent for text in ("--data", path)]


def _sorted_out(
    device: Device, items: Sequence[BenchItem], models: Sequence[str], completed: Completed, deadline_s: float
) -> list[Outcome]:
    by_hash: dict[str, list[int]] = {}
    for at, item in enumerate(items):
        by_hash.setdefault(file_sha256(item.model), []).append(at)
    by_name = {Path(model).name: at for at, model in enumerate(models)}
    found: dict[int, Outcome] = {}
    for facts, line in _lines(completed.stdout):
        if "error" in facts:
            failed = by_name.get(clean_text(facts.get("model")))
            if failed is not None:
                found.setdefault(failed, _error(device, items[failed].model.name, facts))
            continue
        waiting = by_hash.get(_hash(facts), [])
        if waiting:
            at = waiting.pop(0)
            found[at] = _report(device, items[at].model, line)
    lost = [at for at in range(len(items)) if at not in found]
    if lost:
        why = _why(device, completed, [items[at].model.name for at in lost], deadline_s)
        found.update(dict.fromkeys(lost, why))
    return [found[at] for at in range(len(items))]


def _lines(text: str) -> list[tuple[dict[str, Any], str]]:
    """Every line that is a JSON object."""
    found = []
    for line in text.splitlines():
        try:
            facts = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(facts, dict):
            found.append((facts, line))
    return found


def _hash(facts: dict[str, Any]) -> str:
    model = facts.get("model")
    sha256 = model.get("sha256") if isinstance(model, dict) else None
    return sha256 if isinstance(sha256, str) else ""


def _report(device: Device, model: Path, line: str) -> Outcome:
    try:
        return device.read_report(line, model)
    except EdgekitError as error:
        return error


def _error(device: Device, model: str, facts: dict[str, Any]) -> EdgekitError:
    words = clean_text(facts.get("error"), MESSAGE_CAP) or "it said nothing"
    if facts.get("exit_code") == USAGE_EXIT:
        return UsageError(f"{device.name} refuses {model}: {words}")
    return DeviceError(f"{device.name} failed on {model}: {words}")


def _why(device: Device, completed: Completed, names: Sequence[str], deadline_s: float) -> EdgekitError:
    """What became of the models the device said nothing about."""
    what = ", ".join(names)
    try:
        device.check_ended_well(completed, what, deadline_s)
    except EdgekitError as error:
        return error
    return DeviceError(f"{device.name} answered no report on {what}", output=completed.stdout)
