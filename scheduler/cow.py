"""Maps that are copied by sharing, so that a snapshot of a million allocations costs microseconds.

Both sides of a copy give up ownership of the parts; who writes to a part that is not its own copies that part first.
A part that two sides share is therefore never written to, and may be read from another thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

V = TypeVar("V")

SHARDS = 1024


class CowMap(Generic[V]):
    """Text to V, in shards."""

    __slots__ = ("_owned", "_shards")

    def __init__(self) -> None:
        self._shards: list[dict[str, V]] = [{}] * SHARDS
        self._owned = bytearray(SHARDS)

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def __iter__(self) -> Iterator[str]:
        for shard in self._shards:
            yield from shard

    def get(self, key: str) -> V | None:
        return self._shards[hash(key) % SHARDS].get(key)

    def put(self, key: str, value: V) -> None:
        self._own(hash(key) % SHARDS)[key] = value

    def pop(self, key: str) -> V | None:
        shard = hash(key) % SHARDS
        return self._own(shard).pop(key) if key in self._shards[shard] else None

    def copy(self) -> CowMap[V]:
        other: CowMap[V] = CowMap.__new__(CowMap)
        other._shards = self._shards.copy()
        other._owned = bytearray(SHARDS)
        self._owned = bytearray(SHARDS)
        return other

    def _own(self, shard: int) -> dict[str, V]:
        if not self._owned[shard]:
            self._shards[shard] = self._shards[shard].copy()
            self._owned[shard] = 1
        return self._shards[shard]


class HostPorts:
    """Which rows (nodes) use which port, and how often: port -> row -> uses."""

    __slots__ = ("_owned", "_rows")

    def __init__(self) -> None:
        self._rows: dict[int, dict[int, int]] = {}
        self._owned: set[int] = set()

    def used(self, port: int, row: int) -> bool:
        rows = self._rows.get(port)
        return rows is not None and row in rows

    def rows(self, port: int) -> list[int]:
        return list(self._rows.get(port, ()))

    def add(self, port: int, row: int) -> bool:
        """True if the port was free there."""
        rows = self._own(port)
        uses = rows[row] = rows.get(row, 0) + 1
        return uses == 1

    def remove(self, port: int, row: int) -> bool:
        """True if the port is free there now. It must have been added before."""
        rows = self._own(port)
        rows[row] -= 1
        if rows[row]:
            return False
        del rows[row]
        if not rows:
            del self._rows[port]
            self._owned.discard(port)
        return True

    def copy(self) -> HostPorts:
        other = HostPorts.__new__(HostPorts)
        other._rows = self._rows.copy()
        other._owned = set()
        self._owned = set()
        return other

    def _own(self, port: int) -> dict[int, int]:
        if port not in self._owned:
            self._rows[port] = dict(self._rows.get(port, ()))
            self._owned.add(port)
        return self._rows[port]
