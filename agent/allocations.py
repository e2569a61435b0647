"""The table of all allocations on this node: takes sets and changes in, and keeps a runner for each.

Whatever a set brings is in the journal before any of it is begun; ends that it brings are begun first, and do not
wait for the journal. Slots are guarded here: an attempt is blocked until every older one on this node is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from agent import guards
from agent.attachments import remove_leftovers
from agent.desired import Circumstances, minds_being_alone
from agent.drivers.protocol import DriverError
from agent.engine import Inventory
from agent.host import Host
from agent.journal import JournalError, Memory, Row
from agent.launch import from_labels
from agent.metrics import ORPHANS, RUNNERS
from agent.orphans import Difference, of_delta, of_set
from agent.runner import QUIET_MS, Runner
from agent.state import Run, Stage
from moorage.wire.keys import Slot
from moorage.wire.session_pb2 import Assignment, Orphan, Position
from moorage.wire.store_pb2 import AllocStatus

log = structlog.get_logger()

ALONE_SINCE = "alone_since_ms"
SEEN = "seen"
BOOT = "boot"
RETRY_S = 1.0


class Allocations:
    def __init__(self, host: Host) -> None:
        self.seen = Position()
        self.trouble = ""  # why sets are not taken in at present
        self._host = host
        self._orphans_changed: Callable[[], None] = lambda: None
        self._runners: dict[str, Runner] = {}
        self._rows: dict[str, Row] = {}
        self._slots: dict[Slot, dict[int, Runner]] = {}
        self._orphaned: dict[str, None] = {}
        self._unwritten: set[str] = set()
        self._quiet: set[str] = set()
        self._forgotten: set[str] = set()
        self._dropped: set[str] = set()
        self._grace_ms = 0  # of the last set that was taken in; 0 before the first
        self._inventoried = False  # whether all that runs without a row has one now
        self._engine_trouble = ""
        self._alone_since_ms: int | None = None

    def __len__(self) -> int:
        return len(self._runners)

    def on_orphans(self, changed: Callable[[], None]) -> None:
        self._orphans_changed = changed

    # What was known before

    def restore(self, memory: Memory) -> None:
        """Put a runner to each row of the journal; they begin once the inventory is taken."""
        self.seen = Position.FromString(memory.meta.get(SEEN, b""))
        alone = int(memory.meta.get(ALONE_SINCE, b"0"))
        self._alone_since_ms = alone or self._host.clock.now_ms()
        newest = {status.alloc: (status, sent) for status, sent in memory.statuses}
        for row in memory.rows:
            status, sent = newest.get(row.assignment.alloc, (None, True))
            self._add(row, fresh=False, last=status)
            if status is not None and not sent:
                self._host.outbox.resume(status)

    async def take_inventory(self) -> None:
        """Find what runs without a row (a lost journal), and remove namespaces without one. Waits for the engine.

        Nothing is started before: an older attempt at the same slot might run, and nobody here would know of it.
        """
        while True:
            try:
                if not self._inventoried:
                    self._adopt_strays(await self._host.engine.look())
                await remove_leftovers(self._host.attachments, self._runners.keys())
                return
            except (DriverError, OSError) as error:
                self._engine_trouble = str(error)
                log.warning(
                    "the engine cannot be asked what runs", error=str(error), node=self._host.identity.node_name
                )
                await self._host.clock.sleep(RETRY_S)

    def _adopt_strays(self, inventory: Inventory) -> None:
        for (alloc, _), found in inventory.items():
            assignment = from_labels(found[-1].labels)
            if alloc in self._runners or assignment is None:
                continue
            log.warning("found running, not in the journal", allocation=alloc, job=assignment.job)
            row = Row(assignment)
            if self._grace_ms:
                row.orphan_expires_ms = self._host.clock.now_ms() + self._grace_ms
            for owner, task in inventory:
                if owner == alloc:
                    row.state.runs[task] = Run()
            self._host.journal.put_row(row)
            self._add(row, fresh=False, last=None)
        self._inventoried = True
        self._poke_all()

    # What the controller says

    async def take_set(self, position: Position, assignments: Iterable[Assignment], orphan_grace_ms: int) -> None:
        """Returns once the set is written down; `position` was found acceptable."""
        first, self._grace_ms = not self._grace_ms, max(orphan_grace_ms, 1)
        self._host.journal.put_meta(BOOT, self._host.boot.encode())
        if position.generation > self.seen.generation:
            self._tell_all()
        await self._take_in(position, of_set(self._rows, assignments))
        if first and self._host.rebooted:
            self._poke_all()

    async def take_delta(self, position: Position, changed: Iterable[Assignment], forgotten: Iterable[str]) -> None:
        await self._take_in(position, of_delta(self._rows, changed, forgotten))

    def drop_orphans(self, allocs: Iterable[str]) -> None:
        """An operator ends their grace."""
        for alloc in allocs:
            runner = self._runners.get(alloc)
            if runner is not None and runner.row.orphan_expires_ms:
                self._dropped.add(alloc)
                runner.poke()

    def orphans(self) -> list[Orphan]:
        rows = (self._rows[alloc] for alloc in self._orphaned)
        return [_orphan(row) for row in rows if row.state.stage < Stage.ENDED]

    def contact(self) -> None:
        """A controller of our cluster is heard."""
        if self._alone_since_ms is not None:
            self._alone_since_ms = None
            self._host.journal.put_meta(ALONE_SINCE, b"0")
            self._poke_who_mind()

    def alone(self, since_ms: int) -> None:
        if self._alone_since_ms is None:
            self._alone_since_ms = since_ms
            self._host.journal.put_meta(ALONE_SINCE, str(since_ms).encode())
            self._poke_who_mind()

    # What runners ask

    @property
    def inventoried(self) -> bool:
        """What has no row now does not run."""
        return self._inventoried

    def circumstances(self, row: Row) -> Circumstances:
        alloc, attempt = row.assignment.alloc, row.assignment.attempt
        return Circumstances(
            superseded_by=max((other for other in self._slots[_slot(row)] if other > attempt), default=None),
            alone_since_ms=self._alone_since_ms,
            forgotten=alloc in self._forgotten,
            dropped=alloc in self._dropped,
        )

    def blocked(self, row: Row) -> str:
        """Why nothing of this allocation may be started now."""
        if row.assignment.alloc in self._unwritten:
            return self.trouble or "waits for the journal"
        if not self._inventoried:
            return self._engine_trouble or "waits for the engine to say what runs"
        if self._host.rebooted and not self._grace_ms:
            return "the node was restarted: waits for the controller's complete set"
        attempts = self._slots[_slot(row)]
        known = {attempt: runner.row.state.stage is Stage.GONE for attempt, runner in attempts.items()}
        if not guards.may_start(row.assignment.attempt, known):
            return "waits for another attempt at this slot to be gone from this node"
        return ""

    def gone(self, row: Row) -> None:
        alloc = row.assignment.alloc
        if alloc in self._forgotten or row.orphan_expires_ms:
            self._forget(row)
        for attempt, runner in self._slots.get(_slot(row), {}).items():
            if attempt != row.assignment.attempt:
                runner.poke()

    def alive(self) -> list[str]:
        """Allocations that may use something at present."""
        return [alloc for alloc, row in self._rows.items() if row.state.stage < Stage.ENDED]

    def find(self, alloc: str) -> Runner | None:
        return self._runners.get(alloc)

    async def close(self) -> None:
        """Workloads keep running."""
        for runner in self._runners.values():
            runner.retire()
        await self._host.owner.close()

    # How a difference is taken in

    async def _take_in(self, position: Position, difference: Difference) -> None:
        touched = self._apply(difference)
        for runner in sorted(touched, key=lambda runner: not runner.row.assignment.stop):
            runner.reassigned()
        self.seen = position
        self._host.journal.put_meta(SEEN, position.SerializeToString())
        await asyncio.shield(self._host.owner.start(self._begin(set(self._unwritten)), "begin"))

    async def _begin(self, fresh: set[str]) -> None:
        """What has been noted so far; goes on where the session breaks off meanwhile."""
        await self._write_down()
        self._unwritten -= fresh
        for alloc in fresh:
            if alloc in self._runners:
                self._runners[alloc].poke()
        self._report_slow_starts(fresh)

    def _apply(self, difference: Difference) -> list[Runner]:
        journal, now = self._host.journal, self._host.clock.now_ms()
        rows: dict[str, Row] = {}
        for row, assignment in difference.changed:
            row.assignment = assignment
            rows[assignment.alloc] = row
        for row in difference.readopted:
            self._set_grace(row, 0)
            rows[row.assignment.alloc] = row
        for row in difference.orphaned:
            self._set_grace(row, now + self._grace_ms)
            rows[row.assignment.alloc] = row
        for row in rows.values():
            journal.put_row(row)
        older = [self._runners[row.assignment.alloc] for row in rows.values()]
        for assignment in difference.new:
            older += self._admit(assignment)
        for row in difference.forgotten:
            self._forgotten.add(row.assignment.alloc)
            if row.state.stage is Stage.GONE:
                self._forget(row)
            else:
                older.append(self._runners[row.assignment.alloc])
        return older

    def _admit(self, assignment: Assignment) -> list[Runner]:
        """A new row; returns the runners of other attempts at its slot, for which the world has changed."""
        row = Row(assignment)
        self._host.journal.put_row(row)
        self._unwritten.add(assignment.alloc)
        self._add(row, fresh=self._inventoried, last=None)
        return [r for attempt, r in self._slots[_slot(row)].items() if attempt != assignment.attempt]

    def _add(self, row: Row, *, fresh: bool, last: AllocStatus | None) -> Runner:
        runner = Runner(row, self._host, self, fresh=fresh, last=last)
        self._runners[row.assignment.alloc] = runner
        self._rows[row.assignment.alloc] = row
        self._slots.setdefault(_slot(row), {})[row.assignment.attempt] = runner
        RUNNERS.set(len(self._runners))
        if row.orphan_expires_ms:
            self._set_grace(row, row.orphan_expires_ms)
        return runner

    async def _write_down(self) -> None:
        """Until it is: a node with a full disk takes no new work, and says so."""
        while True:
            try:
                await self._host.journal.flush()
                self.trouble = ""
                return
            except JournalError as error:
                self.trouble = str(error)
                for alloc in self._unwritten:
                    self._runners[alloc].poke()
                await self._host.clock.sleep(RETRY_S)

    def _forget(self, row: Row) -> None:
        alloc = row.assignment.alloc
        self._runners.pop(alloc).retire()
        del self._rows[alloc]
        attempts = self._slots[_slot(row)]
        del attempts[row.assignment.attempt]
        if not attempts:
            del self._slots[_slot(row)]
        self._forgotten.discard(alloc)
        self._dropped.discard(alloc)
        if alloc in self._orphaned:
            self._set_grace(row, 0)
        self._host.outbox.forget(alloc)
        self._host.journal.forget(alloc)
        RUNNERS.set(len(self._runners))

    def _report_slow_starts(self, fresh: set[str]) -> None:
        waiting = bool(self._quiet)
        self._quiet |= fresh
        if self._quiet and not waiting:
            self._host.owner.start(self._report_later(), "slow starts")

    async def _report_later(self) -> None:
        """One timer for all that came lately: what has not been reported by then is taking its time."""
        while self._quiet:
            await self._host.clock.sleep(QUIET_MS / 1000)
            runners = [self._runners.get(alloc) for alloc in self._quiet]
            slow = [runner for runner in runners if runner is not None and runner.last is None]
            for runner in slow:
                runner.report()
            self._quiet = {runner.row.assignment.alloc for runner in slow if runner.last is None}

    def _tell_all(self) -> None:
        """A restored store has forgotten what was acknowledged since its backup was made."""
        for runner in self._runners.values():
            if runner.last is not None:
                self._host.outbox.resume(runner.last)

    def _poke_who_mind(self) -> None:
        """Those that are to end here when no controller is heard."""
        for runner in list(self._runners.values()):
            if minds_being_alone(runner.row):
                runner.poke()

    def _poke_all(self) -> None:
        for runner in list(self._runners.values()):
            runner.poke()

    def _set_grace(self, row: Row, expires_ms: int) -> None:
        """0: no orphan any more."""
        row.orphan_expires_ms = expires_ms
        if expires_ms:
            self._orphaned[row.assignment.alloc] = None
        else:
            self._orphaned.pop(row.assignment.alloc, None)
        ORPHANS.set(len(self._orphaned))
        self._orphans_changed()


def _slot(row: Row) -> Slot:
    return Slot(row.assignment.job_uid, row.assignment.group, row.assignment.index)


def _orphan(row: Row) -> Orphan:
    assignment = row.assignment
    return Orphan(
        alloc=assignment.alloc,
        project=assignment.project,
        job=assignment.job,
        job_uid=assignment.job_uid,
        group=assignment.group,
        index=assignment.index,
        attempt=assignment.attempt,
        expires_ms=row.orphan_expires_ms,
    )
