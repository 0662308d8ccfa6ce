"""Capture, prepare, infer and answer, each in a thread of its own, a queue of one between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from ..errors import DataError, InputError
from .slot import Slot

if TYPE_CHECKING:
    from ..model import Model
    from .answer import Answer
    from .frames import Source
    from .prepare import Preparation

__all__ = ["STAGES", "Pipeline", "Work"]

STAGES = ("capture", "prepare", "infer", "answer", "total")
MOST_BAD_IN_A_ROW = 100
PATIENCE_S = 2.0


class Work(NamedTuple):
    """A frame on its way: ``content`` is what the last stage made of it, ``spent_ns`` what each stage took."""

    number: int
    place: dict[str, Any]
    captured_ns: int
    content: Any
    spent_ns: tuple[int, ...]


class Pipeline:
    """Runs a stream once: ``run`` returns when it is over.

    ``emit`` gets each Work with its result, in order; its BrokenPipeError ends the stream as the end of the source does.
    ``latest``: a frame that waits, captured or prepared, gives way to the next one. Afterwards ``ended`` says why it is
    over, and ``hangs`` whether a stage would not stop, such as a write that nobody reads.
    """

    def __init__(
        self,
        source: Source,
        model: Model,
        prepare: Preparation,
        answer: Answer,
        emit: Callable[[Work], None],
        *,
        latest: bool,
        frames: Optional[int] = None,
        seconds: Optional[float] = None,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._source, self._model, self._prepare, self._answer, self._emit = source, model, prepare, answer, emit
        self._frames, self._seconds, self._clock = frames, seconds, clock
        self._captured: Slot[Work] = Slot(latest)
        self._prepared: Slot[Work] = Slot(latest)
        self._inferred: Slot[Work] = Slot()
        self._over = threading.Event()
        self._error: Optional[BaseException] = None
        self.captured = self.emitted = self.skipped = self._bad_in_a_row = 0
        self.skip_reason = self.ended = ""
        self.hangs = False

    @property
    def task(self) -> str:
        """What the answers are made for."""
        return self._answer.task

    @property
    def dropped(self) -> int:
        """How many frames gave way to newer ones."""
        return self._captured.dropped + self._prepared.dropped

    def run(self, stopped: Callable[[], str] = lambda: "", tick: Callable[[], None] = lambda: None) -> None:
        """Run to the end, asking ``stopped`` ten times a second for a reason to stop, and calling ``tick``.

        Raises what ended a stage, and DataError when no frame could be used.
        """
        stages = [
            threading.Thread(target=self._guarded, args=stage, daemon=True)
            for stage in (
                (self._capture, self._captured),
                (self._stage, self._load, self._captured, self._prepared),
                (self._stage, self._infer, self._prepared, self._inferred),
                (self._stage, self._finish, self._inferred, None),
            )
        ]
        started_ns = self._clock()
        for stage in stages:
            stage.start()
        while not self._over.wait(0.1):
            tick()
            self.ended = self.ended or stopped()
            if self._seconds is not None and self._clock() - started_ns >= self._seconds * 1e9:
                self.ended = self.ended or "time"
            if self.ended:
                break
        self._stop()
        deadline = time.monotonic() + PATIENCE_S
        for stage in stages:
            stage.join(max(0.0, deadline - time.monotonic()))
        self.hangs = any(stage.is_alive() for stage in stages)
        if self._error is not None:
            raise self._error
        if self.skipped and not self.emitted and self.ended == "end":
            raise DataError(f"no frame of {self.skipped} could be used; the first: {self.skip_reason}")

    def _stop(self) -> None:
        for slot in (self._captured, self._prepared, self._inferred):
            slot.stop()
        self._source.close()

    def _guarded(self, stage: Callable[..., None], *arguments: Any) -> None:
        try:
            stage(*arguments)
        except BrokenPipeError:
            self.ended = self.ended or "reader gone"
            self._over.set()
        except BaseException as error:
            # The first error counts, and none of a source that was closed: they come of the stopping.
            if not self.ended:
                self._error = self._error or error
            if stage == self._capture:
                self._captured.end()  # what was captured before is still answered
            else:
                self._over.set()

    def _capture(self, target: Slot[Work]) -> None:
        clock, before_ns = self._clock, self._clock()
        for index, frame in enumerate(self._source.frames()):
            now_ns = clock()
            if not target.put(Work(index, frame.place, now_ns, frame.load, (now_ns - before_ns,))):
                return
            self.captured = index + 1
            before_ns = clock()
        target.end()

    def _stage(self, work: Callable[[Work], Any], source: Slot[Work], target: Optional[Slot[Work]]) -> None:
        clock = self._clock
        while True:
            item = source.get()
            if item is None:
                break
            started_ns = clock()
            content = work(item)
            if content is not None and target is not None:
                spent_ns = (*item.spent_ns, clock() - started_ns)
                if not target.put(Work(item.number, item.place, item.captured_ns, content, spent_ns)):
                    return
        if target is not None:
            target.end()
        else:
            self.ended = self.ended or "end"
            self._over.set()

    def _load(self, work: Work) -> Any:
        """The input tensor; None, and counted, for a frame that is damaged or does not fit."""
        try:
            prepared = self._prepare(work.content())
        except (DataError, InputError) as error:
            self.skipped += 1
            self._bad_in_a_row += 1
            self.skip_reason = self.skip_reason or str(error)
            if self._bad_in_a_row >= MOST_BAD_IN_A_ROW:
                raise DataError(f"{MOST_BAD_IN_A_ROW} frames in a row could not be used; the last: {error}") from error
            return None
        self._bad_in_a_row = 0
        return prepared

    def _infer(self, work: Work) -> Any:
        outputs = self._model.predict(work.content.tensor)
        self._prepare.recycle(work.content)
        return (outputs if isinstance(outputs, tuple) else (outputs,)), work.content.inner

    def _finish(self, work: Work) -> None:
        if self._frames is not None and self.emitted >= self._frames:
            return
        started_ns = self._clock()
        result = self._answer(*work.content)
        now_ns = self._clock()
        spent_ns = (*work.spent_ns, now_ns - started_ns, now_ns - work.captured_ns)
        self._emit(Work(work.number, work.place, work.captured_ns, result, spent_ns))
        self.emitted += 1
        if self.emitted == self._frames:
            self.ended = "frames"
            self._over.set()
