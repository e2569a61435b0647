"""A driver without an engine, held to the same contract as the real ones.

For tests of everything above the drivers, and for benchmarks with thousands of allocations on one machine: a running
task costs one small object, no task of the event loop and no timer, unless its command ends by itself. It understands
the few commands that tests give to containers: `sleep N`, `true`, `false`, and `sh -c` with `echo`, `sleep`, `exit` and
`trap '' SIGNAL` or `trap 'exit N' SIGNAL`. `nope` exists in no image; every other program runs for ever.

The engine outlives its drivers, as a real one does; with `state` it outlives the process. It can be told to be away,
to be slow, to fail, and to kill.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.drivers import labels
from agent.drivers.protocol import (
    Attachment,
    DriverError,
    DriverFacts,
    EngineAway,
    Exit,
    Handle,
    Launch,
    LogChunk,
    Netns,
    Observed,
    Progress,
    TaskId,
    TaskUsage,
)
from moorage.kit.clock import Clock, SystemClock
from moorage.kit.tasks import Owner
from moorage.wire.spec_pb2 import PULL_NEVER, TaskSpec

MISSING_COMMANDS = frozenset(["nope"])
_FOR_EVER_S = 600.0
_SIGNALS = {"HUP": 1, "INT": 2, "QUIT": 3, "KILL": 9, "USR1": 10, "USR2": 12, "TERM": 15}


@dataclass(slots=True)
class FakeTask:
    id: TaskId
    labels: dict[str, str]
    started_ms: int
    exit: Exit | None = None
    netns: str = ""
    output: list[LogChunk] = field(default_factory=list)
    ignored: frozenset[str] = frozenset()
    trapped: dict[str, int] = field(default_factory=dict)  # signal -> exit code
    changed: asyncio.Event | None = None  # made by the first who waits


class FakeEngine:
    """What runs. One for all drivers of a node, before and after a restart of the agent."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        start_s: float = 0.0,
        prepare_s: float = 0.0,
        state: Path | None = None,
        missing_images: Sequence[str] = (),
        fail: Callable[[Launch], DriverError | None] = lambda launch: None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.start_s = start_s
        self.prepare_s = prepare_s
        self.missing_images = set(missing_images)
        self.fail = fail
        self.tasks: dict[str, FakeTask] = {}
        self.starts = 0
        self._away = False
        self._record = _Record(state) if state else None
        if self._record:
            self.tasks = self._record.load()

    @property
    def away(self) -> bool:
        return self._away

    @away.setter
    def away(self, away: bool) -> None:
        """What happens while it is away is told when it is back."""
        self._away = away
        if not away:
            for task in self.tasks.values():
                _tell(task)

    def check(self) -> None:
        if self._away:
            raise EngineAway("the fake engine is away")

    def add(self, name: str, task: FakeTask) -> None:
        self.tasks[name] = task
        self.starts += 1
        if self._record:
            self._record.write({"start": name, "id": _plain(task.id), "labels": task.labels, "at": task.started_ms})

    def kill(self, name: str, code: int = 137, *, oom_killed: bool = False) -> None:
        """The task dies, whoever did it; a dead one stays as it died."""
        task = self.tasks[name]
        if task.exit is not None:
            return
        task.exit = Exit(code, oom_killed, finished_ms=self.clock.now_ms())
        if self._record:
            self._record.write({"end": name, "code": code, "oom": oom_killed, "at": task.exit.finished_ms})
        if not self._away:
            _tell(task)

    def remove(self, name: str) -> None:
        task = self.tasks.pop(name, None)
        if task is None:
            return
        task.exit = task.exit or Exit(137, finished_ms=self.clock.now_ms())
        _tell(task)
        if self._record:
            self._record.write({"remove": name})


class FakeDriver:
    name = "fake"

    def __init__(self, engine: FakeEngine, cluster: str = "test", node: str = "test") -> None:
        self.engine = engine
        self._cluster = cluster
        self._node = node
        self._scripts = Owner("fake")

    async def fingerprint(self) -> DriverFacts:
        if self.engine.away:
            return DriverFacts(healthy=False, missing={"fake": "the fake engine is away"})
        return DriverFacts(healthy=True, attributes={"fake.version": "1"})

    async def prepare(self, spec: TaskSpec) -> AsyncGenerator[Progress, None]:
        self.engine.check()
        image = spec.container.image
        if self.engine.prepare_s:
            yield Progress(f"pulling {image}")
            await self.engine.clock.sleep(self.engine.prepare_s)
        if image in self.engine.missing_images:
            why = "its pull policy is never" if spec.container.pull == PULL_NEVER else "no registry answered"
            raise DriverError(f"image {image} is not on this node, and {why}", retry=spec.container.pull != PULL_NEVER)

    async def start(self, launch: Launch, attachment: Attachment) -> Handle:
        self.engine.check()
        handle = Handle(launch.id, self.name, launch.id.name)
        if handle.engine_id in self.engine.tasks:
            return handle
        if self.engine.start_s:
            await self.engine.clock.sleep(self.engine.start_s)
            self.engine.check()
        if (error := self.engine.fail(launch)) is not None:
            raise error
        self._run(handle.engine_id, launch, attachment)
        return handle

    async def recover(self) -> list[Observed]:
        self.engine.check()
        return [
            Observed(self._handle(name, task), task.exit is None, task.exit, task.labels, started_ms=task.started_ms)
            for name, task in self.engine.tasks.items()
            if task.labels[labels.CLUSTER] == self._cluster and task.labels[labels.NODE] == self._node
        ]

    async def wait(self, handle: Handle) -> Exit:
        task = self.engine.tasks.get(handle.engine_id)
        if task is None:
            return Exit(-1, message="the task was removed from the engine by somebody else")
        while task.exit is None or self.engine.away:
            task.changed = task.changed or asyncio.Event()
            task.changed.clear()
            await task.changed.wait()
        return task.exit

    async def signal(self, handle: Handle, signal: str) -> None:
        self.engine.check()
        task = self.engine.tasks.get(handle.engine_id)
        name = signal.removeprefix("SIG")
        if name not in _SIGNALS:
            raise DriverError(f"signal {signal} could not be sent: there is none of that name", retry=False)
        if task is not None and name not in task.ignored:
            self.engine.kill(handle.engine_id, task.trapped.get(name, 128 + _SIGNALS[name]))

    async def stop(self, handle: Handle, signal: str, timeout_s: float) -> Exit:
        await self.signal(handle, signal)
        try:
            return await asyncio.wait_for(self.wait(handle), timeout_s)
        except TimeoutError:
            await self.signal(handle, "KILL")
            return await self.wait(handle)

    async def destroy(self, handle: Handle) -> None:
        self.engine.check()
        self.engine.remove(handle.engine_id)

    async def stats(self, handle: Handle) -> TaskUsage:
        self.engine.check()
        return TaskUsage(cpu_usage_us=0, memory_bytes=1 << 20, pids=1)

    async def run(self, handle: Handle, command: Sequence[str], timeout_s: float) -> tuple[int, bytes]:
        self.engine.check()
        task = self.engine.tasks.get(handle.engine_id)
        if task is None or task.exit is not None:
            raise DriverError("the command could not be run: the task does not run")
        script = _Script(command)
        if script.seconds > timeout_s:
            await self.engine.clock.sleep(timeout_s)
            raise DriverError(f"the command did not end within {timeout_s:g} s")
        return script.code, b"".join(script.output)

    async def logs(
        self, handle: Handle, *, follow: bool, tail: int, since_ms: int, timestamps: bool
    ) -> AsyncGenerator[LogChunk, None]:
        self.engine.check()
        task = self.engine.tasks.get(handle.engine_id)
        if task is None:
            raise DriverError("its logs cannot be read: the task is gone", retry=False)
        lines = task.output if tail < 0 else task.output[len(task.output) - min(tail, len(task.output)) :]
        for line in lines:
            stamp = f"{task.started_ms} ".encode() if timestamps else b""
            yield LogChunk(line.channel, stamp + line.data)
        if follow:
            await self.wait(handle)

    async def close(self) -> None:
        await self._scripts.close()

    def _run(self, name: str, launch: Launch, attachment: Attachment) -> None:
        script = _Script([*launch.entrypoint, *launch.command])
        if script.unknown:
            raise DriverError(f'command "{script.unknown}" does not exist in image', retry=False)
        marks = {**launch.labels, labels.CLUSTER: self._cluster, labels.NODE: self._node}
        output = [LogChunk(1, line) for line in script.output]
        task = FakeTask(launch.id, marks, self.engine.clock.now_ms(), output=output, ignored=script.ignored)
        task.trapped = script.trapped
        task.netns = attachment.path if isinstance(attachment, Netns) else ""
        self.engine.add(name, task)
        if script.seconds < _FOR_EVER_S:
            self._scripts.start(self._end_later(name, script), name)

    async def _end_later(self, name: str, script: _Script) -> None:
        await self.engine.clock.sleep(script.seconds)
        if name in self.engine.tasks:
            self.engine.kill(name, script.code)

    def _handle(self, name: str, task: FakeTask) -> Handle:
        return Handle(task.id, self.name, name)


class FakeNetns:
    """Namespaces that are only names (agent.drivers.netns.NetnsProvider)."""

    def __init__(self) -> None:
        self.known: dict[str, Netns] = {}

    async def ensure(self, alloc: str) -> Netns:
        return self.known.setdefault(alloc, Netns(f"/run/fake-netns/{alloc}"))

    async def remove(self, alloc: str) -> None:
        self.known.pop(alloc, None)

    async def names(self) -> list[str]:
        return sorted(self.known)


class _Script:
    """What a command would do: how long it runs, what it prints, how it ends. No command runs for ever."""

    def __init__(self, command: Sequence[str]) -> None:
        self.seconds = 0.0 if command else _FOR_EVER_S
        self.code = 0
        self.unknown = ""
        self.output: list[bytes] = []
        self.ignored: frozenset[str] = frozenset()
        self.trapped: dict[str, int] = {}
        if list(command[:2]) == ["sh", "-c"]:
            for part in command[2].removesuffix("& wait").split(";"):
                self._do(shlex.split(part))
        else:
            self._do(list(command))

    def _do(self, words: list[str]) -> None:
        match words:
            case [] | ["true"] | ["exec", "true"]:
                pass
            case ["false"]:
                self.code = 1
            case ["exit", code]:
                self.code = int(code)
            case ["echo", *text]:
                self.output.append(" ".join(text).encode() + b"\n")
            case ["trap", "", *names]:
                self.ignored |= frozenset(names)
            case ["trap", action, *names]:
                self.trapped.update(dict.fromkeys(names, int(action.removeprefix("exit "))))
            case ["sleep" | "exec", *rest] if rest:
                self.seconds += float(rest[-1])
            case [program, *_] if program in MISSING_COMMANDS:
                self.unknown = program
            case _:
                self.seconds = _FOR_EVER_S


class _Record:
    """The running set in a file of JSON lines, written without waiting for the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def load(self) -> dict[str, FakeTask]:
        tasks: dict[str, FakeTask] = {}
        for line in self._path.read_text().splitlines() if self._path.exists() else []:
            _replay(tasks, json.loads(line))
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        return tasks

    def write(self, entry: dict[str, Any]) -> None:
        os.write(self._fd, json.dumps(entry).encode() + b"\n")


def _replay(tasks: dict[str, FakeTask], entry: dict[str, Any]) -> None:
    if "start" in entry:
        alloc, task, run = entry["id"]
        tasks[entry["start"]] = FakeTask(TaskId(alloc, task, run), entry["labels"], entry["at"])
    elif "end" in entry:
        tasks[entry["end"]].exit = Exit(entry["code"], entry["oom"], finished_ms=entry["at"])
    else:
        del tasks[entry["remove"]]


def _plain(task: TaskId) -> list[str | int]:
    return [task.alloc, task.task, task.run]


def _tell(task: FakeTask) -> None:
    if task.exit is not None and task.changed is not None:
        task.changed.set()
