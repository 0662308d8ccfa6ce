"""The rules, the limits and the operators as Markdown tables: what docs/edgetpu-rules.md holds, so that the page is the code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .evidence import Limit
from .limits import LIMITS
from .op_table import SUPPORTED
from .rules import RULES
from .statuses import LATER, find_status

__all__ = ["limits_table", "operators_table", "reasons_table", "rules_table"]


def rules_table() -> str:
    """The rules in the order in which they are asked."""
    rows = [
        (
            f"`{rule.name}`",
            ", ".join(f"`{operator}`" for operator in rule.operators) or "all",
            rule.asks + "".join(f"; limit `{limit}`" for limit in rule.limits),
            f"*{_short(rule.reason)}*",
            rule.source,
            "; ".join(rule.examples),
        )
        for rule in RULES
    ]
    return _table(
        ("cause", "operators", "an operator maps if it has …", "the compiler says", "source", "examples"), rows
    )


def reasons_table() -> str:
    """What the compiler says, by the short names of the table of rules."""
    reasons = dict.fromkeys(rule.reason for rule in RULES)
    rows = [(f"*{_short(reason)}*", reason) for reason in (*reasons, LATER)]
    return _table(("short", "in the compiler's words"), rows)


def limits_table() -> str:
    """The limits: what they measure, where they are put, and what was seen on either side."""
    return _table(
        ("limit", "measures", "largest that maps", "seen mapped", "seen refused", "put there because"),
        [_limit_row(limit) for limit in LIMITS.values()],
    )


def operators_table() -> str:
    """The operators of the Edge TPU."""
    rows = [(f"`{name}`", str(one.runtime), one.says, "yes" if one.seen else "no") for name, one in SUPPORTED.items()]
    return _table(("operator", "runtime", "documented", "seen mapped"), rows)


def _short(reason: str) -> str:
    status = find_status(reason)
    return "?" if status is None else status.name


def _limit_row(limit: Limit) -> tuple[str, ...]:
    sides = [
        "; ".join(f"{seen.size:,} ({seen.what}, {seen.source})" for seen in limit.evidence if seen.mapped == mapped)
        for mapped in (True, False)
    ]
    because = limit.because or "just below the smallest refused"
    return (f"`{limit.name}`", limit.measure, f"{limit.value:,.0f}", *sides, because)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, tuple(":--" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
