"""What goes into a placement and what comes out: plain values, shared with whoever asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Operator = Literal[
    "=", "!=", "in", "not_in", "<", ">", "<=", ">=", "exists", "not_exists", "regexp", "version", "set_contains"
]


@dataclass(frozen=True, slots=True)
class Constraint:
    attribute: str
    operator: Operator
    value: str | tuple[str, ...] = ""


@dataclass(frozen=True, slots=True)
class Affinity:
    attribute: str
    operator: Operator
    value: str | tuple[str, ...]
    weight: int  # -100..100


@dataclass(frozen=True, slots=True)
class Spread:
    """Over the values of an attribute ("node.id" for level node), evenly or towards target shares in percent."""

    attribute: str
    targets: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """`indexes` slots of one group, alike in everything but their index.

    `pids` is told for completeness and not scheduled: it is a limit that protects a host from a runaway task, not a
    reservation, and a host's own limit is far above the sum of what its tasks really use.
    """

    job_uid: str
    group: str
    indexes: Sequence[int]
    cpu_millis: int
    memory_bytes: int
    disk_bytes: int
    pids: int = 0
    constraints: Sequence[Constraint] = ()
    affinity: Sequence[Affinity] = ()
    spread: Sequence[Spread] = ()
    distinct_hosts: bool = False
    host_ports: Mapping[str, int] = field(default_factory=dict)  # name -> number; 0: a free one
    strategy: Literal["best_fit", "spread", "least_fragmentation"] = "best_fit"
    drivers: Sequence[str] = ("docker",)
    avoid: Mapping[int, Sequence[str]] = field(
        default_factory=dict
    )  # index -> node ids where it last failed: last choice
    members: Mapping[str, int] = field(default_factory=dict)  # node id -> live allocations of this group there


@dataclass(frozen=True, slots=True)
class Placement:
    index: int
    node: str
    ports: Mapping[str, int]
    why: str  # "best fit of 3 nodes: 41 % of cpu, 22 % of memory used after"


@dataclass(frozen=True, slots=True)
class Rejection:
    """`reason` is for users: "3 nodes: memory short by 120 MiB; 1: cordoned"."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Of one Request, in its order; every index is in one of the two."""

    request: Request
    placements: Sequence[Placement]
    rejections: Sequence[Rejection]


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """What one node says to one more slot: its score in parts, or everything that speaks against it."""

    node: str
    name: str
    fits: bool
    score: int
    reason: str
