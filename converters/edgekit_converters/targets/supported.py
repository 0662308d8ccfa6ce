"""Which operators a target has, and what it asks of them: the tables the checks go by, for people to read."""

from __future__ import annotations

from dataclasses import dataclass

from .target import EDGETPU, MICRO, Target

__all__ = ["EVERY", "SupportedOperator", "supported_operators"]

EVERY = "every operator"


@dataclass(frozen=True)
class SupportedOperator:
    """An operator's builtin name and what is asked of it, one sentence each, in the order in which it is checked."""

    type: str
    asks: tuple[str, ...] = ()


def supported_operators(target: Target) -> tuple[SupportedOperator, ...]:
    """The operators that ``target`` runs, by name, after what it asks of all of them (EVERY).

    Empty where its tool or runtime alone knows (Vela, a processor).
    """
    if target.kind == EDGETPU:
        from .edgetpu.op_table import SUPPORTED
        from .edgetpu.rules import RULES

        of_all = tuple(dict.fromkeys(rule.asks for rule in RULES if not rule.operators))
        about = {
            name: tuple(dict.fromkeys(rule.asks for rule in RULES if name in rule.operators))
            for name in sorted(SUPPORTED)
        }
        return (SupportedOperator(EVERY, of_all), *(SupportedOperator(name, asks) for name, asks in about.items()))
    if target.kind == MICRO:
        from .micro.operators import BUILTINS, CUSTOMS

        return tuple(SupportedOperator(name) for name in (*sorted(BUILTINS), *sorted(CUSTOMS)))
    return ()
