"""What the engine's listing means for one task: adopt what runs, finish what is half done, never run it twice.

Pure. The journal knows which run of a task was last announced; the engine knows what exists. A run that the journal
has not heard of is adopted when it is newer, and removed when it is older.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.drivers.protocol import Exit, Handle, Observed
from agent.state import Presence, Run


@dataclass(frozen=True, slots=True)
class Finding:
    """`run` is the journal's row as it should be now (None: there is none); `leftovers` are to be removed."""

    presence: Presence
    run: Run | None = None
    handle: Handle | None = None
    leftovers: tuple[Handle, ...] = ()


def judge(found: Sequence[Observed], run: Run | None, *, rebooted: bool, now_ms: int) -> Finding:
    """`found`: all runs of the task that the engine has, oldest first."""
    announced = run.number if run is not None else 0
    newest = found[-1] if found and found[-1].handle.id.run >= announced else None
    leftovers = tuple(observed.handle for observed in found if observed is not newest)
    if newest is None:
        return _nothing_there(run, leftovers, rebooted=rebooted, now_ms=now_ms)
    known = run if run is not None and run.number == newest.handle.id.run else _unheard_of(newest, run)
    if newest.running:
        known = replace(known, engine_id=newest.handle.engine_id, exit=None)
        known.started_ms = known.started_ms or newest.started_ms or now_ms
        return Finding(Presence.RUNNING, known, newest.handle, leftovers)
    if newest.exit is None:  # made, never started: the start is idempotent and goes on from there, or it is removed
        return Finding(Presence.ABSENT, run, newest.handle, leftovers)
    if rebooted and known.exit is None:
        return Finding(Presence.ABSENT, _next(known), None, (*leftovers, newest.handle))
    ended = replace(known, engine_id=newest.handle.engine_id, exit=known.exit or newest.exit)
    return Finding(Presence.ENDED, ended, newest.handle, leftovers)


def _nothing_there(run: Run | None, leftovers: tuple[Handle, ...], *, rebooted: bool, now_ms: int) -> Finding:
    if run is None:
        return Finding(Presence.ABSENT, None, None, leftovers)
    if run.exit is not None:
        return Finding(Presence.ENDED, run, None, leftovers)
    if not run.engine_id:  # announced, not started
        return Finding(Presence.ABSENT, run, None, leftovers)
    if rebooted:
        return Finding(Presence.ABSENT, _next(run), None, leftovers)
    gone = replace(run, exit=Exit(-1, message="is gone: removed from the engine by someone else", finished_ms=now_ms))
    return Finding(Presence.ENDED, gone, None, leftovers)


def _unheard_of(observed: Observed, run: Run | None) -> Run:
    before = run or Run()
    return Run(observed.handle.id.run, started_ms=observed.started_ms, restarts=before.restarts, total=before.total)


def _next(run: Run) -> Run:
    """The end of the machine is not the task's failure: it starts again without that being counted."""
    return Run(run.number + 1, restarts=run.restarts, total=run.total)
