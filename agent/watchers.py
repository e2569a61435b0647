"""What is listened to while an allocation's tasks run: their ends, and their health checks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from agent import health
from agent.drivers.protocol import Exit, Handle
from agent.expand import expand_all
from agent.host import Host
from agent.journal import Row
from agent.launch import variables
from agent.state import Presence, Seen, TaskSeen
from moorage.wire.spec_pb2 import HealthCheck
from moorage.wire.store_pb2 import HEALTHY, UNHEALTHY

Probe = Callable[[], Awaitable[None]]


class Watchers:
    def __init__(
        self, row: Row, seen: Seen, host: Host, ended: Callable[[str, Exit], None], health_changed: Callable[[], None]
    ) -> None:
        self._row = row
        self._seen = seen
        self._host = host
        self._tell_ended = ended
        self._tell_health = health_changed
        self._waits: dict[str, asyncio.Task[Any]] = {}
        self._checks: dict[str, tuple[HealthCheck, asyncio.Task[Any]]] = {}

    def running(self, name: str, task: TaskSeen) -> None:
        """`task` has a handle, and the health that is known of it."""
        assert task.handle is not None
        self._waits[name] = self._host.owner.start(self._wait(name, task.handle), f"wait/{task.handle.id.name}")
        self._check(name, task)

    def ended(self, name: str, handle: Handle, end: Exit) -> None:
        """Heard from a wait or from a stop, whichever comes first."""
        task = self._seen.tasks[name]
        if task.handle != handle or task.presence is not Presence.RUNNING:
            return
        self._stop_check(name)
        self._tell_ended(name, end)

    def check_again(self) -> None:
        """The spec may have other checks now."""
        for name, task in self._seen.tasks.items():
            if task.presence is Presence.RUNNING and self._wanted(name) != self._checks.get(name, (None, None))[0]:
                self._stop_check(name)
                self._check(name, task)

    def close(self) -> None:
        for name in list(self._checks):
            self._stop_check(name)
        for wait in self._waits.values():
            wait.cancel()
        self._waits.clear()

    async def _wait(self, name: str, handle: Handle) -> None:
        end = await self._host.engine.wait(handle)
        self.ended(name, handle, end)

    def _wanted(self, name: str) -> HealthCheck | None:
        for task in self._row.assignment.spec.tasks:
            if task.name == name and task.HasField("health") and task.health.WhichOneof("probe"):
                return task.health
        return None

    def _check(self, name: str, task: TaskSeen) -> None:
        check = self._wanted(name)
        if check is None:
            task.health = HEALTHY
            return
        host, verdict = self._host, health.Verdict(task.health)
        loop = health.watch(check, self._probe(check, task), host.clock, host.rng, partial(self._heard, task), verdict)
        self._checks[name] = (check, host.owner.start(loop, f"health/{self._row.assignment.alloc}/{name}"))

    def _stop_check(self, name: str) -> None:
        if name in self._checks:
            self._checks.pop(name)[1].cancel()

    def _heard(self, task: TaskSeen, verdict: health.Verdict) -> None:
        task.health = verdict.health
        task.unhealthy = f"unhealthy: {verdict.why}" if verdict.health == UNHEALTHY else ""
        self._tell_health()

    def _probe(self, check: HealthCheck, task: TaskSeen) -> Probe:
        host, assignment = self._host, self._row.assignment
        open_socket = partial(host.attachments.socket, assignment.alloc, assignment.spec.network)
        limited = partial(health.within, check.timeout_ms)
        match check.WhichOneof("probe"):
            case "http":
                port, path = self._port(check.http.port), check.http.path
                return partial(limited, partial(health.http, open_socket, port, path, list(check.http.status)))
            case "tcp":
                return partial(limited, partial(health.tcp, open_socket, self._port(check.tcp.port)))
            case _:
                assert task.handle is not None
                run = partial(host.engine.driver.run, task.handle)
                arguments = expand_all(check.exec.command, variables(assignment, host.identity))
                return partial(health.command, run, arguments, check.timeout_ms / 1000)

    def _port(self, name: str) -> int:
        assignment = self._row.assignment
        if name in assignment.ports:
            return assignment.ports[name]
        return next((port.number for port in assignment.spec.ports if port.name == name), 0)
