"""One leadership: everything that is done between winning the election and losing it.

The scheduling loop takes all jobs that are ready, reads and decides each, asks for nodes once for all of them, and
hands every job's writes to a task of its own, so that commits overlap with the next round. A job is not taken again
before the cache has passed its own last write. A change that is small costs a small turn: the first one of a quiet
job is worked on at once, and a job whose turns are long is taken less often.

While the store is suspected to be an old backup, nothing is decided at all: what it says about jobs may be long past.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence

import structlog

from controller.cache import Cache, Change
from controller.leader import NotLeading
from controller.reconcile import metrics, news
from controller.reconcile.carrying import Carrier, Outcome
from controller.reconcile.diff import diff
from controller.reconcile.events import EventLog
from controller.reconcile.gc import Collector
from controller.reconcile.planner import Planner, Work
from controller.reconcile.policy import CompiledJobs
from controller.reconcile.ports import Leadership, Term
from controller.reconcile.read import NotYetThere, Reader, Unreadable
from controller.reconcile.routes import Routed, route
from controller.reconcile.settings import ReconcileSettings
from controller.reconcile.states import differs, job_state
from controller.reconcile.steps import Stamp
from controller.reconcile.wishes import KINDS, fulfil
from controller.store.protocol import KeyValue, StoreError
from moorage.kit.clock import Clock
from moorage.kit.tasks import Owner, forever
from moorage.kit.workqueue import WorkQueue
from moorage.wire.store_pb2 import Event, NodeState, Request

log = structlog.get_logger()


class Lead:
    def __init__(
        self,
        cache: Cache,
        leader: Leadership,
        term: Term,
        clock: Clock,
        rng: random.Random,
        settings: ReconcileSettings,
        told: deque[Event],
    ) -> None:
        self._cache = cache
        self._leader = leader
        self._term = term
        self._clock = clock
        self._settings = settings
        self._queue: WorkQueue[str] = WorkQueue(clock, window_s=settings.window_s)
        self._compiled = CompiledJobs(cache.version)
        self._reader = Reader(cache, self._compiled, int(settings.keep_finished_s * 1000))
        self._planner = Planner(cache, rng, settings.placements)
        self._carrier = Carrier(cache, leader, settings.transactions)
        self._events = EventLog(cache, leader, clock, rng)
        self._collector = Collector(cache, leader, clock, settings)
        self._turns = Owner("reconcile")
        self._waiting: set[str] = set()  # jobs with slots that found no node
        self._hold: dict[str, float] = {}  # a job with long turns: not before
        self._news: dict[str, list[Event]] = {}  # for the next write of a job's state
        self._told: dict[str, set[str]] = {}  # failed attempts that an event told of
        self._written: dict[str, float] = {}  # when a job's state was last written
        self._wishes = asyncio.Event()
        self._paused = False
        self._others_told = told

    async def run(self) -> None:
        """Until cancelled."""
        unsubscribe = self._cache.subscribe(self._changed)
        try:
            await self._cache.synced.wait()
            await self._catch_up()
            self._everything()
            async with asyncio.TaskGroup() as group:
                group.create_task(forever(self._round, name="reconcile"), name="reconcile/rounds")
                group.create_task(forever(self._carry_wishes, name="wishes"), name="reconcile/wishes")
                group.create_task(forever(self._flush_events, name="events"), name="reconcile/events")
                group.create_task(forever(self._collect, name="gc"), name="reconcile/gc")
        finally:
            unsubscribe()
            await self._turns.close()
            self._planner.close()

    async def _catch_up(self) -> None:
        """What earlier leaders wrote must be known before anything is decided."""
        while True:
            try:
                return await self._cache.passed(self._term.revision)
            except TimeoutError:
                log.warning("the cache is behind this leadership's beginning", revision=self._cache.revision)

    def _everything(self) -> None:
        self._paused = self._suspected()
        for entry in self._cache.jobs():
            self._queue.add(entry.uid)
        for alloc in self._cache.allocs():
            self._queue.add(alloc.job_uid)
        for uid in self._collector.scan():
            self._queue.add(uid)
        self._wishes.set()

    # -- what happens ----------------------------------------------------------------------------------------------

    def _changed(self, changes: Sequence[Change]) -> None:
        routed = route(self._cache, changes)
        for uid in routed.specs:
            self._hold.pop(uid, None)
            self._queue.add(uid)
        for uid in routed.jobs:
            held = self._hold.get(uid)
            if held is not None and held > self._clock.monotonic():
                self._queue.add_at(uid, held)
            else:
                self._queue.add(uid)
        if routed.capacity:
            self._capacity()
        if routed.wishes:
            self._wishes.set()
        if routed.cluster:
            self._cluster_changed()
        self._collector.suspect(routed)
        self._tell_of_nodes(routed)

    def _suspected(self) -> bool:
        cluster = self._cache.cluster()
        return cluster is not None and bool(cluster.restore_suspected)

    def _cluster_changed(self) -> None:
        was_paused, self._paused = self._paused, self._suspected()
        if was_paused and not self._paused:
            self._reader.resumed_ms = self._clock.now_ms()
            self._everything()
        elif self._paused and not was_paused:
            log.warning("the store may be an old backup: nothing is decided until it is accepted")

    def _capacity(self) -> None:
        soon = self._clock.monotonic() + self._settings.capacity_s
        for uid in self._waiting:
            self._queue.add_at(uid, soon)

    def _tell_of_nodes(self, routed: Routed) -> None:
        for node_id, old, new in routed.nodes:
            before, after = old.phase if old else None, new.phase if new else None
            if before == after or after not in (NodeState.READY, NodeState.LOST):
                continue
            name = self._node_name(node_id)
            kind = "node_lost" if after == NodeState.LOST else "node_ready"
            detail = f": {new.message}" if new is not None and new.message else ""
            message = f"node {name} is {'lost' if after == NodeState.LOST else 'ready'}{detail}"
            self._events.add(
                Event(at_ms=self._clock.now_ms(), kind=kind, message=message, object=f"node/{name}", count=1)
            )

    def _node_name(self, node_id: str) -> str:
        node = self._cache.node(node_id)
        return node.name if node is not None else node_id

    # -- one round -------------------------------------------------------------------------------------------------

    async def _round(self) -> None:
        """All jobs that are ready, up to a batch."""
        uids = await self._queue.take(self._settings.batch)
        metrics.DEPTH.set(len(self._queue))
        works = [work for uid in uids if (work := self._decide(uid)) is not None]
        try:
            await self._planner.plan(works)
        except Exception:
            for work in works:
                self._failed(work.uid)
            raise
        for work in works:
            self._turns.start(self._turn(work), work.uid)

    def _decide(self, uid: str) -> Work | None:
        """Read and decide. None: the turn is over."""
        if self._paused:
            self._queue.done(uid)
            return None
        started, now_ms = time.perf_counter(), self._clock.now_ms()
        try:
            target = self._reader.read(uid, now_ms)
            if target is None:
                self._forget(uid)
                self._queue.done(uid)
                return None
            work = Work(target, diff(target.view, now_ms))
        except Unreadable as trouble:
            self._turns.start(self._tell_unreadable(trouble), uid)
            return None
        except NotYetThere:
            log.warning("the version that a job names is not there yet", job_uid=uid)
            self._queue.failed(uid)
            return None
        except Exception as error:
            log.exception("a job cannot be decided on", job_uid=uid, error=repr(error))
            self._failed(uid)
            return None
        took = time.perf_counter() - started
        metrics.TURNS.observe(took)
        self._hold[uid] = self._clock.monotonic() + took / self._settings.share
        return work

    async def _tell_unreadable(self, trouble: Unreadable) -> None:
        """Nothing else is done about it before the job or this release has changed."""
        entry, why = trouble.entry, str(trouble)
        try:
            if await self._carrier.complain(entry, why):
                self._events.add(news.unreadable(entry, why, self._clock.now_ms()))
        except (StoreError, NotLeading) as error:
            log.warning("a job's trouble is not written down", job=entry.name, project=entry.project, error=str(error))
        finally:
            self._queue.done(entry.uid)
            self._queue.add_at(entry.uid, self._clock.monotonic() + self._settings.retry_waiting_s)

    async def _turn(self, work: Work) -> None:
        try:
            again = await self._carry_out(work)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.warning("a job's turn failed", job=work.target.name, project=work.target.project, error=repr(error))
            self._planner.in_flight.doubt(work.placed)
            self._failed(work.uid)
        else:
            self._planner.in_flight.remove(work.placed)
            self._queue.done(work.uid)
            self._come_again(work, again)

    async def _carry_out(self, work: Work) -> bool:
        """Whether there is more to do at once."""
        decision, target = work.decision, work.target
        stamp = Stamp(self._term.id, self._clock.now_ms())
        self._note_waiting(work)
        if decision.finished:
            outcome = await self._carrier.remove(target)
            await self._settle(outcome)
            return outcome.conflicts > 0
        if decision.floors and not await self._save_state(work, forced=True):
            return True
        outcome = await self._carrier.carry_out(work, stamp)
        self._note(work, outcome)
        await self._settle(outcome)
        again = work.again or outcome.conflicts > 0
        if outcome.revision and not self._state_is_late(work.uid):
            return again  # the next turn, which these writes bring about, knows more
        return not await self._save_state(work) or again

    async def _settle(self, outcome: Outcome) -> None:
        """The next turn must see what this one wrote, and what it ran into."""
        if outcome.revision:
            await self._cache.passed(outcome.revision)
        if outcome.errors:
            raise outcome.errors[0]

    def _failed(self, uid: str) -> None:
        metrics.FAILURES.inc()
        self._queue.failed(uid)

    def _come_again(self, work: Work, again: bool) -> None:
        now_ms, now = self._clock.now_ms(), self._clock.monotonic()
        if again:
            self._queue.add(work.uid)
        if work.decision.later_ms is not None:
            self._queue.add_at(work.uid, now + max(0, work.decision.later_ms - now_ms) / 1000)
        if work.rejected:
            self._queue.add_at(work.uid, now + self._settings.retry_waiting_s)

    # -- what is remembered and told of a job ----------------------------------------------------------------------

    def _note_waiting(self, work: Work) -> None:
        if work.rejected:
            self._waiting.add(work.uid)
        else:
            self._waiting.discard(work.uid)
        metrics.WAITING.set(len(self._waiting))

    def _note(self, work: Work, outcome: Outcome) -> None:
        committed = outcome.committed
        metrics.PLACED.inc(sum(one.place.key.id in committed for one in work.placed))
        metrics.STOPPED.inc(sum(one.attempt.id in committed for one in work.decision.stop))
        events = news.of_turn(work, committed, self._node_name, self._clock.now_ms())
        if work.decision.failures:
            told = self._told.setdefault(work.uid, set())
            told |= {event.alloc for event in self._stored_events(work.uid) if event.kind == "failed"}
            events.extend(news.failures(work, told, self._node_name, self._clock.now_ms()))
            self._told[work.uid] = {one.attempt.id for one in work.decision.failures}
        for event in events:
            self._news.setdefault(work.uid, []).append(event)
            self._events.add(event)
        news.log_turn(work, committed, {event.alloc for event in events if event.kind == "failed"}, self._node_name)

    def _stored_events(self, uid: str) -> Sequence[Event]:
        state = self._cache.job_state(uid)
        return state.events if state is not None else ()

    def _state_is_late(self, uid: str) -> bool:
        now = self._clock.monotonic()
        return now - self._written.setdefault(uid, now - self._settings.state_s) > self._settings.state_late_s

    async def _save_state(self, work: Work, *, forced: bool = False) -> bool:
        """False: something came between. A busy job's state waits a little, so as not to keep the store busy."""
        uid, before = work.uid, self._cache.job_state(work.uid)
        told = self._news.get(uid, [])
        state = job_state(work, before, self._term.id, told)
        if work.target.entry is None or not differs(state, before):
            return True
        allowed = self._written.get(uid, float("-inf")) + self._settings.state_s
        if not forced and self._clock.monotonic() < allowed:
            self._queue.add_at(uid, allowed)
            return True
        outcome = await self._carrier.save_state(uid, work.target.entry, state)
        await self._settle(outcome)
        if outcome.conflicts:
            return False
        self._written[uid] = self._clock.monotonic()
        self._news[uid] = self._news.get(uid, [])[len(told) :]
        return True

    def _forget(self, uid: str) -> None:
        self._hold.pop(uid, None)
        self._news.pop(uid, None)
        self._told.pop(uid, None)
        self._written.pop(uid, None)
        self._waiting.discard(uid)
        self._reader.forget(uid)

    # -- beside the jobs -------------------------------------------------------------------------------------------

    async def _carry_wishes(self) -> None:
        await self._wishes.wait()
        self._wishes.clear()
        try:
            await self._carry_all()
        except BaseException:
            self._wishes.set()
            raise

    async def _carry_all(self) -> None:
        again = False
        for kv, wish in () if self._paused else self._cache.requests():
            if wish.kind in KINDS and not await self._carry_wish(kv, wish):
                again = True
        if again:  # the world has changed: look again, but do not keep the store busy with one that never succeeds
            await self._clock.sleep(self._settings.window_s)
            self._wishes.set()

    async def _carry_wish(self, kv: KeyValue, wish: Request) -> bool:
        fulfilment = fulfil(self._cache, kv, wish, self._term.id, self._clock.now_ms())
        outcome = await self._leader.commit(fulfilment.guards, fulfilment.operations)
        await self._cache.passed(outcome.revision)
        if outcome.ok and fulfilment.event is not None:
            self._events.add(fulfilment.event)
        return outcome.ok

    async def _flush_events(self) -> None:
        await self._clock.sleep(self._settings.flush_events_s)
        while self._others_told:
            self._events.add(self._others_told.popleft())
        try:
            await self._events.flush()
        except StoreError as error:
            log.info("events wait for the store", error=str(error))

    async def _collect(self) -> None:
        await self._clock.sleep(self._settings.collect_s)
        if self._paused:
            return
        for uid in await self._collector.turn():
            self._queue.add(uid)
