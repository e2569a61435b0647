"""What a turn reads of a job's allocations: values made once are used again exactly as long as they are true."""

from __future__ import annotations

from controller.cache import Cache
from controller.reconcile.policy import CompiledJobs
from controller.reconcile.read import Reader
from controller.reconcile.values import Attempt
from controller.store.memory import MemoryStore
from controller.store.protocol import Changes, KeyValue, Put
from moorage.kit.clock import ManualClock
from moorage.wire import keys
from moorage.wire.store_pb2 import FAILED, HEALTHY, RUNNING, NodeState
from tests.unit.cache.samples import UID, alloc_status, key, put_alloc, put_node, put_status

NOW = 1_700_000_100_000


class World:
    """A job without a head, so that only its allocations count, and a reader of it."""

    def __init__(self) -> None:
        self.cache = Cache(MemoryStore(), ManualClock())
        self.reader = Reader(self.cache, CompiledJobs(self.cache.version), 0)
        self._revision = 0

    def write(self, *puts: Put) -> None:
        self._revision += 1
        self.cache.apply(
            Changes([KeyValue(put.key, put.value, self._revision, self._revision) for put in puts], [], self._revision)
        )

    def read(self, now_ms: int = NOW) -> dict[int, Attempt]:
        target = self.reader.read(UID, now_ms)
        assert target is not None
        return {attempt.key.index: attempt for attempt in target.view.attempts}


def running(*indexes: int) -> World:
    world = World()
    world.write(*put_node("n1"), *(put_alloc(key(index), "n1") for index in indexes))
    world.write(*(put_status("n1", alloc_status(key(index))) for index in indexes))
    return world


def test_a_healthy_allocation_is_the_same_value_at_the_next_turn() -> None:
    world = running(0)
    assert world.read()[0] is world.read()[0]


def test_a_new_status_is_seen_and_the_others_are_kept() -> None:
    world = running(0, 1)
    before = world.read()
    world.write(put_status("n1", alloc_status(key(0), FAILED, serial=2)))
    after = world.read()
    assert (before[0].phase, after[0].phase) == (RUNNING, FAILED)
    assert after[1] is before[1]


def test_a_new_record_is_seen() -> None:
    world = running(0)
    assert not world.read()[0].stop
    world.write(put_alloc(key(0), "n1", stop=True))
    assert world.read()[0].stop


def test_what_a_lost_node_ran_is_read_with_its_past_and_again_without_when_it_is_back() -> None:
    world = running(0)
    before = world.read()[0]
    world.write(*put_node("n1", phase=NodeState.LOST))
    assert world.read()[0].created_ms == 1_700_000_000_000
    world.write(*put_node("n1"))
    assert world.read()[0] == before


def test_a_plan_whose_mark_comes_late_is_not_given_up_for_ever() -> None:
    world = World()
    world.write(*put_node("n1"), put_alloc(key(0), "n1", plan="p1"))
    world.write(put_status("n1", alloc_status(key(0))))
    assert world.read()[0].abandoned == "p1"
    world.write(Put(keys.plan("p1"), b""))
    assert world.read()[0].abandoned == ""


def test_a_clock_that_is_ahead_counts_from_when_it_was_first_seen() -> None:
    world = running(0)
    first_seen = 1_699_999_000_000
    assert world.read(first_seen)[0].healthy_since_ms == first_seen
    later = world.read(first_seen + 5000)[0]
    assert (later.health, later.healthy_since_ms) == (HEALTHY, first_seen)
