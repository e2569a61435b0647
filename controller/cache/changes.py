"""What subscribers of the cache are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from controller.store.protocol import KeyValue


class Kept(Protocol):
    """What is kept in another form than the store's, and can be put together again."""

    def kv(self) -> KeyValue: ...


Held = KeyValue | Kept


class Change:
    """One key that differs: `kind` is the first part of the key (job, alloc, status …). A deletion has no `new`.

    Most values are never looked at, so one that the cache keeps in its own form is put together when it is asked for.
    """

    __slots__ = ("_new", "_old", "key", "kind")

    def __init__(self, kind: str, key: str, old: Held | None, new: Held | None) -> None:
        self.kind = kind
        self.key = key
        self._old = old
        self._new = new

    @property
    def created(self) -> bool:
        """The key was not there before."""
        return self._old is None

    @property
    def deleted(self) -> bool:
        return self._new is None

    @property
    def old(self) -> KeyValue | None:
        return _value(self._old)

    @property
    def new(self) -> KeyValue | None:
        return _value(self._new)


def _value(held: Held | None) -> KeyValue | None:
    return held if held is None or isinstance(held, KeyValue) else held.kv()


Subscriber = Callable[[Sequence[Change]], None]
