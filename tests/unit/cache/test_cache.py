"""The cache follows the store: indexes, differences, waiting, and the scheduler's snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from controller.cache import Cache, Change
from controller.store.memory import MemoryStore
from controller.store.protocol import Delete, KeyValue, Put
from moorage.kit.clock import ManualClock
from moorage.wire import keys
from moorage.wire.store_pb2 import FAILED, HEALTHY, RUNNING, Alloc, NodeSpec, NodeState
from tests.unit.cache.samples import UID, alloc_status, key, node_facts, put_alloc, put_job, put_node, put_status


class Followed:
    """A store, a cache that follows it, and everything that the cache told."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.cache = Cache(self.store, ManualClock())
        self.told: list[Change] = []
        self.batches = 0
        self.cache.subscribe(self._hear)

    async def write(self, *operations: Put | Delete) -> int:
        committed = await self.store.commit([], operations)
        await self.cache.passed(committed.revision)
        return committed.revision

    def take(self) -> list[tuple[str, str, bool, bool]]:
        told = [(c.kind, c.key, c.old is not None, c.new is not None) for c in self.told]
        self.told.clear()
        return told

    def _hear(self, changes: Sequence[Change]) -> None:
        self.batches += 1
        self.told.extend(changes)


@pytest.fixture
async def followed() -> AsyncIterator[Followed]:
    world = Followed()
    task = asyncio.create_task(world.cache.run())
    await world.cache.synced.wait()
    yield world
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await world.store.close()


async def test_an_allocation_is_found_by_id_node_job_and_slot(followed: Followed) -> None:
    one, two, other = key(0), key(1), key(0, group="db")
    await followed.write(put_alloc(one, "n1"), put_alloc(two, "n2"), put_alloc(other, "n1"))
    cache = followed.cache
    entry = cache.alloc(one.id)
    assert entry is not None
    assert (entry.key, entry.node, entry.version, entry.stop) == (one, "n1", 1, False)
    assert entry.created_ms == 1_700_000_000_000
    assert {e.key for e in cache.allocs_of_node("n1")} == {one, other}
    assert {e.key for e in cache.allocs_of_job(UID)} == {one, two, other}
    newest = cache.newest_of_slot(two.slot)
    assert newest is not None and newest.key == two


async def test_the_newest_attempt_of_a_slot_is_the_one_with_the_highest_number(followed: Followed) -> None:
    await followed.write(put_alloc(key(0, 10), "n1"))
    await followed.write(put_alloc(key(0, 9), "n2"))
    newest = followed.cache.newest_of_slot(key().slot)
    assert newest is not None and newest.attempt == 10
    await followed.write(Delete(key(0, 10).key))
    newest = followed.cache.newest_of_slot(key().slot)
    assert newest is not None and newest.attempt == 9
    await followed.write(Delete(key(0, 9).key))
    assert followed.cache.newest_of_slot(key().slot) is None
    assert list(followed.cache.allocs_of_job(UID)) == list(followed.cache.allocs_of_node("n1")) == []


async def test_what_is_kept_of_an_allocation_gives_back_what_was_stored_with_fields_of_a_newer_release(
    followed: Followed,
) -> None:
    put = put_alloc(key(), "n1", ports={"http": 20_001})
    newer = put.value + b"\xa2\x06\x03new"  # field 100, which this release does not know
    revision = await followed.write(Put(put.key, newer))
    entry, kv = followed.cache.alloc(key().id), followed.cache.get(key().key)
    assert entry is not None and kv is not None
    assert entry.decode() == Alloc.FromString(newer)
    assert b"\xa2\x06\x03new" in entry.raw
    assert (kv.key, kv.revision, kv.created) == (key().key, revision, revision)
    assert Alloc.FromString(kv.value) == Alloc.FromString(newer)


async def test_a_status_keeps_its_columns_and_decodes_to_what_was_stored(followed: Followed) -> None:
    status = alloc_status(key(), serial=7)
    revision = await followed.write(put_status("n1", status))
    entry = followed.cache.status(key().id)
    assert entry is not None
    assert (entry.phase, entry.health, entry.serial, entry.node, entry.revision) == (
        RUNNING,
        HEALTHY,
        7,
        "n1",
        revision,
    )
    assert (entry.changed_ms, entry.running_since_ms) == (status.changed_ms, status.running_since_ms)
    assert entry.decode() == status


async def test_a_transaction_is_told_once_with_old_and_new(followed: Followed) -> None:
    await followed.write(put_job(), put_alloc(key(), "n1"))
    assert followed.batches == 1
    assert sorted(followed.take()) == [
        ("alloc", key().key, False, True),
        ("job", keys.job("default", "hello"), False, True),
    ]
    await followed.write(put_alloc(key(), "n1", stop=True), Delete(keys.job("default", "hello")))
    assert sorted(followed.take()) == [
        ("alloc", key().key, True, True),
        ("job", keys.job("default", "hello"), True, False),
    ]
    assert followed.cache.job("default", "hello") is None and followed.cache.job_by_uid(UID) is None


async def test_after_a_gap_only_differences_are_told_and_deletions_are_made_up(followed: Followed) -> None:
    await followed.write(put_alloc(key(0), "n1"), put_alloc(key(1), "n1"), put_job())
    await followed.write(put_status("n1", alloc_status(key(0))))
    backup = followed.store.trouble.snapshot()
    await followed.write(put_alloc(key(1), "n1", stop=True), put_alloc(key(2), "n1"))
    followed.take()
    followed.store.trouble.restore(backup)
    await asyncio.sleep(0.01)
    assert sorted(followed.take()) == sorted([("alloc", key(1).key, True, True), ("alloc", key(2).key, True, False)])
    assert followed.cache.revision == backup.revision
    entry = followed.cache.alloc(key(1).id)
    assert entry is not None and not entry.stop


async def test_a_history_that_was_left_is_noticed_also_where_the_other_one_is_as_long(followed: Followed) -> None:
    """The store was put back and written to before the watch came back: its revision is no smaller."""
    turned_back: list[str] = []
    followed.cache.when_turned_back(lambda: turned_back.append(followed.cache.went_back))
    await followed.write(put_job())
    backup = followed.store.trouble.snapshot()
    await followed.write(put_job(version=2))
    followed.store.trouble.restore(backup)
    for number in range(3):
        await followed.store.commit([], [put_alloc(key(number), "n1")])
    await followed.cache.passed(backup.revision + 3)
    assert len(turned_back) == 1 and keys.job("default", "hello") in turned_back[0]
    assert (entry := followed.cache.job("default", "hello")) is not None and entry.version == 1


async def test_what_another_history_wrote_at_the_very_same_revision_counts(followed: Followed) -> None:
    await followed.write(*put_node("n1"), *put_node("n2"))
    backup = followed.store.trouble.snapshot()
    await followed.write(put_alloc(key(), "n1"))
    followed.take()
    followed.store.trouble.restore(backup)
    await followed.store.commit([], [put_alloc(key(), "n2")])
    await asyncio.sleep(0.01)
    assert followed.take() == [("alloc", key().key, True, True)]
    entry = followed.cache.alloc(key().id)
    assert entry is not None and entry.node == "n2"
    used = [followed.cache.snapshot.used(node)[0] for node in ("n1", "n2")]
    assert used[0] == 0 and used[1] > 0


async def test_waiting_for_a_revision_ends_when_it_is_passed_and_fails_in_time_when_not(followed: Followed) -> None:
    waiting = asyncio.create_task(followed.cache.passed(followed.cache.revision + 2))
    await followed.write(put_job())
    assert not waiting.done()
    await followed.write(put_job(version=2))
    await waiting
    with pytest.raises(TimeoutError, match="waited"):
        await followed.cache.passed(followed.cache.revision + 1, timeout_s=0.01)


async def test_a_subscriber_that_fails_stops_neither_the_others_nor_the_watch() -> None:
    store = MemoryStore()
    cache, heard = Cache(store, ManualClock()), []

    def fails(changes: Sequence[Change]) -> None:
        raise RuntimeError("of the subscriber")

    cache.subscribe(fails)
    unsubscribe = cache.subscribe(lambda changes: heard.append(len(changes)))
    run = asyncio.create_task(cache.run())
    for version in (1, 2):
        await cache.passed((await store.commit([], [put_job(version=version)])).revision)
    unsubscribe()
    await cache.passed((await store.commit([], [put_job(version=3)])).revision)
    assert sum(heard) == 2
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


async def test_a_key_that_nobody_can_read_is_left_out_and_the_rest_goes_on(followed: Followed) -> None:
    await followed.write(Put(f"{keys.ALLOCS}nonsense", b"x"), Put(keys.job("p", "j"), b"\xff"), put_alloc(key(), "n1"))
    assert followed.cache.alloc(key().id) is not None
    assert followed.cache.job("p", "j") is None
    await followed.write(Delete(f"{keys.ALLOCS}nonsense"))


async def test_kinds_of_a_newer_release_are_kept_and_told(followed: Followed) -> None:
    future = f"{keys.ROOT}network/default/front"
    await followed.write(Put(future, b"{}"))
    assert followed.take() == [("network", future, False, True)]
    kv = followed.cache.get(future)
    assert isinstance(kv, KeyValue) and kv.value == b"{}"


async def test_a_node_is_made_of_three_keys(followed: Followed) -> None:
    await followed.write(*put_node("n1", "h1"), Put(keys.node_spec("n1"), NodeSpec(cordoned=True).SerializeToString()))
    node = followed.cache.node_by_name("h1")
    assert node is not None
    assert (node.id, node.spec.cordoned, node.state.phase, node.facts) == ("n1", True, NodeState.READY, node_facts())
    await followed.write(Delete(keys.node_spec("n1")), Delete(keys.node_state("n1")), Delete(keys.node_facts("n1")))
    assert followed.cache.node("n1") is None and followed.cache.node_by_name("h1") is None


async def test_an_allocation_takes_room_until_it_has_ended(followed: Followed) -> None:
    snapshot = followed.cache.snapshot
    await followed.write(put_alloc(key(0), "n1", ports={"http": 20_001}), put_alloc(key(1), "n1"), *put_node("n1"))
    assert snapshot.used("n1")[0] == 500
    await followed.write(put_status("n1", alloc_status(key(0))), put_alloc(key(0), "n1", stop=True))
    assert snapshot.used("n1")[0] == 500, "asked to stop, but still there"
    await followed.write(put_status("n1", alloc_status(key(0), FAILED, serial=2)))
    assert snapshot.used("n1")[0] == 250
    await followed.write(Delete(key(1).key))
    assert snapshot.used("n1") == (0, 0, 0)
    await followed.write(Delete(keys.status("n1", key(0).id)), Delete(key(0).key))
    assert snapshot.allocs == 0


async def test_room_is_counted_the_same_after_a_restart_with_ended_allocations(followed: Followed) -> None:
    await followed.write(put_alloc(key(0), "n1"), put_alloc(key(1), "n1"), *put_node("n1"))
    await followed.write(put_status("n1", alloc_status(key(0), FAILED)))
    again = Cache(followed.store, ManualClock())
    run = asyncio.create_task(again.run())
    await again.synced.wait()
    assert again.snapshot.used("n1") == followed.cache.snapshot.used("n1") == (250, 64 << 20, 1 << 20)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


async def test_an_uncommitted_plan_is_told_apart(followed: Followed) -> None:
    assert followed.cache.plan_committed("")
    assert not followed.cache.plan_committed("p1")
    await followed.write(Put(keys.plan("p1"), b""))
    assert followed.cache.plan_committed("p1")
