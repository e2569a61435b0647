"""Clusters to place on, in a line or two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scheduler import Placement, Request, Snapshot, place

GIB = 1 << 30
MIB = 1 << 20


def add_node(
    snapshot: Snapshot,
    name: str,
    *,
    cpu: int = 4000,
    memory: int = 8 * GIB,
    disk: int = 100 * GIB,
    attributes: Mapping[str, str] | None = None,
    drivers: Sequence[str] = ("docker",),
    why_not: str = "",
) -> None:
    snapshot.set_node(f"id-{name}", name, cpu, memory, disk, attributes or {}, drivers, not why_not, why_not)


def cluster(nodes: int, **options: Any) -> Snapshot:
    snapshot = Snapshot()
    for number in range(1, nodes + 1):
        add_node(snapshot, f"h{number}", **options)
    return snapshot


def request(count: int = 1, **options: Any) -> Request:
    values: dict[str, Any] = {
        "job_uid": "job",
        "group": "web",
        "indexes": range(count),
        "cpu_millis": 250,
        "memory_bytes": 64 * MIB,
        "disk_bytes": 0,
    }
    return Request(**{**values, **options})


def placed(snapshot: Snapshot, wish: Request, seed: int = 1) -> list[Placement]:
    """Where each slot went; all of them must have been placed."""
    (plan,) = place(snapshot, [wish], seed)
    assert not plan.rejections, plan.rejections
    return list(plan.placements)


def names(placements: Sequence[Placement]) -> list[str]:
    return [placement.node.removeprefix("id-") for placement in placements]


def reason(snapshot: Snapshot, wish: Request) -> str:
    """Why the only slot was rejected."""
    (plan,) = place(snapshot, [wish], 1)
    (rejection,) = plan.rejections
    return rejection.reason
