"""The cache's tables: one for each kind of key, all with the same few operations.

A table answers in KeyValues, as the store does, whatever it keeps inside; so the cache compares, repairs and announces
changes without knowing kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

import structlog
from google.protobuf.message import DecodeError

from controller.cache import metrics
from controller.store.protocol import KeyValue

log = structlog.get_logger()

T = TypeVar("T")


class Table(Protocol):
    def put(self, kv: KeyValue) -> KeyValue | None:
        """Take over a value; returns the one before."""
        ...

    def delete(self, key: str) -> KeyValue | None:
        """Returns what was there."""
        ...

    def get(self, key: str) -> KeyValue | None: ...

    def revision(self, key: str) -> int:
        """Of the key's last change; 0 where there is no such key. Cheaper than `get`."""
        ...

    def keys(self) -> Iterator[str]: ...


class RawTable:
    """Kinds that are few, or read as they are."""

    def __init__(self) -> None:
        self.items: dict[str, KeyValue] = {}

    def put(self, kv: KeyValue) -> KeyValue | None:
        old = self.items.get(kv.key)
        self.items[kv.key] = kv
        return old

    def delete(self, key: str) -> KeyValue | None:
        return self.items.pop(key, None)

    def get(self, key: str) -> KeyValue | None:
        return self.items.get(key)

    def revision(self, key: str) -> int:
        kv = self.items.get(key)
        return kv.revision if kv else 0

    def keys(self) -> Iterator[str]:
        return iter(list(self.items))


class DecodedTable(RawTable, Generic[T]):
    """Raw values and, once somebody asked, what they mean; forgotten with the value. Unreadable ones mean nothing."""

    def __init__(self, decode: Callable[[bytes], T]) -> None:
        super().__init__()
        self._decode = decode
        self._decoded: dict[str, T] = {}
        self._unreadable: dict[str, int] = {}  # the revision that nobody can read

    def put(self, kv: KeyValue) -> KeyValue | None:
        self._decoded.pop(kv.key, None)
        return super().put(kv)

    def delete(self, key: str) -> KeyValue | None:
        self._decoded.pop(key, None)
        self._unreadable.pop(key, None)
        return super().delete(key)

    def value(self, key: str) -> T | None:
        if (known := self._decoded.get(key)) is not None:
            return known
        kv = self.items.get(key)
        if kv is None or self._unreadable.get(key) == kv.revision:
            return None
        try:
            self._decoded[key] = value = self._decode(kv.value)
        except DecodeError as error:
            self._unreadable[key] = kv.revision
            metrics.UNREADABLE.inc()
            log.error("a stored value cannot be read and is left out", key=key, error=repr(error))
            return None
        return value

    def values(self) -> Iterator[tuple[KeyValue, T]]:
        """Of those that can be read, in no order."""
        for key in list(self.items):
            if (value := self.value(key)) is not None:
                yield self.items[key], value
