"""Events are for people: what repeats is counted, what is old goes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from controller.cache import Cache
from controller.reconcile.events import EventLog
from controller.reconcile.gc import Collector
from controller.reconcile.settings import ReconcileSettings
from controller.reconcile.states import MAX_EVENTS, last_events
from controller.store.memory import MemoryStore
from controller.store.protocol import Changes, Committed, Guard, Operation, Put
from moorage.kit.clock import ManualClock
from moorage.wire import keys
from moorage.wire.store_pb2 import Event


@dataclass
class Feed:
    """A leader whose writes the cache hears of at once."""

    clock: ManualClock = field(default_factory=ManualClock)
    term: None = None

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        self.cache = Cache(self.store, self.clock)

    def subscribe(self, callback: Callable[..., None]) -> object:
        return callback

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Operation]) -> Committed:
        committed = await self.store.commit(guards, operations)
        puts = [kv for one in operations if isinstance(one, Put) and (kv := await self.store.get(one.key))]
        deletes = [one.key for one in operations if not isinstance(one, Put)]
        self.cache.apply(Changes(puts, deletes, committed.revision))
        return committed

    def log(self) -> EventLog:
        return EventLog(self.cache, self, self.clock, random.Random(1))


def event(message: str, at_ms: int, count: int = 1) -> Event:
    return Event(kind="failed", message=message, at_ms=at_ms, object="job/shop", project="default", count=count)


async def test_what_repeats_is_counted_also_by_the_next_leader() -> None:
    feed = Feed()
    now = feed.clock.now_ms()
    first = feed.log()
    first.add(event("exit code 1", now))
    first.add(event("exit code 1", now + 10))
    await first.flush()
    second = feed.log()
    second.add(event("exit code 1", now + 20))
    second.add(event("exit code 2", now + 20))
    await second.flush()
    assert [(e.message, e.count) for _, e in feed.cache.events()] == [("exit code 1", 3), ("exit code 2", 1)]


async def test_what_was_said_long_ago_is_said_again() -> None:
    feed = Feed()
    log = feed.log()
    log.add(event("exit code 1", feed.clock.now_ms()))
    log.add(event("exit code 1", feed.clock.now_ms() + 700_000))
    await log.flush()
    assert [e.count for _, e in feed.cache.events()] == [1, 1]


async def test_events_are_capped_and_expire() -> None:
    feed = Feed()
    settings = ReconcileSettings(keep_events=3, keep_finished_s=60)
    collector = Collector(feed.cache, feed, feed.clock, settings)
    log = feed.log()
    for number in range(5):
        log.add(event(f"exit code {number}", feed.clock.now_ms() + number))
    await log.flush()
    await collector.turn()
    assert [e.message for _, e in feed.cache.events()] == ["exit code 2", "exit code 3", "exit code 4"]
    await feed.clock.advance(61)
    await collector.turn()
    assert feed.cache.events() == []
    assert (await feed.store.list(keys.EVENTS)).items == []


def test_a_job_keeps_its_last_ten_and_counts_what_repeats() -> None:
    before = [event(f"exit code {number}", number) for number in range(MAX_EVENTS)]
    kept = last_events(before, [event("exit code 3", 50), event("new", 51)])
    assert [(e.message, e.count) for e in kept[-2:]] == [("exit code 3", 2), ("new", 1)]
    assert len(kept) == MAX_EVENTS
    assert kept[0].message == "exit code 1"
