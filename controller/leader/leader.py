"""Who leads: one controller holds a key on a lease, and fences every write by that key's creation.

Three things keep two leaders from acting at a time. The lease's thread knows until when the lease cannot have run out,
and `is_leading` is False from then on, however late the event loop comes to look. Each commit compares the leader key's
create revision, so that a write already on its way fails once another leads. And a store that was restored from a
backup below a living leader, where that key may still be, ends the leadership: revisions that went back tell it.

One turn campaigns, or checks that what was won still holds. A leadership is announced only after its term stands in
`cluster`, and a controller that finds its own id in the key (it was killed and came back, or lost touch) removes it
and leads at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing

import structlog

from controller.leader.metrics import ELECTIONS, ENDED, LEADING
from controller.leader.term import LeadershipTerm, NotLeading, new_id, record, recorded
from controller.store.protocol import (
    Absent,
    Batch,
    Committed,
    CreatedAt,
    Delete,
    Guard,
    KeyValue,
    LeaseKeeper,
    Operation,
    Put,
    Reset,
    Store,
    StoreError,
    Unchanged,
)
from moorage.kit.clock import Clock
from moorage.kit.tasks import Owner
from moorage.wire import keys
from moorage.wire.store_pb2 import LeaderInfo

log = structlog.get_logger()

Callback = Callable[[LeadershipTerm | None], None]

RECORD_TRIES = 5
RESIGN_TIMEOUT_S = 2.0


class Leader:
    """`info` is what others are told about this controller while it leads."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        controller_id: str,
        info: LeaderInfo,
        ttl_s: int = 10,
        renew_s: float = 3,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self.term: LeadershipTerm | None = None
        self._store = store
        self._clock = clock
        self._controller_id = controller_id
        self._info = info
        self._ttl_s = ttl_s
        self._renew_s = renew_s
        self._rng = rng or random.SystemRandom()
        self._tick_s = min(1.0, renew_s / 3)
        self._keeper: LeaseKeeper | None = None
        self._lease = 0
        self._highest = 0
        self._watched = 0
        self._holder: KeyValue | None = None
        self._callbacks: list[Callback] = []
        self._moved = asyncio.Event()
        self._resigned = False
        self._failing = False
        self._owner = Owner("leader")

    def is_leading(self) -> bool:
        """False before the lease can have run out. Cheap: ask again after every await."""
        return self.term is not None and self._keeper is not None and self._clock.monotonic() < self._keeper.until()

    def known(self) -> LeaderInfo | None:
        """Who leads as far as this controller has heard, for redirects."""
        return LeaderInfo.FromString(self._holder.value) if self._holder else None

    def may_maintain(self) -> bool:
        """Leads, or has heard of nobody who does (a full store lets nobody be elected)."""
        return self.is_leading() or self._holder is None

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Told of each beginning (the term) and end (None) of this controller's leaderships. Must not block."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Operation]) -> Committed:
        """A write of this leadership: the fence takes one of the transaction's MAX_OPERATIONS guards.

        Raises NotLeading where it leads no more; and StoreUnavailable as the store does: the outcome is unknown.
        """
        term = self.term
        if term is None or not self.is_leading():
            raise NotLeading("this controller does not lead")
        known = self._highest
        done = await self._store.commit([term.fence, *guards], operations)
        if done.revision < known:
            self.end("the store's history went backwards")
            raise NotLeading("the store was restored from a backup below this leader")
        self._highest = max(self._highest, done.revision)
        if not done.ok:
            await self._verify(term)
        return done

    async def run(self) -> None:
        """Campaign and lead, again and again, until cancelled or resigned. Resigns at its end."""
        observing = self._owner.start(self._observe(), "observe")
        try:
            while not self._resigned:
                if observing.done():
                    observing.result()
                await self.turn()
                await self._pause()
        finally:
            await self._owner.close()
            await self.resign()

    async def resign(self) -> None:
        """Leave in order: the next one need not wait for the lease to run out. `run` ends."""
        self._resigned = True
        self._moved.set()
        lease, self._lease = self._lease, 0
        self.end("resigned")
        if lease:
            try:
                async with asyncio.timeout(RESIGN_TIMEOUT_S):
                    await self._store.revoke(lease)
            except (StoreError, TimeoutError) as error:
                log.info("lease not given back", error=str(error))

    async def turn(self) -> None:
        """Campaign, or check that the leadership still holds."""
        if self._keeper is not None and self.is_leading():
            self._keeper.pulse()
            return
        self.end("its lease may have run out")
        try:
            await self._campaign()
            self._failing = False
        except StoreError as error:
            if not self._failing:
                log.warning("cannot be elected", error=str(error))
            self._failing = True

    def end(self, reason: str) -> None:
        """This leadership is over, at once; also for others who find that it must be. Without one: does nothing."""
        self._drop_lease()
        if (term := self.term) is None:
            return
        self.term = None
        LEADING.set(0)
        ENDED.labels(reason).inc()
        log.warning("leadership ended", term=term.id, reason=reason)
        self._moved.set()
        self._announce()

    async def _campaign(self) -> None:
        found = await self._store.get(keys.LEADER)
        if found is not None and not await self._remove_own(found):
            self._holder = found
            return
        term = await self._stand()
        if term is None:
            return
        if await self._record(term):
            self._begin(term)
        else:
            self._drop_lease()

    async def _remove_own(self, found: KeyValue) -> bool:
        """Whether the key was left by this controller, and is gone now."""
        if LeaderInfo.FromString(found.value).controller != self._controller_id:
            return False
        return (await self._store.commit([Unchanged(keys.LEADER, found.revision)], [Delete(keys.LEADER)])).ok

    async def _stand(self) -> LeadershipTerm | None:
        """Put our name into the key, on a new lease. None: somebody else was first."""
        info = LeaderInfo()
        info.CopyFrom(self._info)
        info.controller, info.term = self._controller_id, new_id(self._rng)
        granted_at = self._clock.monotonic()
        self._lease = await self._store.grant(self._ttl_s)
        self._keeper = self._store.keep_lease(
            self._lease, ttl_s=self._ttl_s, renew_s=self._renew_s, granted_at=granted_at
        )
        put = Put(keys.LEADER, info.SerializeToString(), self._lease)
        done = await self._store.commit([Absent(keys.LEADER)], [put])
        if not done.ok:
            lease = self._lease
            self._drop_lease()
            await self._store.revoke(lease)
            return None
        self._highest = done.revision
        self._holder = KeyValue(keys.LEADER, put.value, done.revision, done.revision)
        return LeadershipTerm(info.term, CreatedAt(keys.LEADER, done.revision), done.revision)

    async def _record(self, term: LeadershipTerm) -> bool:
        """Add the term to the cluster's list. False: it is over already, or the list keeps changing under us."""
        for _ in range(RECORD_TRIES):
            found = await self._store.get(keys.CLUSTER)
            guard, put = record(found, recorded(found, term, self._controller_id, self._rng))
            done = await self._store.commit([term.fence, guard], [put])
            if done.ok:
                self._highest = max(self._highest, done.revision)
                return True
        return False

    def _begin(self, term: LeadershipTerm) -> None:
        self.term = term
        LEADING.set(1)
        ELECTIONS.inc()
        log.info("leading", term=term.id, revision=term.revision)
        self._announce()

    def _drop_lease(self) -> None:
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        self._lease = 0

    async def _verify(self, term: LeadershipTerm) -> None:
        """A guard did not hold: was it the fence?"""
        found = await self._store.get(keys.LEADER)
        if found is None or found.created != term.fence.revision:
            if self.term is term:
                self.end("another leads")
            raise NotLeading("another controller leads by now")

    async def _observe(self) -> None:
        async with aclosing(self._store.watch(keys.LEADER)) as batches:
            async for batch in batches:
                self._see(batch)

    def _see(self, batch: Batch) -> None:
        """The watch's own revisions only rise in one history. (They may be behind what commits have told.)"""
        watched, self._watched = self._watched, batch.revision
        if batch.revision < watched:
            self.end("the store's history went backwards")
        if isinstance(batch, Reset):
            self._holder = next((item for item in batch.items if item.key == keys.LEADER), None)
        else:
            self._holder = next((put for put in batch.puts if put.key == keys.LEADER), self._holder)
            if keys.LEADER in batch.deletes:
                self._holder = None
        self._compare_holder(batch.revision)
        if self._holder is None:
            self._moved.set()

    def _compare_holder(self, revision: int) -> None:
        term = self.term
        if term is None or revision < term.revision:
            return
        if self._holder is None or self._holder.created != term.fence.revision:
            self.end("another leads" if self._holder else "its key is gone")

    def _announce(self) -> None:
        for callback in list(self._callbacks):
            try:
                callback(self.term)
            except Exception as error:
                log.exception("a subscriber to the leadership failed", error=repr(error))

    async def _pause(self) -> None:
        """Until the next tick, or until something has moved."""
        tick = self._owner.start(self._clock.sleep(self._tick_s), "tick")
        moved = self._owner.start(self._moved.wait(), "moved")
        try:
            await asyncio.wait({tick, moved}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tick.cancel()
            moved.cancel()
        self._moved.clear()
