"""After many jobs have come and gone the store is as small as at the beginning."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from controller.store.etcd import EtcdStore
from controller.store.protocol import Put
from moorage.client import Client
from moorage.wire import keys
from moorage.wire.store_pb2 import RUNNING, AllocStatus, PlanMark
from tests.integration.processes import Cluster, cluster, eventually, gone_or_asked, service

pytestmark = pytest.mark.etcd

CYCLES = 200
AT_ONCE = 20


async def kinds(store: EtcdStore) -> Counter[str]:
    return Counter(item.key[len(keys.ROOT) :].partition("/")[0] for item in (await store.list(keys.ROOT)).items)


async def size(store: EtcdStore) -> int:
    """Of what is alive alone."""
    await store.compact((await store.status()).revision)
    await store.defragment()
    return (await store.status()).size_bytes


async def test_two_hundred_jobs_that_came_and_went_leave_nothing_in_the_store(tmp_path: Path) -> None:
    quick = {"MOOR_KEEP_FINISHED": "1", "MOOR_COMPACT_EVERY": "5"}
    async with cluster(tmp_path, controllers=1, agents=2, **quick) as made, made.controllers[0].client() as client:
        store = await EtcdStore.connect([made.etcd.endpoint])
        try:
            await eventually(lambda: settled(store), "the beginning's events are gone", 60)
            before, bytes_before = await kinds(store), await size(store)
            for start in range(0, CYCLES, AT_ONCE):
                await asyncio.gather(*(life(made, client, number) for number in range(start, start + AT_ONCE)))
            await leave_marks(store)
            await eventually(lambda: same(store, before), f"the store holds {before} again", 90)
            assert await size(store) <= bytes_before + (64 << 10)
            assert made.places() == Counter()
        finally:
            await store.close()


async def life(made: Cluster, client: Client, number: int) -> None:
    """Applied, crashing or well, scaled, updated, one stopped by hand, deleted."""
    name = f"job{number}"
    command = ["false"] if number % 5 == 0 else ["sleep", "100000"]
    await client.put_job({"name": name, **service(2, command=command)})
    await eventually(lambda: client.list_allocations(job=name), f"{name} is placed")
    await client.scale_job(name, "web", 3)
    await client.put_job({"name": name, **service(1, image="busybox:2", command=command)})
    for one in (await client.list_allocations(job=name))[:1]:
        await gone_or_asked(client.stop_allocation(one.id))
    await client.delete_job(name)


async def leave_marks(store: EtcdStore) -> None:
    """What a crash between two writes may leave."""
    stray = AllocStatus(alloc="0123456789abcdef", phase=RUNNING)
    mark = PlanMark(created_ms=1)
    left = [Put(keys.status("n0", stray.alloc), stray.SerializeToString())]
    left.append(Put(keys.plan("left"), mark.SerializeToString()))
    await store.commit([], left)


async def settled(store: EtcdStore) -> bool:
    return (await kinds(store))["event"] == 0


async def same(store: EtcdStore, before: Counter[str]) -> bool:
    return await kinds(store) == before
