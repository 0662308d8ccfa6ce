"""What the Edge TPU compiler prints and writes to its .log, as records. Any text is read; what nobody knows is kept."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from .failures import Failure, recognise_failure
from .statuses import Status, find_status

__all__ = ["Attempt", "CompilerLog", "ModelBlock", "OperatorRow", "clean_text", "find_version", "parse_log"]

TEXT_CAP = 4 * 2**20  # characters read; of a longer text the beginning and the end
LINE_CAP = 2000
MESSAGE_CAP, NAME_CAP = 300, 300
MOST_ATTEMPTS, MOST_MODELS, MOST_ROWS, MOST_MESSAGES, MOST_TENSORS = 5000, 1000, 5000, 200, 1000

_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZES = {
    "Input size": "input_bytes",
    "Output size": "output_bytes",
    "On-chip memory used for caching model parameters": "cached_bytes",
    "On-chip memory remaining for caching model parameters": "remaining_bytes",
    "On-chip memory available for caching model parameters": "available_bytes",  # compilers 2.0 and 1.0
    "Off-chip memory used for streaming uncached model parameters": "streamed_bytes",
}
_COUNTS = {
    "Number of Edge TPU subgraphs": "subgraphs",
    "Total number of operations": "operators",
    "Number of operations that will run on Edge TPU": "said_on_tpu",
    "Number of operations that will run on CPU": "said_on_cpu",
}
_NAMES = {
    "Input model": "input_model",
    "Input": "input_model",
    "Output model": "output_model",
    "Output": "output_model",
    "Operation log": "operation_log",
}
_VERSION = re.compile(r"Edge TPU Compiler version ([0-9]{1,9}(?:\.[0-9]{1,12}){0,3})\b")
_PAIR = re.compile(r"([A-Z][A-Za-z -]{2,80}): (\S.*)$")
_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,4})?) ?(B|KiB|MiB|GiB)$")
_COUNT = re.compile(r"[0-9]{1,9}$")
_ROW = re.compile(r"([A-Z][A-Z0-9_]{0,79}) +([0-9]{1,9}) +(\S.*)$")
_HEADER = re.compile(r"Operator +Count +Status$")
_TIMER = re.compile(r"Started a compilation timeout timer of ([0-9]{1,9}) seconds?\.?$")
_SEARCH = re.compile(r"Searching for valid delegate with step [0-9]{1,9}$")
_TRY = re.compile(r"Try to compile segment with ([0-9]{1,9}) ops$")
_TENSORS = re.compile(r"Intermediate tensors: ?(.*)$")
_COMPILED = re.compile(r"Models? compiled successfully in ([0-9]{1,9}) ms[.!]?$")
_IN_TIME = re.compile(r"Compilation child process completed within timeout period\.?$")
_VERDICT = re.compile(r"Compilation (succeeded|failed) ?!$")
_SAYS_NOTHING = re.compile(
    r"See the operation log file for individual operation details\.?$"
    r"|Model successfully compiled but not all operations are supported by the\b"  # copies are wrapped
)


@dataclass(frozen=True)
class OperatorRow:
    """A line of the operation log: ``count`` operators of ``type`` have ``status``, in the compiler's words."""

    type: str
    count: int
    status: str

    @property
    def known(self) -> Status | None:
        """What the status means; None where it is one nobody knows."""
        return find_status(self.status)

    @property
    def mapped(self) -> bool:
        """Whether these operators run on the Edge TPU."""
        return self.known is not None and self.known.mapped


@dataclass(frozen=True)
class ModelBlock:
    """What the compiler says of one model it compiled, or of one segment; None and empty where it says nothing.

    Sizes are bytes, to the two decimals that the compiler prints. ``said_on_tpu`` and ``said_on_cpu`` are printed only where
    operators stay on the processor: ``on_tpu`` and ``on_cpu`` are there wherever they can be known.
    """

    input_model: str = ""
    output_model: str = ""
    operation_log: str = ""
    input_bytes: int | None = None
    output_bytes: int | None = None
    cached_bytes: int | None = None
    remaining_bytes: int | None = None
    available_bytes: int | None = None
    streamed_bytes: int | None = None
    subgraphs: int | None = None
    operators: int | None = None
    said_on_tpu: int | None = None
    said_on_cpu: int | None = None
    partial: bool = False
    rows: tuple[OperatorRow, ...] = ()

    @property
    def on_tpu(self) -> int | None:
        """Operators on the Edge TPU: as printed, else all where none is said to stay, else by the table."""
        if self.said_on_tpu is not None:
            return self.said_on_tpu
        if self.rows:
            return sum(row.count for row in self.rows if row.mapped)
        return self.operators if self.operation_log and not self.partial else None

    @property
    def on_cpu(self) -> int | None:
        """Operators left on the processor, found as ``on_tpu`` is."""
        if self.said_on_cpu is not None:
            return self.said_on_cpu
        if self.rows:
            return sum(row.count for row in self.rows if not row.mapped)
        return 0 if self.operation_log and not self.partial and self.operators is not None else None


@dataclass(frozen=True)
class Attempt:
    """One compilation: the only one, one of several segments (``-n``), or one try of a search (``-d``).

    ``search`` numbers the search it belongs to, 0 for none; ``operators`` is how many were tried, ``intermediate_tensors``
    where they were cut. ``succeeded`` is None where the text ends before it says. ``messages`` are lines that are no figures.
    """

    search: int = 0
    operators: int | None = None
    intermediate_tensors: tuple[str, ...] = ()
    timeout_s: int | None = None
    in_time: bool = False
    compile_ms: int | None = None
    succeeded: bool | None = None
    models: tuple[ModelBlock, ...] = ()
    messages: tuple[str, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True)
class CompilerLog:
    """Everything a text of the compiler says. ``version`` is empty where it says none."""

    version: str = ""
    attempts: tuple[Attempt, ...] = ()
    dropped_lines: int = field(default=0)

    @property
    def last_attempts(self) -> tuple[Attempt, ...]:
        """What counts: each compilation, of a search the last try alone."""
        last: dict[tuple[int, int], Attempt] = {}
        for number, attempt in enumerate(self.attempts):
            last[(attempt.search, 0 if attempt.search else number)] = attempt
        return tuple(last.values())

    @property
    def succeeded(self) -> bool | None:
        """Whether every compilation succeeded; None where the text does not say of one, and no other failed."""
        verdicts = [attempt.succeeded for attempt in self.last_attempts]
        if False in verdicts:
            return False
        return None if None in verdicts or not verdicts else True

    @property
    def models(self) -> tuple[ModelBlock, ...]:
        """Every model, or segment, that was compiled in the end."""
        return tuple(model for attempt in self.last_attempts for model in attempt.models)

    @property
    def failure(self) -> Failure | None:
        """Why it failed; of a search why the whole model did, as the later tries are about less of it."""
        if self.succeeded:
            return None
        failures = [attempt.failure for attempt in self.attempts if attempt.failure is not None]
        return next((one for one in failures if one.kind != "internal"), failures[0] if failures else None)

    @property
    def compile_ms(self) -> int | None:
        """Milliseconds the compiler says it took, over all segments; None where it says nothing."""
        said = [attempt.compile_ms for attempt in self.last_attempts if attempt.compile_ms is not None]
        return sum(said) if said else None


def clean_text(text: str, cap: int) -> str:
    """``text`` as one printable line of at most ``cap`` characters."""
    line = " ".join("".join(mark if mark.isprintable() else " " for mark in text[: 2 * cap]).split())
    return line if len(line) <= cap else line[: cap - 1] + "…"


def find_version(text: str) -> str:
    """The version in what the compiler prints, as ``16.0.384591198``; empty where there is none."""
    found = _VERSION.search(text)
    return found.group(1) if found else ""


def parse_log(text: str) -> CompilerLog:
    """Read what a compiler of version 1.0 to 16 printed, or wrote to its .log; a damaged text as far as it goes. Never raises."""
    reader = _Reader()
    for line in _lines(text):
        reader.take(line)
    return reader.finish()


def _lines(text: str) -> Iterable[str]:
    if len(text) > TEXT_CAP:
        text = text[: TEXT_CAP // 2] + "\n" + text[-TEXT_CAP // 2 :]
    for line in re.split(r"[\r\n]+", text):
        if len(line) > LINE_CAP and not line.startswith("Intermediate tensors:"):
            line = line[:LINE_CAP]
        stripped = "".join(mark if mark.isprintable() else " " for mark in line).strip()
        if stripped:
            yield stripped


class _Reader:
    """The state while lines are read: the attempt and the model they belong to."""

    def __init__(self) -> None:
        self.version = ""
        self.attempts: list[Attempt] = []
        self.searches = 0
        self.dropped = 0
        self.open: dict[str, Any] | None = None  # the fields of the attempt being read
        self.model: dict[str, Any] | None = None

    def take(self, line: str) -> None:
        """Read one line."""
        for reads in (self._about_attempt, self._about_result, self._about_model, self._row):
            if reads(line):
                return
        if _HEADER.match(line) or _SAYS_NOTHING.match(line):
            if line.startswith("Model successfully") and self.model is not None:
                self.model["partial"] = True
            return
        messages = self._attempt()["messages"]
        if len(messages) < MOST_MESSAGES:
            messages.append(clean_text(line, MESSAGE_CAP))
        else:
            self.dropped += 1

    def finish(self) -> CompilerLog:
        """Everything read, as records."""
        self._close(None)
        return CompilerLog(self.version, tuple(self.attempts), self.dropped)

    def _about_attempt(self, line: str) -> bool:
        """Lines that begin a compilation or say how it is made."""
        found = _VERSION.match(line)
        if found:
            self.version = self.version or found.group(1)
            return True
        if _SEARCH.match(line):
            self._close(None)
            self.searches += 1
            return True
        found = _TRY.match(line)
        if found:
            self._close(None)
            self._attempt()["operators"] = int(found.group(1))
            return True
        found = _TENSORS.match(line)
        if found:
            names = [clean_text(name, NAME_CAP) for name in found.group(1).split(",")[:MOST_TENSORS]]
            self._attempt()["intermediate_tensors"] = tuple(name for name in names if name)
            return True
        found = _TIMER.match(line)
        if found and self.open is not None and (self.open["timeout_s"] is not None or self.open["models"]):
            self._close(None)
        if found:
            self._attempt()["timeout_s"] = int(found.group(1))
        return found is not None

    def _about_result(self, line: str) -> bool:
        """Lines that say how a compilation went."""
        found = _COMPILED.match(line)
        if found:
            self._attempt()["compile_ms"] = int(found.group(1))
            return True
        if _IN_TIME.match(line):
            self._attempt()["in_time"] = True
            return True
        found = _VERDICT.match(line)
        if found:
            self._attempt()
            self._close(found.group(1) == "succeeded")
        return found is not None

    def _about_model(self, line: str) -> bool:
        """A name and a figure of a model."""
        found = _PAIR.match(line)
        if not found:
            return False
        name, value = found.groups()
        if name in _NAMES:
            if name in ("Input model", "Input") and not (self.model is not None and _is_new(self.model)):
                self._new_model()
            self._model()[_NAMES[name]] = clean_text(value, NAME_CAP)
            return True
        size, count = _SIZE.match(value), _COUNT.match(value)
        if name in _SIZES and size:
            self._model()[_SIZES[name]] = round(float(size.group(1)) * _UNITS[size.group(2)])
            return True
        if name in _COUNTS and count:
            self._model()[_COUNTS[name]] = int(count.group())
            return True
        return False

    def _row(self, line: str) -> bool:
        found = _ROW.match(line)
        if not found:
            return False
        rows = self._model().setdefault("rows", [])
        if len(rows) < MOST_ROWS:
            rows.append(OperatorRow(found.group(1), int(found.group(2)), clean_text(found.group(3), MESSAGE_CAP)))
        else:
            self.dropped += 1
        return True

    def _attempt(self) -> dict[str, Any]:
        if self.open is None:
            empty: dict[str, Any] = {"timeout_s": None, "in_time": False, "compile_ms": None, "operators": None}
            self.open = {**empty, "search": self.searches, "intermediate_tensors": (), "models": [], "messages": []}
        return self.open

    def _model(self) -> dict[str, Any]:
        if self.model is None:
            self._new_model()
        assert self.model is not None
        return self.model

    def _new_model(self) -> None:
        models = self._attempt()["models"]
        self.model = {}
        if len(models) < MOST_MODELS:
            models.append(self.model)
        else:
            self.dropped += 1

    def _close(self, succeeded: bool | None) -> None:
        """End the attempt that is open, where there is one, with the verdict that was printed."""
        if self.open is None:
            return
        fields = self.open
        models = tuple(ModelBlock(**{**model, "rows": tuple(model.get("rows", ()))}) for model in fields.pop("models"))
        messages = tuple(fields.pop("messages"))
        attempt = Attempt(**fields, models=models, messages=messages, succeeded=succeeded)
        self.open = self.model = None
        if len(self.attempts) < MOST_ATTEMPTS:
            self.attempts.append(_judged(attempt))
        else:
            self.attempts[-1] = _judged(attempt)
            self.dropped += 1


def _is_new(model: dict[str, Any]) -> bool:
    """Whether a block has nothing yet, so that its first line does not begin another."""
    return not model


def _judged(attempt: Attempt) -> Attempt:
    """An attempt with its failure; compilers before 16 print no verdict: "compiled successfully" or a message is theirs."""
    succeeded = attempt.succeeded
    if succeeded is None and attempt.timeout_s is None:
        succeeded = True if attempt.compile_ms is not None else None
    if succeeded:
        return replace(attempt, succeeded=True)
    verdict = ("Compilation failed!",) if succeeded is False else ()
    failure = recognise_failure((*attempt.messages, *verdict))
    if succeeded is None and failure is not None and attempt.timeout_s is None and not attempt.models:
        succeeded = False
    return replace(attempt, succeeded=succeeded, failure=failure)
