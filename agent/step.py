"""The next thing to do for one allocation: a pure function of what is wanted, what was done and what is seen.

The runner carries the action out, notes what came of it in `State` and `Seen`, and asks again, until the answer is
`Idle`. Every action may be interrupted anywhere and asked for again: starts are idempotent by TaskId, stops and
removals by nature. Nothing is concluded from an engine that does not answer: what it runs is UNKNOWN, and an unknown
task is neither restarted nor reported as ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.drivers.protocol import Exit
from agent.restarts import restart_at_ms
from agent.state import Desired, Presence, Run, Seen, Stage, State, TaskSeen
from moorage.wire.spec_pb2 import GroupSpec
from moorage.wire.store_pb2 import FAILED, STOPPED, Phase

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to do before `until_ms` (None: before something changes)."""

    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """Ask the engine what it runs."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Images, cgroup and namespace."""

    tasks: Names


@dataclass(frozen=True, slots=True)
class Start:
    tasks: Names


@dataclass(frozen=True, slots=True)
class Kick:
    """End one task that runs but is unhealthy; its end is then treated as any other."""

    task: str
    why: str


@dataclass(frozen=True, slots=True)
class BeginEnd:
    """Write down that the allocation ends, and as what."""

    ends_as: Phase.ValueType
    message: str


@dataclass(frozen=True, slots=True)
class Stop:
    tasks: Names
    at_once: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """No process is left: say so, give back namespace and cgroup."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Remove the ended containers, and with them their logs."""


Action = Idle | Look | Prepare | Start | Kick | BeginEnd | Stop | Ended | Clear


def step(desired: Desired, state: State, seen: Seen, now_ms: int) -> Action:
    if state.stage is Stage.GONE:
        return Idle()
    if seen.retry_at_ms > now_ms:
        return Idle(seen.retry_at_ms)
    if any(task.presence is Presence.UNKNOWN for task in seen.tasks.values()):
        return Look()
    if state.stage is Stage.ENDED:
        return Clear() if state.ends_as == STOPPED or desired.clear else Idle()
    if state.stage is Stage.ENDING:
        return _end(desired, seen)
    if not desired.run:
        return BeginEnd(STOPPED, desired.reason)
    if desired.spec is None:
        return Idle()
    return _keep_running(desired.spec, state, seen, now_ms)


def _end(desired: Desired, seen: Seen) -> Action:
    running = tuple(name for name, task in seen.tasks.items() if task.presence is Presence.RUNNING)
    return Stop(running, desired.at_once) if running else Ended()


def _keep_running(spec: GroupSpec, state: State, seen: Seen, now_ms: int) -> Action:
    names = [task.name for task in spec.tasks]
    for name in names:
        if given_up := _given_up(spec, name, state.runs.get(name), seen.tasks[name], now_ms):
            return BeginEnd(FAILED, given_up)
    if seen.blocked:
        return Idle()
    for name in names:
        task = seen.tasks[name]
        if task.presence is Presence.RUNNING and task.unhealthy:
            return Kick(name, task.unhealthy)
    return _start_what_is_due(names, spec, state, seen, now_ms)


def _start_what_is_due(names: Iterable[str], spec: GroupSpec, state: State, seen: Seen, now_ms: int) -> Action:
    at = {name: due_ms(spec, state.runs.get(name), seen.tasks[name], now_ms) for name in names}
    waiting = {name: when for name, when in at.items() if when is not None}
    due = tuple(name for name, when in waiting.items() if when <= now_ms)
    if not due:
        return Idle(min(waiting.values(), default=None))
    return Start(due) if seen.prepared else Prepare(due)


def due_ms(spec: GroupSpec, run: Run | None, task: TaskSeen, now_ms: int) -> int | None:
    """When the task is to be started; None where it is running or its restarts are used up."""
    if task.presence is Presence.ABSENT:
        return now_ms
    if task.presence is not Presence.ENDED or run is None or run.exit is None:
        return None
    return restart_at_ms(spec.restart, run.restarts, run.exit.finished_ms, now_ms)


def _given_up(spec: GroupSpec, name: str, run: Run | None, task: TaskSeen, now_ms: int) -> str:
    """Why the allocation fails on this node; "" while there is hope."""
    if task.hopeless:
        return f"{name}: {task.hopeless}"
    if task.presence is not Presence.ENDED or run is None or run.exit is None:
        return ""
    if restart_at_ms(spec.restart, run.restarts, run.exit.finished_ms, now_ms) is not None:
        return ""
    how = f"{name}: {run.exit.message}" if run.exit.message else f"{name} {how_it_ended(run.exit)}"
    if not spec.restart.attempts:
        return how
    what = "tried again" if run.exit.message and not run.engine_id else "restarted"
    times = "once" if len(run.restarts) == 1 else f"{len(run.restarts)} times"
    return f"{how}; {what} {times} within {spec.restart.interval_ms / 1000:g} s"


def how_it_ended(exit: Exit) -> str:
    if exit.oom_killed:
        return "was killed for exceeding its memory limit"
    if exit.message:
        return exit.message
    return f"exited with code {exit.code}"
