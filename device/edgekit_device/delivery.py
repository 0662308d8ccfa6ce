"""Deliver the outbox to a hub: every report once, by its id.

A report leaves the outbox only for a receipt of the hub's that names it. So a portal that answers 200 to everything takes
nothing away, and a hub that was killed after it had stored a report gets it again, and says that it knows it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .client import TIMEOUT_S, Answer, Hub, ask_hub
from .errors import HubError
from .outbox import Outbox
from .text import clean_text

__all__ = ["ATTEMPTS", "Delivered", "deliver", "waits_s"]

REPORTS = "/v1/reports"
MOST_AT_ONCE = 50
MOST_BYTES_AT_ONCE = 512 * 1024
ATTEMPTS = 5
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
# What a hub says of one report: it has it, or it does not want it, and will not tomorrow.
HERE = {"stored", "duplicate"}
FOR_GOOD = {"refused", "conflict"}
TOO_LARGE = 413  # the one status of a whole request that is the doing of what is in it


@dataclass(frozen=True)
class Delivered:
    """How many reports the hub has now, and how many it refuses for good."""

    delivered: int = 0
    rejected: int = 0

    def __add__(self, other: Delivered) -> Delivered:
        """Both together."""
        return Delivered(self.delivered + other.delivered, self.rejected + other.rejected)


def deliver(
    outbox: Outbox,
    hub: Hub,
    *,
    attempts: int = ATTEMPTS,
    timeout_s: float = TIMEOUT_S,
    sleep: Callable[[float], object] = time.sleep,
    progress: Callable[[Delivered], object] = lambda _: None,
) -> Delivered:
    """Post what waits until nothing does; ``progress`` is told after every request.

    Failures that may pass (no connection, 429, 5xx) are tried again with growing pauses, ``attempts`` times in a row without a
    report getting through. Raises HubError then, and at once for those that do not pass; what was not delivered waits on.
    """
    done, pauses = Delivered(), waits_s()
    failures, most = 0, MOST_AT_ONCE
    while True:
        batch = list(outbox.drain(most, MOST_BYTES_AT_ONCE, with_rejected=False))
        if not batch:
            return done
        try:
            settled = _post(outbox, hub, batch, timeout_s)
        except _TooLargeError as error:
            if len(batch) > 1:
                most = 1  # find the one that is to blame
                continue
            outbox.reject(batch[0][0], str(error))
            settled = Delivered(rejected=1)
        except HubError as error:
            failures += 1
            if not error.passes or failures >= attempts:
                raise
            sleep(max(error.wait_s, next(pauses)))
            continue
        done, failures, pauses = done + settled, 0, waits_s()
        most = min(MOST_AT_ONCE, 2 * most)
        progress(settled)


def waits_s() -> Iterator[float]:
    """Pauses in seconds between attempts: doubled each time up to a minute, and each drawn between half and all of it, so that
    a thousand boards do not come back to a hub that was away in the same second."""
    draw, limit = secrets.SystemRandom(), FIRST_WAIT_S
    while True:
        yield draw.uniform(limit / 2, limit)
        limit = min(LONGEST_WAIT_S, 2 * limit)


class _TooLargeError(Exception):
    """The hub, or a proxy before it, does not take a request of this size."""


def _post(outbox: Outbox, hub: Hub, batch: list[tuple[str, str]], timeout_s: float) -> Delivered:
    content = "[" + ",".join(line for _, line in batch) + "]"
    answer = ask_hub(hub, REPORTS, content.encode(), timeout_s=timeout_s)
    if answer.status == TOO_LARGE:
        raise _TooLargeError(f"too large: {clean_text(answer.facts.get('detail'), 300)}")
    receipts = _receipts(answer, {report_id for report_id, _ in batch})
    if answer.status >= 400:
        raise HubError(f"{hub.url} answered {answer.status}: there is no hub of edgekit at this address. Check --url")
    if not receipts:
        raise HubError(f"{hub.url} answered without a receipt: it is no hub, or a portal is in between", passes=True)
    stored = [report_id for report_id, (status, _) in receipts.items() if status in HERE]
    refused = {report_id: reason for report_id, (status, reason) in receipts.items() if status in FOR_GOOD}
    outbox.acknowledge(stored)
    for report_id, reason in refused.items():
        outbox.reject(report_id, reason)
    return Delivered(len(stored), len(refused))


def _receipts(answer: Answer, ids: set[str]) -> dict[str, tuple[str, str]]:
    """Status and reason of every report that the hub's answer names, and that was in the request."""
    results: Any = answer.facts.get("results")
    found: dict[str, tuple[str, str]] = {}
    for result in results if isinstance(results, list) else []:
        report_id, status = (result.get("id"), result.get("status")) if isinstance(result, dict) else (None, None)
        if isinstance(report_id, str) and report_id in ids and isinstance(status, str) and status in HERE | FOR_GOOD:
            found[report_id] = (status, f"{status}: {clean_text(result.get('detail'), 300)}")
    return found
