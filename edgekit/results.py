"""``Results``: what a verb made, by variant, and what it could not make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar, overload

from .errors import EdgekitError

__all__ = ["Results"]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Results(Sequence[Item], Generic[Item]):
    """A sequence of results in the order asked for; ``by_variant`` has them by name.

    A variant that failed does not stop the others: its error is in ``failures``.
    """

    by_variant: Mapping[str, Item] = field(default_factory=dict)
    failures: Mapping[str, EdgekitError] = field(default_factory=dict)

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        return tuple(self.by_variant.values())[index]

    def __len__(self) -> int:
        return len(self.by_variant)

    def or_raise(self) -> Results[Item]:
        """These results; raises the first failure when there is nothing else."""
        if not self.by_variant and self.failures:
            raise next(iter(self.failures.values()))
        return self
