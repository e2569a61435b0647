"""The state of one call of place(): a snapshot, and what has been placed since on top of it.

The snapshot itself is never written to. Ties between nodes are broken by a rank drawn from the seed and the node ids
alone, so that neither the order in which nodes arrived nor the machine matters.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from scheduler.snapshot import AUTO_PORTS, AUTO_USED, CAPACITY, KNOWN, SCHEDULABLE, USED, Snapshot
from scheduler.table import Bools, Ints
from scheduler.types import Request


class Trial:
    __slots__ = (
        "_snapshot",
        "_taken",
        "auto_used",
        "capacity",
        "known",
        "placed",
        "rank",
        "schedulable",
        "seed",
        "table",
        "used",
    )

    def __init__(self, snapshot: Snapshot, seed: int) -> None:
        self._snapshot = snapshot
        self._taken: dict[int, set[int]] = {}  # port -> rows, since the snapshot
        self.seed = seed
        self.table = snapshot.table
        self.capacity: list[Ints] = [snapshot.column(CAPACITY + line) for line in range(3)]
        self.used: list[Ints] = [snapshot.column(USED + line).copy() for line in range(3)]
        self.auto_used: Ints = snapshot.column(AUTO_USED).copy()
        self.known: Bools = snapshot.column(KNOWN) != 0
        self.schedulable: Bools = snapshot.column(SCHEDULABLE) != 0
        self.placed: dict[tuple[str, str], dict[int, int]] = {}  # (job, group) -> row -> how many
        self.rank: Ints = self._ranks()

    def port_used(self, port: int, row: int) -> bool:
        return row in self._taken.get(port, ()) or self._snapshot.ports.used(port, row)

    def port_rows(self, port: int) -> list[int]:
        return [*self._snapshot.ports.rows(port), *self._taken.get(port, ())]

    def members(self, request: Request) -> dict[int, int]:
        """Live allocations of the request's group by row, those placed in this call included."""
        rows = self.table.rows
        found = {rows[node]: count for node, count in request.members.items() if count and node in rows}
        for row, count in self.placed.get((request.job_uid, request.group), {}).items():
            found[row] = found.get(row, 0) + count
        return found

    def take(self, row: int, request: Request, index: int) -> dict[str, int]:
        """Reserve a feasible row for one slot; returns the ports it got."""
        for line, amount in zip(self.used, wanted(request), strict=True):
            line[row] += amount
        placed = self.placed.setdefault((request.job_uid, request.group), {})
        placed[row] = placed.get(row, 0) + 1
        ports = {name: port for name, port in request.host_ports.items() if port}
        for port in ports.values():
            self._take_port(port, row)
        for name in sorted(name for name, port in request.host_ports.items() if not port):
            ports[name] = self._free_port(row, f"{request.job_uid}/{request.group}/{index}/{name}")
            self._take_port(ports[name], row)
        return ports

    def _take_port(self, port: int, row: int) -> None:
        self._taken.setdefault(port, set()).add(row)
        if port in AUTO_PORTS:
            self.auto_used[row] += 1

    def _free_port(self, row: int, name: str) -> int:
        """The first free one from a start that depends on seed and name: neighbours seldom meet, and never move."""
        digest = blake2b(f"{self.seed}/{name}".encode(), digest_size=8).digest()
        start = int.from_bytes(digest, "big")
        return next(
            port
            for step in range(len(AUTO_PORTS))
            if not self.port_used(port := AUTO_PORTS[(start + step) % len(AUTO_PORTS)], row)
        )

    def _ranks(self) -> Ints:
        """A permutation of the rows by splitmix64 over the hash of the id (Steele, Lea and Flood, 2014)."""
        mixed = self.table.hash_column() ^ np.uint64(self.seed * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        ranks = np.empty(len(mixed), dtype=np.int64)
        ranks[np.argsort(mixed ^ (mixed >> np.uint64(31)))] = np.arange(len(mixed))
        return ranks


def wanted(request: Request) -> tuple[int, int, int]:
    """In the order of Trial's lines."""
    return request.cpu_millis, request.memory_bytes, request.disk_bytes
