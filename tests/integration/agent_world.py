"""A scripted controller on a real gRPC server, and real agent processes with the fake driver.

The controller says exactly what a test tells it to, wrong things too. The engine's record (a file of JSON lines, as
`agent.drivers.fake` keeps it) is the witness of what ran when: it is read here, never the agent's own view.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc

from moorage.wire.keys import AllocKey
from moorage.wire.session_pb2 import (
    AgentMessage,
    Assignment,
    AttachFrame,
    AttachRequest,
    CompleteSet,
    ControllerMessage,
    Delta,
    DropOrphans,
    Hello,
    LogsRequest,
    Orphan,
    Position,
    Refused,
    SetRefused,
    StatusAck,
    Welcome,
)
from moorage.wire.session_pb2_grpc import AgentsServicer, add_AgentsServicer_to_server
from moorage.wire.spec_pb2 import (
    BACKOFF_CONSTANT,
    ContainerSpec,
    GroupSpec,
    Resources,
    RestartPolicy,
    StopPolicy,
    TaskSpec,
)
from moorage.wire.store_pb2 import FAILED, STOPPED, AllocStatus

ROOT = Path(__file__).parents[2]
_NOTHING: list[AttachFrame] = []
FOREVER = ("sleep", "100000")


def restart_policy(attempts: int = 1000, delay_ms: int = 20) -> RestartPolicy:
    return RestartPolicy(
        attempts=attempts, interval_ms=600_000, delay_ms=delay_ms, backoff=BACKOFF_CONSTANT, max_delay_ms=delay_ms
    )


def group(*commands: Iterable[str], restart: RestartPolicy | None = None) -> GroupSpec:
    tasks = [
        TaskSpec(
            name=f"task{number}",
            container=ContainerSpec(image="busybox:1", command=list(command)),
            resources=Resources(cpu_millis=10, memory_bytes=1 << 20),
            stop=StopPolicy(signal="TERM", timeout_ms=1000),
        )
        for number, command in enumerate(commands or [FOREVER])
    ]
    return GroupSpec(name="web", tasks=tasks, restart=restart or restart_policy())


def assignment(index: int, attempt: int = 1, spec: GroupSpec | None = None, *, job: str = "shop") -> Assignment:
    key = AllocKey(f"uid-{job}", "web", index, attempt)
    return Assignment(
        alloc=key.id,
        project="default",
        job=job,
        job_uid=key.job_uid,
        group="web",
        index=index,
        attempt=attempt,
        version=1,
        spec=spec or group(),
    )


def stopped(told: Assignment, reason: str = "scaled down") -> Assignment:
    said = Assignment()
    said.CopyFrom(told)
    said.ClearField("spec")
    said.stop, said.stop_reason = True, reason
    return said


class ScriptedController(AgentsServicer):
    """`assignments` is what complete sets hold; every session gets a higher epoch, every change a higher revision."""

    def __init__(self) -> None:
        self.cluster_id = "cluster-1"
        self.generation = 1
        self.epoch = 0
        self.revision = 100
        self.assignments: dict[str, Assignment] = {}
        self.orphan_grace_ms = 60_000
        self.heartbeat_ms = 200
        self.lost_after_ms = 2000
        self.refuse: Refused | None = None  # instead of a welcome
        self.mute = False
        self.before_set: list[ControllerMessage] = []
        self.position: Callable[[Position], Position] = lambda position: position
        self.hellos: list[Hello] = []
        self.refusals: list[SetRefused] = []
        self.statuses: dict[str, AllocStatus] = {}
        self.history: list[AllocStatus] = []
        self.orphans: list[Orphan] = []
        self.heartbeats = 0
        self.done = 0
        self.streams: dict[str, asyncio.Queue[AttachFrame]] = {}
        self.port = 0
        self._queues: set[asyncio.Queue[ControllerMessage]] = set()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server()
        add_AgentsServicer_to_server(self, self._server)  # type: ignore[no-untyped-call,unused-ignore]
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def connected(self) -> int:
        return len(self._queues)

    def assign(self, *changed: Assignment) -> None:
        self.change(changed)

    def change(self, changed: Iterable[Assignment], forgotten: Iterable[str] = ()) -> None:
        """Into the set, and as a delta to who is connected."""
        changed, forgotten = list(changed), list(forgotten)
        for told in changed:
            self.assignments[told.alloc] = told
        for alloc in forgotten:
            self.assignments.pop(alloc, None)
        self.revision += 1
        self.send(ControllerMessage(delta=Delta(position=self.now(), changed=changed, forgotten=forgotten)))

    def drop(self, *allocs: str) -> None:
        self.send(ControllerMessage(drop=DropOrphans(allocs=allocs)))

    def send(self, message: ControllerMessage) -> None:
        for queue in self._queues:
            queue.put_nowait(message)

    async def logs(self, alloc: str, task: str = "") -> list[AttachFrame]:
        """Asks the agent to dial, and collects what comes."""
        stream = f"stream-{len(self.streams)}"
        queue = self.streams[stream] = asyncio.Queue()
        wanted = LogsRequest(alloc=alloc, task=task, tail=-1)
        self.send(ControllerMessage(attach=AttachRequest(stream_id=stream, logs=wanted)))
        frames: list[AttachFrame] = []
        while not frames or not frames[-1].end:
            frames.append(await asyncio.wait_for(queue.get(), 10))
        return frames

    def now(self) -> Position:
        return self.position(Position(generation=self.generation, epoch=self.epoch, revision=self.revision, term="t"))

    def ended(self, alloc: str) -> bool:
        status = self.statuses.get(alloc)
        return status is not None and status.phase in (STOPPED, FAILED)

    async def Session(self, request_iterator: Any, context: Any) -> AsyncIterator[ControllerMessage]:
        message = await anext(aiter(request_iterator))
        self.hellos.append(message.hello)
        if self.refuse is not None:
            yield ControllerMessage(refused=self.refuse)
            return
        self.epoch += 1
        welcome = Welcome(
            cluster_id=self.cluster_id,
            position=self.now(),
            heartbeat_ms=self.heartbeat_ms,
            lost_after_ms=self.lost_after_ms,
            orphan_grace_ms=self.orphan_grace_ms,
        )
        yield ControllerMessage(welcome=welcome)
        queue: asyncio.Queue[ControllerMessage] = asyncio.Queue()
        for early in self.before_set:
            yield early
        everything = list(self.assignments.values())
        half = len(everything) // 2
        position = self.now()
        yield ControllerMessage(set=CompleteSet(position=position, assignments=everything[:half]))
        yield ControllerMessage(set=CompleteSet(position=position, assignments=everything[half:], last=True))
        self._queues.add(queue)
        reading = asyncio.create_task(self._read(request_iterator, queue))
        try:
            while True:
                taking = asyncio.ensure_future(queue.get())
                await asyncio.wait([taking, reading], return_when=asyncio.FIRST_COMPLETED)
                if not taking.done():
                    taking.cancel()
                    return
                if not self.mute:
                    yield taking.result()
        finally:
            self._queues.discard(queue)
            reading.cancel()

    async def _read(self, messages: AsyncIterator[AgentMessage], queue: asyncio.Queue[ControllerMessage]) -> None:
        async for message in messages:
            match message.WhichOneof("message"):
                case "statuses":
                    for status in message.statuses.statuses:
                        self._note(status)
                    queue.put_nowait(ControllerMessage(ack=StatusAck(serial=message.statuses.serial)))
                case "refused":
                    self.refusals.append(message.refused)
                case "orphans":
                    self.orphans = list(message.orphans.orphans)
                case "heartbeat":
                    self.heartbeats += 1
                case "done":
                    self.done = message.done.revision

    def _note(self, status: AllocStatus) -> None:
        self.history.append(status)
        known = self.statuses.get(status.alloc)
        if known is None or known.serial < status.serial:
            self.statuses[status.alloc] = status

    async def Attach(self, request_iterator: Any, context: Any) -> AsyncIterator[AttachFrame]:
        first = await anext(aiter(request_iterator))
        async for frame in request_iterator:
            self.streams[first.stream_id].put_nowait(frame)
        for frame in _NOTHING:
            yield frame


@dataclass(frozen=True)
class Witness:
    """The engine's own record of what ran."""

    path: Path

    def running(self) -> set[str]:
        """Names of tasks that run now."""
        return set(self._replay()[0])

    def places(self) -> dict[str, tuple[str, ...]]:
        """Of the tasks that run now: name -> job's uid, group, index, task."""
        return self._replay()[0]

    @property
    def starts(self) -> list[str]:
        """All that ever ran, in order."""
        return self._replay()[1]

    @property
    def doubles(self) -> list[str]:
        """Where two attempts or runs of one task ran at once."""
        return self._replay()[2]

    def _replay(self) -> tuple[dict[str, tuple[str, ...]], list[str], list[str]]:
        live: dict[str, tuple[str, ...]] = {}
        starts: list[str] = []
        doubles: list[str] = []
        for entry in self._entries():
            if "start" in entry:
                name, key = entry["start"], _place(entry)
                doubles += [f"{name} beside {other}" for other, place in live.items() if place == key]
                starts.append(name)
                live[name] = key
            else:
                live.pop(entry.get("end") or entry["remove"], None)
        return live, starts, doubles

    def _entries(self) -> list[dict[str, Any]]:
        text = self.path.read_text() if self.path.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def _place(entry: dict[str, Any]) -> tuple[str, ...]:
    """Slot and task: of these there may never be two at once."""
    names = ("moorage.job_uid", "moorage.group", "moorage.index", "moorage.task")
    return tuple(entry["labels"][name] for name in names)


class Reachable(Protocol):
    @property
    def address(self) -> str:
        """For agents; several with commas."""
        ...


class AgentProcess:
    """`patch` is Python text that runs in the agent before its main, as a build that differs would."""

    def __init__(
        self,
        folder: Path,
        controller: Reachable,
        *,
        name: str = "n1",
        patch: str = "",
        token: str = "moor_x_y",
        arguments: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.witness = Witness(folder / "engine.jsonl")
        self._controller = controller
        self._name = name
        self._patch = patch
        self._token = token
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def journal(self) -> Path:
        return self.folder / "data" / "journal.db"

    async def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments = [
            *("--controllers", self._controller.address, "--token", self._token, "--driver", "fake"),
            *("--data-dir", str(self.folder / "data"), "--run-dir", str(self.folder / "run")),
            *("--node-name", self._name, "--log-format", "json", "--reconnect-cap", "0.2"),
            *("--fake-state", str(self.witness.path), "--fake-start", "0.005"),
            *self._arguments,
        ]
        code = f"import sys\n{self._patch}\nfrom agent.main import command\nsys.exit(command({arguments!r}))"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (self.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, cwd=ROOT, stdout=log, stderr=log, env=environment
            )

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self._process.wait()

    async def ended(self) -> int:
        """Its exit code, when it ends by itself."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), 15)

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    def reboot(self) -> None:
        """What a machine forgets when it restarts; to be called while the agent is down."""
        (self.folder / "run" / "boot").unlink()
        for name in self.witness.running():
            with self.witness.path.open("a") as record:
                record.write(json.dumps({"end": name, "code": 137, "oom": False, "at": 1}) + "\n")

    def rewrite_journal(self, statement: str) -> None:
        """To be called while the agent is down."""
        with closing(sqlite3.connect(self.journal)) as database:
            database.execute(statement)
            database.commit()

    def log(self) -> str:
        return (self.folder / "log").read_text()


async def until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Polls; AssertionError names what did not come."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 — the condition is about files and other processes
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never came: {what}") from None
