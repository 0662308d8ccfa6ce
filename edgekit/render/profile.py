"""Where the time of an inference goes, in a terminal: the operators that take longest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from . import figures
from .summary import plain

if TYPE_CHECKING:
    from edgekit_device.report import OperatorTime, ProfileFacts

__all__ = ["profile_lines"]

SHOWN = 8
INDENT = " " * 15
KERNEL_WIDTH, LAYER_WIDTH = 38, 36


def profile_lines(profile: ProfileFacts, layers: Sequence[str | None] = ()) -> Iterator[str]:
    """A line for each of the slowest operators, and one for the rest; nothing where there is no profile.

    ``layers`` are the Keras layers by an operator's place in the graph; where none is known, the tensor it makes stands in.
    """
    if not profile.operators:
        return
    slowest = sorted(profile.operators, key=lambda operator: -(operator.mean_ms or 0.0))
    yield f"{INDENT}operators, slowest first ({plain(profile.source)}):"
    for operator in slowest[:SHOWN]:
        layer = _layer(operator, layers)
        yield (
            f"{INDENT}  {figures.milliseconds(operator.mean_ms):>8} {figures.percent(operator.share):>7}  "
            f"{plain(operator.type, KERNEL_WIDTH):{KERNEL_WIDTH}}  {layer}".rstrip()
        )
    rest = slowest[SHOWN:]
    if rest:
        spent, share = (sum(getattr(op, name) or 0.0 for op in rest) for name in ("mean_ms", "share"))
        yield f"{INDENT}  {figures.milliseconds(spent):>8} {figures.percent(share):>7}  {len(rest)} more"
    measured = sum(operator.mean_ms or 0.0 for operator in profile.operators)
    if profile.total_ms is not None and profile.total_ms > measured:
        between = figures.milliseconds(profile.total_ms - measured)
        yield f"{INDENT}  {between:>8}          the runtime between them"


def _layer(operator: OperatorTime, layers: Sequence[str | None]) -> str:
    known = layers[operator.index] if 0 <= operator.index < len(layers) else None
    return plain(known or operator.name.split(";")[0], LAYER_WIDTH)
