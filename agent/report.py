"""From what a runner knows to the status that users read.

The phase only moves forward: once all tasks of an allocation have run at once it stays RUNNING, whatever restarts,
until its end begins; what happens to single tasks is told by their own states and by the health. A task that cannot
be seen (the engine is away) keeps the state it was last seen in.
"""

from __future__ import annotations

from agent.drivers.protocol import Exit
from agent.journal import Row
from agent.state import Presence, Run, Seen, Stage, TaskSeen
from agent.step import how_it_ended
from moorage.wire.store_pb2 import (
    HEALTH_UNKNOWN,
    HEALTHY,
    PENDING,
    PREPARING,
    RUNNING,
    STOPPING,
    UNHEALTHY,
    AllocStatus,
    Health,
    Phase,
    TaskStatus,
)


def build_status(row: Row, seen: Seen, message: str, last: AllocStatus | None, now_ms: int) -> AllocStatus | None:
    """The new status, with a higher serial; None where nothing has changed since `last`."""
    if seen.trouble and last is not None and any(t.presence is Presence.UNKNOWN for t in seen.tasks.values()):
        return None
    status = _status(row, seen, message)
    status.healthy_since_ms = _healthy_since_ms(status, last, now_ms)
    if last is not None:
        status.serial, status.changed_ms = last.serial, last.changed_ms
        if status == last:
            return None
    status.serial = max(now_ms, last.serial + 1 if last is not None else 0)
    status.changed_ms = now_ms
    return status


def _status(row: Row, seen: Seen, message: str) -> AllocStatus:
    assignment = row.assignment
    live = row.state.stage is Stage.LIVE
    tasks = [_task_status(name, row.state.runs.get(name), task, live) for name, task in seen.tasks.items()]
    return AllocStatus(
        alloc=assignment.alloc,
        phase=_phase(row, seen),
        health=_health(row, seen),
        message=row.state.message or message or next((t.doing for t in seen.tasks.values() if t.doing), ""),
        tasks=tasks,
        version=assignment.version,
        job_uid=assignment.job_uid,
        group=assignment.group,
        index=assignment.index,
        attempt=assignment.attempt,
        running_since_ms=row.state.running_since_ms,
    )


def _phase(row: Row, seen: Seen) -> Phase.ValueType:
    state = row.state
    if state.stage >= Stage.ENDED:
        return state.ends_as
    if state.stage is Stage.ENDING:
        return STOPPING
    if state.running_since_ms:
        return RUNNING
    return PENDING if seen.blocked and not any(t.handle for t in seen.tasks.values()) else PREPARING


def _health(row: Row, seen: Seen) -> Health.ValueType:
    if row.state.stage is not Stage.LIVE or not row.state.running_since_ms:
        return HEALTH_UNKNOWN
    healths = [t.health if t.presence is Presence.RUNNING else UNHEALTHY for t in seen.tasks.values()]
    if UNHEALTHY in healths:
        return UNHEALTHY
    return HEALTHY if all(health == HEALTHY for health in healths) else HEALTH_UNKNOWN


def _healthy_since_ms(status: AllocStatus, last: AllocStatus | None, now_ms: int) -> int:
    """Where it is not healthy: when its last healthy time began, which tells how long it did well before it failed."""
    before = last.healthy_since_ms if last is not None else 0
    if status.health != HEALTHY:
        return before
    return before if last is not None and last.health == HEALTHY else now_ms


def _task_status(name: str, run: Run | None, task: TaskSeen, live: bool) -> TaskStatus:
    run = run or Run()
    status = TaskStatus(
        name=name,
        state=_task_state(task, live),
        restarts=run.total,
        started_ms=run.started_ms,
        container=run.engine_id,
        health=task.health if task.presence is Presence.RUNNING else HEALTH_UNKNOWN,
        message=task.hopeless or task.unhealthy or task.doing,
    )
    if task.presence is Presence.ENDED and run.exit is not None:
        _add_exit(status, run.exit)
    return status


def _task_state(task: TaskSeen, live: bool) -> str:
    if task.hopeless:
        return "failed"
    if task.presence is Presence.RUNNING:
        return "running"
    if task.presence is Presence.ENDED:
        return "backoff" if live else "exited"
    return "pulling" if task.doing else "waiting"


def _add_exit(status: TaskStatus, end: Exit) -> None:
    status.exit_code = end.code
    status.oom_killed = end.oom_killed
    status.finished_ms = end.finished_ms
    status.message = status.message or how_it_ended(end)
