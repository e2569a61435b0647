"""What the agent asks of a driver, for containers and VMs alike.

Drivers may block for seconds, fail, or go away and come back (a restart of dockerd): the runner must treat
`EngineAway` as "unknown", never as "stopped". One contract suite (tests/contract/test_driver.py) runs over every
driver and over the fake.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from moorage.wire.spec_pb2 import TaskSpec


class DriverError(Exception):
    """The message is for users: what failed and what to do. `retry` says whether trying again may help."""

    def __init__(self, message: str, *, retry: bool = True) -> None:
        super().__init__(message)
        self.retry = retry


class EngineAway(DriverError):
    """The engine does not answer. What it runs is unknown, not gone."""


@dataclass(frozen=True, slots=True)
class TaskId:
    """Names one run of a task: start is idempotent by it. `run` counts the restarts on this node from 0."""

    alloc: str
    task: str
    run: int

    @property
    def name(self) -> str:
        return f"moor-{self.alloc}-{self.task}-{self.run}"


@dataclass(frozen=True, slots=True)
class HostNetwork:
    """The node's own namespace."""


@dataclass(frozen=True, slots=True)
class Netns:
    """A bind-mounted network namespace, made and filled before start.

    `holder` names the container that holds it, where the engine cannot be pointed to a path and has to join that.
    """

    path: str
    holder: str = ""


Attachment = HostNetwork | Netns


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything a start needs, already expanded: no $MOOR_… is left in it."""

    id: TaskId
    spec: TaskSpec
    env: Mapping[str, str]
    command: Sequence[str]
    entrypoint: Sequence[str]
    labels: Mapping[str, str]
    cgroup_parent: str
    hostname: str
    mounts: Sequence[tuple[str, str, bool]] = ()  # (source on the node, target, read only)


@dataclass(frozen=True, slots=True)
class Handle:
    """Enough to find a started task again. Stored in the journal as (version, driver, engine_id)."""

    id: TaskId
    driver: str
    engine_id: str
    version: int = 1


@dataclass(frozen=True, slots=True)
class Exit:
    """How a task ended."""

    code: int
    oom_killed: bool = False
    message: str = ""
    finished_ms: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """A task of ours as the engine sees it."""

    handle: Handle
    running: bool
    exit: Exit | None
    labels: Mapping[str, str]
    pid: int = 0
    started_ms: int = 0


@dataclass(frozen=True, slots=True)
class TaskUsage:
    cpu_usage_us: int
    memory_bytes: int
    pids: int


@dataclass(frozen=True, slots=True)
class DriverFacts:
    """`attributes` go into the node's fingerprint; `missing` says what the host lacks and why it matters."""

    healthy: bool
    attributes: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """Of a preparation, in the user's words ("pulling shop:3: 12 of 48 MiB")."""

    message: str


class Driver(Protocol):
    name: str

    async def fingerprint(self) -> DriverFacts: ...

    def prepare(self, spec: TaskSpec) -> AsyncIterator[Progress]:
        """Make what start needs (the image) be there. Raises DriverError: missing image, credentials, no disk."""
        ...

    async def start(self, launch: Launch, attachment: Attachment) -> Handle:
        """Idempotent by `launch.id`: a task that already runs under that id is returned as it is."""
        ...

    async def recover(self) -> list[Observed]:
        """Everything of this node and cluster that the engine knows, running or ended."""
        ...

    async def wait(self, handle: Handle) -> Exit:
        """Returns when the task has ended, however long the engine is away meanwhile."""
        ...

    async def signal(self, handle: Handle, signal: str) -> None: ...

    async def stop(self, handle: Handle, signal: str, timeout_s: float) -> Exit:
        """Signal, wait, kill. Returns when it has ended; a task that is gone already is no error."""
        ...

    async def destroy(self, handle: Handle) -> None:
        """Remove what is left of an ended task; a task that is gone already is no error."""
        ...

    async def stats(self, handle: Handle) -> TaskUsage: ...

    async def close(self) -> None: ...


class ExecDriver(Protocol):
    """A driver that can also run a command inside a task (health checks, later `moor exec`)."""

    async def run(self, handle: Handle, command: Sequence[str], timeout_s: float) -> tuple[int, bytes]:
        """Exit code and the first 4 KiB of its output."""
        ...


@dataclass(frozen=True, slots=True)
class LogChunk:
    channel: int  # 1 stdout, 2 stderr
    data: bytes


class LogsDriver(Protocol):
    """A driver that keeps what tasks print."""

    def logs(
        self, handle: Handle, *, follow: bool, tail: int, since_ms: int, timestamps: bool
    ) -> AsyncIterator[LogChunk]: ...
