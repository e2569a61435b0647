"""What an allocation's runner knows: what is wanted, what was done (journalled), and what the engine shows.

Desired and observed are two tables, and `agent.step` is their difference. `State` is the part that outlives the
process; its stage only moves forward.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from agent.drivers.protocol import Exit, Handle
from moorage.wire.spec_pb2 import GroupSpec
from moorage.wire.store_pb2 import HEALTH_UNKNOWN, PHASE_UNSPECIFIED, Health, Phase


class Stage(IntEnum):
    LIVE = 0
    ENDING = 1  # its end has begun: no way back
    ENDED = 2  # no process of it is left
    GONE = 3  # nothing of it is left


@dataclass(frozen=True, slots=True)
class Desired:
    """`spec` is None for an allocation rebuilt from labels, until a set brings it."""

    spec: GroupSpec | None
    run: bool = True
    reason: str = ""
    at_once: bool = False  # without shutdown delay: nobody counts on it any more
    clear: bool = False  # remove what a failed allocation would keep for its logs


@dataclass(slots=True)
class Run:
    """The newest run of one task on this node. Its number and restarts are written before it is started."""

    number: int = 0
    engine_id: str = ""
    started_ms: int = 0
    restarts: tuple[int, ...] = ()
    total: int = 0
    exit: Exit | None = None


@dataclass(slots=True)
class State:
    stage: Stage = Stage.LIVE
    ends_as: Phase.ValueType = PHASE_UNSPECIFIED
    message: str = ""
    running_since_ms: int = 0  # when all its tasks first ran
    runs: dict[str, Run] = field(default_factory=dict)


class Presence(IntEnum):
    UNKNOWN = 0  # the engine has to be asked
    ABSENT = 1
    RUNNING = 2
    ENDED = 3


@dataclass(slots=True)
class TaskSeen:
    presence: Presence = Presence.UNKNOWN
    handle: Handle | None = None
    health: Health.ValueType = HEALTH_UNKNOWN
    unhealthy: str = ""  # why it is to be restarted though it runs
    hopeless: str = ""  # why starting it again cannot help
    doing: str = ""  # progress, in the user's words


@dataclass(slots=True)
class Seen:
    """Of one allocation. `blocked` says why nothing of it may be started now ("" where it may)."""

    tasks: dict[str, TaskSeen] = field(default_factory=dict)
    prepared: bool = False
    blocked: str = ""
    retry_at_ms: int = 0  # after trouble that is not the allocation's own: an engine or a disk that is away
    trouble: str = ""
