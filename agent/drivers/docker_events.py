"""How tasks ended: one stream of events an engine, and a comparison after every gap.

Each container of ours has an entry with a future that is resolved once: by a `die` event; or, where the stream was
interrupted (a restart of the engine) or an event got lost, by asking the engine for what still runs and inspecting
what should but does not. Events may come before the start has returned, so entries are made by whoever is first; those
that nobody claims are dropped, the oldest first.

An exit code of 137 has two meanings. The engine's word for "out of memory" comes on the same stream, sometimes just
after the death, and about a dying child before it; where it has not come, the container is inspected once, and given a
quarter of a second.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from datetime import datetime
from typing import Any

import structlog

from agent.drivers import labels
from agent.drivers.docker_engine import Engine, Refused, translated
from agent.drivers.docker_transport import Stream
from agent.drivers.protocol import EngineAway, Exit
from agent.drivers.pump import pumped
from moorage.kit.backoff import Jittered
from moorage.kit.clock import Clock
from moorage.kit.tasks import Owner

log = structlog.get_logger()

_KILLED = 137
_OOM_WINDOW_MS = 5_000
_OOM_GRACE_S = 0.25
_MAX_UNCLAIMED = 1_024
GONE = Exit(-1, message="the container was removed from the engine by somebody else")
DESTROYED = Exit(_KILLED, message="it was destroyed while it ran")


class Ended:
    """One container, and its end."""

    __slots__ = ("claimed", "end", "killed", "oom_ms")

    def __init__(self) -> None:
        self.end: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.claimed = False
        self.killed = False  # by us: 137 needs no further explanation
        self.oom_ms = 0


class Ends:
    def __init__(
        self,
        engine: Engine,
        cluster: str,
        node: str,
        clock: Clock,
        tasks: Owner,
        *,
        resync_s: float = 60.0,
        on_connect: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._filter = {"label": [f"{labels.CLUSTER}={cluster}", f"{labels.NODE}={node}"]}
        self._clock = clock
        self._tasks = tasks
        self._resync_s = resync_s
        self._on_connect = on_connect
        self._backoff = Jittered(random.Random(), base_s=0.1, cap_s=1.0)
        self._entries: dict[str, Ended] = {}
        self._unclaimed: dict[str, None] = {}
        self._away = False

    def claim(self, engine_id: str) -> Ended:
        """From now on its end is remembered until `forget`."""
        entry = self._entry(engine_id)
        entry.claimed = True
        self._unclaimed.pop(engine_id, None)
        return entry

    def forget(self, engine_id: str) -> None:
        entry = self._entries.pop(engine_id, None)
        self._unclaimed.pop(engine_id, None)
        if entry is not None:
            _resolve(entry, DESTROYED)

    def ended(self, engine_id: str, end: Exit) -> None:
        """Seen by somebody else."""
        _resolve(self._entry(engine_id), end)

    async def wait(self, engine_id: str) -> Exit:
        """However long the engine is away meanwhile."""
        entry = self._entries.get(engine_id)
        if entry is None or not entry.claimed:
            entry = self.claim(engine_id)
            try:
                await self._look_at(engine_id)
            except EngineAway:
                pass  # the comparison after the reconnect will tell
        return await asyncio.shield(entry.end)

    async def run(self) -> None:
        """Follow the engine for ever."""
        while True:
            try:
                await self._follow()
            except* (EngineAway, Refused) as away:
                self._say_away(away.exceptions[0])
            await self._clock.sleep(self._backoff.next_s())

    async def compare(self) -> None:
        """Find the ends that no event told."""
        waiting = [engine_id for engine_id, entry in self._entries.items() if entry.claimed and not entry.end.done()]
        if not waiting:
            return
        running = await self._engine.run(self._running)
        for engine_id in waiting:
            if engine_id not in running:
                await self._look_at(engine_id)

    async def _follow(self) -> None:
        """One connection, from its opening to its end, which raises EngineAway."""
        await self._engine.run(self._engine.negotiate)
        filters = json.dumps({**self._filter, "type": ["container"], "event": ["die", "oom"]})
        stream = await self._engine.open(self._engine.stream, "GET", "/events", "events", params={"filters": filters})
        self._on_connect()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._compare_now_and_then(), name="docker/compare")
            async with aclosing(pumped(lambda: lines_of(stream), stream.close, name="docker-events")) as lines:
                await self._take_all(lines)
            raise EngineAway("the container engine closed its stream of events")

    async def _take_all(self, lines: AsyncIterator[bytes]) -> None:
        async for line in lines:
            if line:
                self._take(json.loads(line))

    async def _compare_now_and_then(self) -> None:
        await self.compare()
        self._say_back()
        while True:
            await self._clock.sleep(self._resync_s)
            await self.compare()

    def _take(self, event: dict[str, Any]) -> None:
        engine_id, at_ms = str(event["Actor"]["ID"]), int(event["timeNano"]) // 1_000_000
        entry = self._entry(engine_id)
        if event["Action"] == "oom":
            entry.oom_ms = at_ms
            return
        code = int(event["Actor"]["Attributes"].get("exitCode", 0))
        if code != _KILLED or entry.killed or _recent_oom(entry, at_ms):
            _resolve(entry, Exit(code, _recent_oom(entry, at_ms), finished_ms=at_ms))
        else:
            self._tasks.start(self._explain_kill(engine_id, entry, at_ms), f"explain {engine_id[:12]}")

    async def _explain_kill(self, engine_id: str, entry: Ended, at_ms: int) -> None:
        try:
            state = await self._engine.run(self._state, engine_id)
            if not (state and state.get("OOMKilled")) and not entry.oom_ms:
                await self._clock.sleep(_OOM_GRACE_S)
        except (EngineAway, Refused):
            state = None
        out_of_memory = bool(state and state.get("OOMKilled")) or _recent_oom(entry, at_ms)
        _resolve(entry, Exit(_KILLED, out_of_memory, finished_ms=at_ms))

    async def never_ran(self, engine_id: str) -> bool:
        """Whether it was made and not started. How it ended, where it has, is learnt by the way."""
        return await self._look_at(engine_id) == "created"

    async def _look_at(self, engine_id: str) -> str:
        """Its state, in the engine's words."""
        state = await self._engine.run(self._state, engine_id)
        entry = self._entry(engine_id)
        if state is None:
            _resolve(entry, GONE)
        elif (end := exit_of(state)) is not None:
            _resolve(entry, Exit(end.code, end.oom_killed or bool(entry.oom_ms), end.message, end.finished_ms))
        return str(state["Status"]) if state is not None else ""

    def _running(self) -> set[str]:
        params = {"filters": json.dumps(self._filter)}
        return {str(found["Id"]) for found in self._engine.json("GET", "/containers/json", "list", params=params)}

    def _state(self, engine_id: str) -> dict[str, Any] | None:
        try:
            found = self._engine.json("GET", f"/containers/{engine_id}/json", "inspect")
        except Refused as refused:
            if refused.status == 404:
                return None
            raise EngineAway(refused.message) from refused
        return dict(found["State"])

    def _entry(self, engine_id: str) -> Ended:
        entry = self._entries.get(engine_id)
        if entry is None:
            entry = self._entries[engine_id] = Ended()
            self._unclaimed[engine_id] = None
            self._drop_oldest()
        return entry

    def _drop_oldest(self) -> None:
        if len(self._unclaimed) > _MAX_UNCLAIMED:
            oldest = next(iter(self._unclaimed))
            del self._unclaimed[oldest], self._entries[oldest]

    def _say_away(self, error: BaseException) -> None:
        if not self._away:
            log.warning("container engine is away", socket=self._engine.socket_path, error=str(error))
        self._away = True

    def _say_back(self) -> None:
        self._backoff.reset()
        if self._away:
            log.info("container engine is back", socket=self._engine.socket_path)
        self._away = False


def lines_of(stream: Stream) -> Iterator[bytes]:
    with translated("events"):
        yield from stream.lines()


def exit_of(state: dict[str, Any]) -> Exit | None:
    """From an inspected container's State; None while it runs or has never run."""
    if state.get("Status") not in ("exited", "dead"):
        return None
    code = int(state["ExitCode"])
    out_of_memory = bool(state.get("OOMKilled")) and code != 0
    return Exit(code, out_of_memory, str(state.get("Error") or ""), unix_ms(str(state.get("FinishedAt", ""))))


def unix_ms(text: str) -> int:
    """The engine's times have nine digits after the point; its zero is the year 1."""
    if not text or text.startswith("0001-"):
        return 0
    seconds, _, fraction = text.removesuffix("Z").partition(".")
    moment = datetime.fromisoformat(f"{seconds}+00:00")
    return int(moment.timestamp()) * 1000 + int((fraction + "000")[:3])


def _recent_oom(entry: Ended, at_ms: int) -> bool:
    return bool(entry.oom_ms) and at_ms - entry.oom_ms <= _OOM_WINDOW_MS


def _resolve(entry: Ended, end: Exit) -> None:
    if not entry.end.done():
        entry.end.set_result(end)
