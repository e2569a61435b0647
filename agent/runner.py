"""The runner of one allocation: asks `step` what to do, has it done, and asks again, until there is nothing to do.

There is a task only while there is work; between that a runner is a few small objects and, for each of its tasks that
runs, a wait at the driver. Trouble that is not the allocation's own (an engine that is away, a full disk) is waited
out, with backoff, and changes nothing that is known.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from agent.desired import Circumstances, changes_at_ms, desired
from agent.drivers.protocol import DriverError
from agent.hands import Hands
from agent.host import Host
from agent.journal import JournalError, Row
from agent.report import build_status
from agent.state import Desired, Presence, Seen, Stage, TaskSeen
from agent.step import Action, Clear, Idle, Stop, step
from moorage.kit.backoff import delay_ms
from moorage.wire.store_pb2 import PREPARING, STOPPING, AllocStatus

QUIET_MS = 300  # a start or stop that takes less is reported only once it is done
PROGRESS_MS = 1000

log = structlog.get_logger()


class Neighbours(Protocol):
    """What a runner asks of the table it is in."""

    @property
    def inventoried(self) -> bool: ...

    def circumstances(self, row: Row) -> Circumstances: ...

    def blocked(self, row: Row) -> str: ...

    def gone(self, row: Row) -> None: ...


class Runner:
    def __init__(self, row: Row, host: Host, neighbours: Neighbours, *, fresh: bool, last: AllocStatus | None) -> None:
        """`fresh`: nothing of it can be running yet. `last`: its newest status."""
        self.row = row
        self.seen = Seen()
        self.last = last
        self._host = host
        self._neighbours = neighbours
        self._arrived_ms = host.clock.now_ms()
        self._turning: asyncio.Task[None] | None = None
        self._alarm: asyncio.Task[None] | None = None
        self._troubles = 0
        self._stops_slowly = False
        self._hands = Hands(row, self.seen, host, last, self._changed)
        self._learn_tasks(Presence.ABSENT if fresh else Presence.UNKNOWN)

    def poke(self) -> None:
        """Something changed. May be called any number of times."""
        if self._turning is None or self._turning.done():
            self._turning = self._host.owner.start(self._turns(), f"alloc/{self.row.assignment.alloc}")
        elif self._hands.preparing and not self._desired().run:
            self._hands.stop_preparing()

    def reassigned(self) -> None:
        """The assignment is another one now: new checks, new policies."""
        self._learn_tasks(Presence.ABSENT if self._neighbours.inventoried else Presence.UNKNOWN)
        self._hands.watchers.check_again()
        self.poke()

    def retire(self) -> None:
        """Nothing more is heard from this runner."""
        self._hands.watchers.close()
        if self._alarm is not None:
            self._alarm.cancel()

    def report(self) -> None:
        now = self._host.clock.now_ms()
        message = self.seen.blocked or self.seen.trouble
        status = build_status(self.row, self.seen, message, self.last, now)
        if status is not None and not self._too_early(status, now):
            self.last = status
            self._host.outbox.put(status)

    def _changed(self) -> None:
        self.report()
        self.poke()

    def _learn_tasks(self, presence: Presence) -> None:
        names = [task.name for task in self.row.assignment.spec.tasks]
        for name in [*names, *self.row.state.runs]:
            if name not in self.seen.tasks:
                self.seen.tasks[name] = TaskSeen(presence)

    async def _turns(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while not isinstance(action := self._choose(), Idle):
            if isinstance(action, Clear):
                self.report()  # it has ended, whatever removing its remains may take
            await self._take(action)
        self.report()
        if self.row.state.stage is Stage.GONE:
            self._neighbours.gone(self.row)
        else:
            self._wake_at(action.until_ms)

    def _choose(self) -> Action:
        self.seen.blocked = self._neighbours.blocked(self.row)
        return step(self._desired(), self.row.state, self.seen, self._host.clock.now_ms())

    def _desired(self) -> Desired:
        return desired(self.row, self._neighbours.circumstances(self.row), self._host.clock.now_ms())

    async def _take(self, action: Action) -> None:
        slow = self._host.owner.start(self._report_slow(), "stopping") if isinstance(action, Stop) else None
        try:
            await self._hands.carry_out(action)
        except (DriverError, JournalError, OSError) as error:
            self._wait_out(str(error))
        except Exception as error:
            assignment, what = self.row.assignment, type(action).__name__
            log.exception("runner failed", allocation=assignment.alloc, job=assignment.job, action=what)
            self._wait_out(f"internal error: {error!r}")
        else:
            self._troubles, self.seen.trouble, self.seen.retry_at_ms = 0, "", 0
        finally:
            if slow is not None:
                slow.cancel()

    async def _report_slow(self) -> None:
        """A quick stop is only told when it is done."""
        await self._host.clock.sleep(QUIET_MS / 1000)
        self._stops_slowly = True
        self.report()

    def _wait_out(self, trouble: str) -> None:
        self._troubles += 1
        if trouble != self.seen.trouble:
            assignment = self.row.assignment
            log.warning("waiting out trouble", allocation=assignment.alloc, job=assignment.job, trouble=trouble)
        self.seen.trouble = trouble
        pause = delay_ms(self._troubles, base_ms=200, cap_ms=5000)
        self.seen.retry_at_ms = self._host.clock.now_ms() + pause

    def _wake_at(self, until_ms: int | None) -> None:
        now = self._host.clock.now_ms()
        wishes = (until_ms, changes_at_ms(self.row, self._neighbours.circumstances(self.row), now))
        due = min((wish for wish in wishes if wish is not None), default=None)
        if due is not None:
            self._alarm = self._host.owner.start(self._ring((due - now) / 1000), f"alarm/{self.row.assignment.alloc}")

    async def _ring(self, seconds: float) -> None:
        await self._host.clock.sleep(seconds)
        self._alarm = None
        self.poke()

    def _too_early(self, status: AllocStatus, now_ms: int) -> bool:
        """Whether this is not worth a message yet: a quick start or stop, or one more step of a download."""
        if status.phase == STOPPING:
            return not self._stops_slowly
        if status.phase > PREPARING:
            return False
        if self.last is None:
            return now_ms < self._arrived_ms + QUIET_MS
        only_progress = self._hands.preparing and status.phase == self.last.phase
        return only_progress and now_ms < self.last.changed_ms + PROGRESS_MS
