"""Carries out what `step` has chosen for one allocation, and notes what came of it.

Intents are in the journal before the action: the assignment's row announces the first run of its tasks, a run's row
each later one, the stage the end. Exceptions that leave here are trouble that is not the allocation's own (an engine
that is away, a full disk): the runner waits and asks `step` again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import cached_property
from typing import Any

import structlog

from agent.adopt import Finding, judge
from agent.drivers.protocol import Attachment, DriverError, EngineAway, Exit, Handle, HostNetwork
from agent.host import Host
from agent.journal import JournalError, Row
from agent.launch import launch
from agent.metrics import RESTARTS, START_SECONDS
from agent.restarts import recent
from agent.state import Presence, Run, Seen, Stage, TaskSeen
from agent.step import Action, BeginEnd, Clear, Ended, Idle, Kick, Look, Prepare, Start, Stop
from agent.watchers import Watchers
from moorage.wire.spec_pb2 import StopPolicy, TaskSpec
from moorage.wire.store_pb2 import FAILED, HEALTH_UNKNOWN, UNHEALTHY, AllocStatus, Health

log = structlog.get_logger()

STOP_WITHOUT_SPEC = StopPolicy(signal="TERM", timeout_ms=10_000)


class Hands:
    def __init__(self, row: Row, seen: Seen, host: Host, last: AllocStatus | None, changed: Callable[[], None]) -> None:
        """`changed` is called when something happened by itself: a task ended, its health changed."""
        self._row = row
        self._seen = seen
        self._host = host
        self._last = last
        self._changed = changed
        self._arrived = host.clock.monotonic()
        self._rebooted = host.rebooted  # until the engine has been asked once
        self._attachment: Attachment = HostNetwork()  # made by every preparation
        self._preparing: asyncio.Task[Any] | None = None
        self.watchers = Watchers(row, seen, host, self._task_ended, changed)

    @cached_property
    def _log(self) -> Any:
        """Made when there is something to say."""
        names = self._row.assignment
        return log.bind(allocation=names.alloc, job=names.job, node=self._host.identity.node_name)

    @property
    def preparing(self) -> bool:
        return self._preparing is not None

    async def carry_out(self, action: Action) -> None:
        match action:
            case Look():
                await self._look()
            case Prepare(tasks):
                await self._prepare(tasks)
            case Start(tasks):
                await _all(self._start(name) for name in tasks)
            case Kick(task, why):
                self._log.warning("task unhealthy, ending it", task=task, why=why)
                await self._stop_task(task)
            case BeginEnd():
                await self._begin_end(action)
            case Stop(tasks, at_once):
                await self._stop(tasks, at_once)
            case Ended():
                await self._ended()
            case Clear():
                await self._clear()
            case Idle():
                pass

    def stop_preparing(self) -> None:
        """An image that nobody wants any more is not waited for."""
        if (task := self._preparing) is not None:
            self._preparing = None
            task.cancel()

    async def _look(self) -> None:
        inventory = await self._host.engine.look()
        for name, task in list(self._seen.tasks.items()):
            if task.presence is Presence.UNKNOWN:
                found = inventory.get((self._row.assignment.alloc, name), ())
                run = self._row.state.runs.get(name)
                finding = judge(found, run, rebooted=self._rebooted, now_ms=self._host.clock.now_ms())
                await _all(self._host.engine.destroy(handle) for handle in finding.leftovers)
                self._adopt(name, task, finding)
        self._rebooted = False

    def _adopt(self, name: str, task: TaskSeen, finding: Finding) -> None:
        task.presence, task.handle = finding.presence, finding.handle
        if finding.run is not None and finding.run != self._row.state.runs.get(name):
            self._note_run(name, finding.run)
        if finding.presence is Presence.RUNNING:
            task.health = self._health_before(name, finding.run)
            self._log.info("task adopted", task=name)
            self._now_running(name, task)

    def _health_before(self, name: str, run: Run | None) -> Health.ValueType:
        """Of a task that kept running while this agent was away: what was last reported of the same container.

        One that was to be restarted for its health is judged anew: why, only the agent before knew.
        """
        for task in self._last.tasks if self._last is not None else ():
            if task.name == name and run is not None and task.container == run.engine_id and task.health != UNHEALTHY:
                return task.health
        return HEALTH_UNKNOWN

    async def _prepare(self, tasks: tuple[str, ...]) -> None:
        """In the caller's own task, which `stop_preparing` interrupts."""
        self._preparing = asyncio.current_task()
        try:
            await self._make_ready(tasks)
        except asyncio.CancelledError:
            if self._preparing is not None:
                raise
            _uncancel()
        finally:
            self._preparing = None

    async def _make_ready(self, tasks: tuple[str, ...]) -> None:
        assignment = self._row.assignment
        self._attachment = await self._host.attachments.attach(assignment.alloc, assignment.spec.network)
        fetched = [await self._fetch(name) for name in tasks]
        self._seen.prepared = all(fetched)

    async def _fetch(self, name: str) -> bool:
        task = self._seen.tasks[name]
        try:
            async for progress in self._host.engine.prepare(self._spec(name)):
                task.doing = progress.message
                self._changed()
        except EngineAway:
            raise
        except DriverError as error:
            self._failed_to_start(name, self._tried(name), error)
            return False
        finally:
            task.doing = ""
        return True

    def _tried(self, name: str) -> Run:
        """Preparing anew counts as a restart does: it takes longer each time, and then another node may have a try."""
        run = self._row.state.runs.get(name) or Run()
        if self._seen.tasks[name].presence is not Presence.ENDED:
            return run
        now = self._host.clock.now_ms()
        return replace(run, restarts=(*recent(self._row.assignment.spec.restart, run.restarts, now), now))

    async def _start(self, name: str) -> None:
        assignment, task = self._row.assignment, self._seen.tasks[name]
        run = self._row.state.runs.get(name) or Run()
        if task.presence is Presence.ENDED:
            self._attachment = await self._host.attachments.attach(assignment.alloc, assignment.spec.network)
            run = await self._next_run(name, run, task)
        parent = self._host.attachments.cgroup_parent(assignment.alloc)
        what = launch(assignment, self._spec(name), run.number, parent, self._host.identity)
        if run.number == 0:
            START_SECONDS.observe(self._host.clock.monotonic() - self._arrived)
        try:
            handle = await self._host.engine.start(what, self._attachment)
        except EngineAway:
            task.presence = Presence.UNKNOWN
            raise
        except DriverError as error:
            self._failed_to_start(name, run, error)
            return
        task.presence, task.handle, task.health = Presence.RUNNING, handle, HEALTH_UNKNOWN
        self._note_run(name, replace(run, engine_id=handle.engine_id, started_ms=self._host.clock.now_ms()))
        self._log.info("task started", task=name, run=run.number)
        self._now_running(name, task)

    async def _next_run(self, name: str, run: Run, task: TaskSeen) -> Run:
        """Count the restart, and write it down before anything is done."""
        now = self._host.clock.now_ms()
        counted = (*recent(self._row.assignment.spec.restart, run.restarts, now), now)
        following = Run(run.number + 1, restarts=counted, total=run.total + 1)
        self._host.journal.put_run(self._row.assignment.alloc, name, following)
        await self._host.journal.flush()
        if task.handle is not None:
            await self._host.engine.destroy(task.handle)
        self._row.state.runs[name] = following
        task.presence, task.handle, task.unhealthy = Presence.ABSENT, None, ""
        RESTARTS.inc()
        return following

    def _failed_to_start(self, name: str, run: Run, error: DriverError) -> None:
        self._log.warning("task not started", task=name, run=run.number, error=str(error))
        now = self._host.clock.now_ms()
        task = self._seen.tasks[name]
        task.presence, task.handle = Presence.ENDED, None
        task.hopeless = "" if error.retry else str(error)
        self._seen.prepared = False  # what was made ready may be what is missing now
        self._note_run(name, replace(run, exit=Exit(-1, message=str(error), finished_ms=now)))

    def _note_run(self, name: str, run: Run) -> None:
        self._row.state.runs[name] = run
        self._host.journal.put_run(self._row.assignment.alloc, name, run)

    def _now_running(self, name: str, task: TaskSeen) -> None:
        self.watchers.running(name, task)
        everyone = all(other.presence is Presence.RUNNING for other in self._seen.tasks.values())
        if everyone and not self._row.state.running_since_ms:
            self._row.state.running_since_ms = self._host.clock.now_ms()
            self._host.journal.put_state(self._row)

    def _task_ended(self, name: str, end: Exit) -> None:
        task, run = self._seen.tasks[name], self._row.state.runs[name]
        finished = end.finished_ms or self._host.clock.now_ms()
        seen_end = Exit(end.code, end.oom_killed, task.unhealthy or end.message, finished)
        task.presence, task.health, task.unhealthy = Presence.ENDED, HEALTH_UNKNOWN, ""
        self._note_run(name, replace(run, exit=seen_end))
        self._log.info("task ended", task=name, run=run.number, code=end.code, oom_killed=end.oom_killed)
        self._changed()

    async def _begin_end(self, action: BeginEnd) -> None:
        """Written down first, except where nothing can be written: an end must not wait for disk space."""
        state = self._row.state
        state.stage, state.ends_as, state.message = Stage.ENDING, action.ends_as, action.message
        self._host.journal.put_state(self._row)
        self._log.info("ending", failed=action.ends_as == FAILED, reason=action.message)
        try:
            await self._host.journal.flush()
        except JournalError as error:
            self._log.warning("ending without the journal", error=str(error))

    async def _stop(self, tasks: tuple[str, ...], at_once: bool) -> None:
        delay_ms = self._row.assignment.spec.shutdown_delay_ms
        if delay_ms and not at_once and self._row.state.ends_as != FAILED:
            await self._host.clock.sleep(delay_ms / 1000)
        await _all(self._stop_task(name) for name in tasks)

    async def _stop_task(self, name: str) -> None:
        task = self._seen.tasks[name]
        if (handle := task.handle) is None or task.presence is not Presence.RUNNING:
            return
        spec = next((spec for spec in self._row.assignment.spec.tasks if spec.name == name), None)
        policy = spec.stop if spec is not None else STOP_WITHOUT_SPEC
        end = await self._host.engine.stop(handle, policy.signal or "TERM", policy.timeout_ms / 1000)
        self.watchers.ended(name, handle, end)

    async def _ended(self) -> None:
        """A namespace that cannot be given back now is given back by `_clear`."""
        self._row.state.stage = Stage.ENDED
        self.watchers.close()
        self._host.journal.put_state(self._row)
        if self._row.state.ends_as == FAILED:
            await self._host.attachments.detach(self._row.assignment.alloc)

    async def _clear(self) -> None:
        await _all(self._host.engine.destroy(handle) for handle in await self._handles())
        await self._host.attachments.detach(self._row.assignment.alloc)
        self._row.state.stage = Stage.GONE
        self._host.journal.put_state(self._row)

    async def _handles(self) -> list[Handle]:
        """All that the engine still has of this allocation; asked only where that is not certain."""
        tasks = self._seen.tasks.values()
        if all(task.handle is not None or task.presence is Presence.ABSENT for task in tasks):
            return [task.handle for task in tasks if task.handle is not None]
        inventory = await self._host.engine.look()
        alloc = self._row.assignment.alloc
        return [seen.handle for (owner, _), found in inventory.items() if owner == alloc for seen in found]

    def _spec(self, name: str) -> TaskSpec:
        return next(task for task in self._row.assignment.spec.tasks if task.name == name)


def _uncancel() -> None:
    if (task := asyncio.current_task()) is not None:
        task.uncancel()


async def _all(calls: Iterable[Awaitable[None]]) -> None:
    """All of them to their ends, and then the first failure."""
    pending = list(calls)
    if len(pending) == 1:
        await pending[0]
        return
    for result in await asyncio.gather(*pending, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
