"""What goes into a job's diff and what comes out: plain values, so that deciding needs neither store nor clock.

An `Attempt` joins an allocation's record (what is wanted) with its newest status (what is). A node that no `nodes`
entry speaks of was forgotten: what ran there counts as ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from moorage.wire.keys import AllocKey
from moorage.wire.store_pb2 import HEALTH_UNKNOWN, PHASE_UNSPECIFIED, GroupState, Health, Phase


@dataclass(frozen=True, slots=True)
class Reschedule:
    """How failed attempts are replaced. `attempts` None: for ever."""

    attempts: int | None = None
    delay_ms: int = 5_000
    exponential: bool = True
    max_delay_ms: int = 600_000
    never: bool = False  # restart.mode is fail
    reset_ms: int = 50_000  # healthy for so long: earlier failures are forgiven
    outlived_ms: int = 350_000  # lived for so long, whatever its health at the end: forgiven too


@dataclass(frozen=True, slots=True)
class GroupPolicy:
    """What the current version of a job asks of one group. Numbers given as percentages are resolved."""

    count: int
    template_hash: bytes
    max_parallel: int = 1
    min_healthy_ms: int = 10_000
    max_unavailable: int = 1
    replace_after_ms: int | None = 30_000  # None: never
    reschedule: Reschedule = field(default_factory=Reschedule)


@dataclass(slots=True)
class Attempt:
    """One allocation as it is known now. Times are Unix milliseconds, 0 for never."""

    key: AllocKey
    id: str
    revision: int
    node: str
    version: int
    template_hash: bytes
    stop: bool = False
    failures: int = 0  # of the slot in a row before this attempt
    created_ms: int = 0
    abandoned: str = ""  # the plan whose commit mark is missing: it was never handed out
    phase: Phase.ValueType = PHASE_UNSPECIFIED
    health: Health.ValueType = HEALTH_UNKNOWN
    changed_ms: int = 0
    healthy_since_ms: int = 0
    message: str = ""  # why it ended, or what keeps it from being healthy


@dataclass(frozen=True, slots=True)
class NodeFact:
    name: str
    phase: Literal["ready", "lost", "unknown"] = "ready"
    lost_since_ms: int = 0
    draining: bool = False
    state_revision: int = 0


@dataclass(frozen=True, slots=True)
class JobInput:
    """`floors`: per group, the highest attempt number of collected records; no slot goes below it again.

    Nor below `base`, which rises with each accepted restore: agents may have seen attempts that the backup has not.
    """

    uid: str
    version: int
    groups: Mapping[str, GroupPolicy]
    attempts: Sequence[Attempt]
    nodes: Mapping[str, NodeFact]
    floors: Mapping[str, int] = field(default_factory=dict)
    base: int = 0
    deleting: bool = False
    keep_failed_ms: int = 3_600_000


@dataclass(frozen=True, slots=True)
class Place:
    """Fill a slot by a new attempt. What it `replaces` is marked as stopped in the same transaction."""

    key: AllocKey
    failures: int = 0
    avoid: tuple[str, ...] = ()  # nodes where this slot failed: the last choice
    replaces: Attempt | None = None
    lost: bool = False  # `replaces` is on a lost node, which must still be lost then
    because: str = ""  # why the one before is replaced: its stop reason, where none was said yet


@dataclass(frozen=True, slots=True)
class Stop:
    attempt: Attempt
    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that ended by itself."""

    attempt: Attempt
    message: str


@dataclass(slots=True)
class Decision:
    """The difference between what a job wants and what is. `later_ms`: when time alone may change it."""

    place: list[Place] = field(default_factory=list)
    stop: list[Stop] = field(default_factory=list)
    update: list[Attempt] = field(default_factory=list)  # run the same template under the current version
    collect: list[Attempt] = field(default_factory=list)  # records that nothing needs any more
    floors: dict[str, int] = field(default_factory=dict)  # those that `collect` raises
    failures: list[Failure] = field(default_factory=list)
    groups: list[GroupState] = field(default_factory=list)
    later_ms: int | None = None
    finished: bool = False  # a deleted job of which nothing runs any more: remove every trace

    @property
    def acts(self) -> bool:
        return bool(self.place or self.stop or self.update or self.collect or self.finished)

    def again_at(self, when_ms: int) -> None:
        self.later_ms = when_ms if self.later_ms is None else min(self.later_ms, when_ms)
