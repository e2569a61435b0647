"""The cluster's events: deduplicated, capped, expiring. Written now and then in batches, never one by one.

An event that says what a recent one said already raises that one's count. What people did is not told here, but by
the API in the transaction that does it. Events are for people: one that is lost with its leader is lost.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from controller.cache import Cache
from controller.events import CONTROLLER, event_id
from controller.reconcile.ports import Leadership
from controller.store.protocol import Put
from moorage.kit.clock import Clock
from moorage.wire import keys
from moorage.wire.store_pb2 import Event

BATCH = 100
PENDING = 1000
SAME_FOR_MS = 600_000

Said = tuple[str, str, str, str]


class EventLog:
    def __init__(self, cache: Cache, leader: Leadership, clock: Clock, rng: random.Random) -> None:
        self._leader = leader
        self._clock = clock
        self._rng = rng
        self._pending: dict[str, Event] = {}
        self._known: dict[Said, tuple[str, Event]] = {}
        since = clock.now_ms() - SAME_FOR_MS
        for kv, event in cache.events():
            if event.at_ms >= since:
                self._known[_said(event)] = kv.key[len(keys.EVENTS) :], event

    def add(self, event: Event) -> None:
        event.principal = event.principal or CONTROLLER
        said = _said(event)
        known = self._known.get(said)
        if known is not None and event.at_ms - known[1].at_ms < SAME_FOR_MS:
            id, before = known
            event = _counted(event, before)
        elif len(self._pending) >= PENDING:
            return
        else:
            id = event_id(event.at_ms, f"{self._rng.getrandbits(32):08x}")
        self._known[said] = id, event
        self._pending[id] = event

    async def flush(self) -> None:
        """One turn: write what was added. What could not be written is tried with the next."""
        while self._pending:
            batch = dict(_first(self._pending, BATCH))
            await self._leader.commit([], [Put(keys.event(i), e.SerializeToString()) for i, e in batch.items()])
            for id, event in batch.items():
                if self._pending.get(id) is event:
                    del self._pending[id]
        self._forget()

    def _forget(self) -> None:
        horizon = self._clock.now_ms() - SAME_FOR_MS
        if len(self._known) > PENDING:
            self._known = {said: known for said, known in self._known.items() if known[1].at_ms > horizon}


def _said(event: Event) -> Said:
    return event.kind, event.project, event.object, event.message


def _counted(event: Event, before: Event) -> Event:
    counted = Event()
    counted.CopyFrom(event)
    counted.count = before.count + max(1, event.count)
    return counted


def _first(events: dict[str, Event], number: int) -> Iterator[tuple[str, Event]]:
    return (item for item, _ in zip(events.items(), range(number), strict=False))
