"""The queue of one between two stages."""

from __future__ import annotations

import threading
from typing import Generic, Optional, TypeVar

__all__ = ["Slot"]

Item = TypeVar("Item")


class Slot(Generic[Item]):
    """Hands items from one thread to one other, holding at most one.

    ``latest``: a new item takes the place of one that was not fetched, which is counted in ``dropped``; otherwise
    ``put`` waits until there is room.
    """

    def __init__(self, latest: bool = False) -> None:
        self.dropped = 0
        self._latest = latest
        self._item: Optional[Item] = None
        self._changed = threading.Condition()
        self._ended = self._stopped = False

    def put(self, item: Item) -> bool:
        """Hand ``item`` over; False when the slot was stopped."""
        with self._changed:
            while self._item is not None and not self._latest and not self._stopped:
                self._changed.wait()
            if self._stopped:
                return False
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify()
            return True

    def get(self) -> Optional[Item]:
        """The item, waited for; None once no more will come."""
        with self._changed:
            while self._item is None and not self._ended and not self._stopped:
                self._changed.wait()
            item, self._item = (None if self._stopped else self._item), None
            self._changed.notify()
            return item

    def end(self) -> None:
        """No more items: what is there can still be fetched."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Wake both sides and hand nothing over any more."""
        with self._changed:
            self._stopped = True
            self._item = None
            self._changed.notify_all()
