"""The slow comparison repairs what a watch lost, and is not fooled by what moves meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from controller.cache import Cache, Change
from controller.cache.compare import compare, prefixes, run
from controller.store.memory import MemoryStore
from controller.store.protocol import Changes, Delete, Listing
from moorage.kit.clock import ManualClock
from moorage.wire import keys
from tests.unit.cache.samples import UID, alloc_status, key, put_alloc, put_job, put_node, put_status


class BusyStore(MemoryStore):
    """While a listing is on its way, something else is written."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: list[Delete] = []

    async def list(self, prefix: str) -> Listing:
        listing = await super().list(prefix)
        if self.meanwhile:
            await self.commit([], [self.meanwhile.pop()])
            await asyncio.sleep(0.01)
        return listing


@pytest.fixture
async def cache() -> AsyncIterator[Cache]:
    store = BusyStore()
    await store.commit([], [put_job(), put_alloc(key(0), "n1"), put_alloc(key(1), "n1"), *put_node("n1")])
    await store.commit([], [put_status("n1", alloc_status(key(0)))])
    cache = Cache(store, ManualClock())
    task = asyncio.create_task(cache.run())
    await cache.synced.wait()
    yield cache
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def lose(cache: Cache, *lost: str) -> None:
    """The cache never hears of these keys."""
    cache.apply(Changes([], list(lost), cache.revision))


async def test_nothing_is_repaired_where_nothing_was_lost(cache: Cache) -> None:
    assert [await compare(cache, prefix) for prefix in prefixes(cache)] == [0] * len(prefixes(cache))


async def test_lost_keys_come_back_and_are_told_and_counted(cache: Cache) -> None:
    lose(cache, key(0).key, keys.job("default", "hello"), keys.status("n1", key(0).id), keys.node_facts("n1"))
    told: list[Change] = []
    cache.subscribe(told.extend)
    before = REGISTRY.get_sample_value("moor_cache_repairs_total") or 0
    for prefix in prefixes(cache):
        await compare(cache, prefix)
    assert cache.alloc(key(0).id) and cache.job_by_uid(UID) and cache.status(key(0).id)
    assert {change.kind for change in told} == {"alloc", "job", "status", "node"}
    assert REGISTRY.get_sample_value("moor_cache_repairs_total") == before + 4


async def test_a_deletion_that_was_not_heard_of_is_made_up_for(cache: Cache) -> None:
    for ghost in (put_alloc(key(7), "n1"), put_status("n1", alloc_status(key(7)))):
        other = MemoryStore()
        await other.commit([], [ghost])
        cache.apply(Changes((await other.list("")).items, [], cache.revision))
    for prefix in prefixes(cache):
        await compare(cache, prefix)
    assert cache.alloc(key(7).id) is None
    for prefix in prefixes(cache):  # its status is a stray now, and looked at by its own key
        await compare(cache, prefix)
    assert cache.status(key(7).id) is None


async def test_what_is_deleted_while_the_listing_is_on_its_way_does_not_come_back(cache: Cache) -> None:
    assert isinstance(cache.store, BusyStore)
    cache.store.meanwhile.append(Delete(key(0).key))
    assert await compare(cache, keys.job_allocs(UID)) == 0
    assert cache.alloc(key(0).id) is None


async def test_a_round_takes_its_time_and_a_store_that_is_away_is_waited_out(cache: Cache) -> None:
    assert isinstance(cache.store, BusyStore) and isinstance(cache.clock, ManualClock)
    lose(cache, key(0).key)
    task = asyncio.create_task(run(cache, every_s=300))
    await asyncio.sleep(0)
    cache.store.trouble.leave()
    await cache.clock.advance(301)
    assert cache.alloc(key(0).id) is None
    cache.store.trouble.come_back()
    lose(cache, key(1).key)
    for _ in range(40):
        await cache.clock.advance(10)
    assert cache.alloc(key(1).id) is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
