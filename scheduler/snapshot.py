"""The nodes and what is used on them, as integer columns, kept in step change by change.

The controller's cache is its only writer. Each change costs O(1). `copy` is cheap (one block of integers; everything
else is shared until one side writes, see scheduler.cow), so that each scheduling turn can take one and leave the event
loop. An allocation may arrive before its node, and a node may go before its allocations: its row stays, unseen by
placement, until both are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scheduler.cow import CowMap, HostPorts
from scheduler.table import Ints, NodeTable

AUTO_PORTS = range(20_000, 32_000)

# Lines of the block of integers; CPU, MEMORY and DISK of what is used follow those of the capacity.
CAPACITY, USED = 0, 3
KNOWN, SCHEDULABLE, AUTO_USED, ALLOCS = 6, 7, 8, 9
LINES = 10


class Held(NamedTuple):
    """What one allocation takes of its node."""

    row: int
    cpu_millis: int
    memory_bytes: int
    disk_bytes: int
    ports: tuple[int, ...]


class Snapshot:
    __slots__ = ("_block", "_free", "_held", "_ports", "_shared", "_table")

    def __init__(self) -> None:
        self._block: NDArray[np.int64] = np.zeros((LINES, 16), dtype=np.int64)
        self._table = NodeTable()
        self._shared = False  # the table belongs to a copy, too
        self._free: list[int] = []
        self._held: CowMap[Held] = CowMap()
        self._ports = HostPorts()

    def set_node(
        self,
        id: str,
        name: str,
        cpu_millis: int,
        memory_bytes: int,
        disk_bytes: int,
        attributes: Mapping[str, str],
        drivers: Iterable[str],
        schedulable: bool,
        why_not: str = "",
    ) -> None:
        """A node as it is now. `why_not` says in a user's words why it is not schedulable: "cordoned"."""
        row = self._row(id)
        facts = (name, why_not, frozenset(drivers), attributes)
        if facts != self._facts(row):
            self._own_table().describe(row, *facts)
        self._block[CAPACITY:USED, row] = (cpu_millis, memory_bytes, disk_bytes)
        self._block[KNOWN, row] = 1
        self._block[SCHEDULABLE, row] = schedulable

    def remove_node(self, id: str) -> None:
        row = self._table.rows.get(id)
        if row is None:
            return
        self._block[[KNOWN, SCHEDULABLE], row] = 0
        self._vacate(row)

    def add_alloc(
        self,
        alloc_id: str,
        node: str,
        cpu_millis: int,
        memory_bytes: int,
        disk_bytes: int,
        ports: Iterable[int] = (),
    ) -> None:
        """An allocation counts on its node from now on; one that is known is replaced."""
        self.remove_alloc(alloc_id)
        row = self._row(node)
        held = Held(row, cpu_millis, memory_bytes, disk_bytes, tuple(ports))
        self._held.put(alloc_id, held)
        self._count(held, 1)
        for port in held.ports:
            if self._ports.add(port, row) and port in AUTO_PORTS:
                self._block[AUTO_USED, row] += 1

    def remove_alloc(self, alloc_id: str) -> None:
        held = self._held.pop(alloc_id)
        if held is None:
            return
        self._count(held, -1)
        for port in held.ports:
            if self._ports.remove(port, held.row) and port in AUTO_PORTS:
                self._block[AUTO_USED, held.row] -= 1
        self._vacate(held.row)

    def copy(self) -> Snapshot:
        """Independent of this one from now on; may be read from another thread."""
        other = Snapshot.__new__(Snapshot)
        other._block = self._block.copy()
        other._table = self._table
        other._shared = self._shared = True
        other._free = self._free.copy()
        other._held = self._held.copy()
        other._ports = self._ports.copy()
        return other

    @property
    def table(self) -> NodeTable:
        return self._table

    @property
    def ports(self) -> HostPorts:
        return self._ports

    @property
    def nodes(self) -> int:
        """How many nodes there are, schedulable or not."""
        return int(self._block[KNOWN].sum())

    @property
    def allocs(self) -> int:
        return len(self._held)

    def column(self, line: int) -> Ints:
        """One of the lines above, over the rows of the table."""
        return self._block[line, : len(self._table)]

    def used(self, node: str) -> tuple[int, int, int]:
        """Millicores, bytes of memory, bytes of disk reserved on a node."""
        row = self._table.rows.get(node)
        if row is None:
            return 0, 0, 0
        cpu, memory, disk = self._block[USED:KNOWN, row].tolist()
        return cpu, memory, disk

    def _count(self, held: Held, sign: int) -> None:
        block, row = self._block, held.row
        block[USED, row] += sign * held.cpu_millis
        block[USED + 1, row] += sign * held.memory_bytes
        block[USED + 2, row] += sign * held.disk_bytes
        block[ALLOCS, row] += sign

    def _facts(self, row: int) -> tuple[str, str, frozenset[str], Mapping[str, str]]:
        table = self._table
        return table.names[row], table.why_not[row], table.drivers[row], table.attributes[row]

    def _row(self, node: str) -> int:
        row = self._table.rows.get(node)
        if row is None:
            row = self._free.pop() if self._free else len(self._table)
            if row == self._block.shape[1]:
                self._block = np.concatenate([self._block, np.zeros_like(self._block)], axis=1)
            self._own_table().assign(row, node)
        return row

    def _vacate(self, row: int) -> None:
        if self._block[KNOWN, row] or self._block[ALLOCS, row]:
            return
        self._own_table().vacate(row)
        self._block[:, row] = 0
        self._free.append(row)

    def _own_table(self) -> NodeTable:
        if self._shared:
            self._table = self._table.fork()
            self._shared = False
        return self._table
