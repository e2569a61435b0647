"""Leadership over real etcds: two controllers, one of them stopped by a signal, and the write it still had in hand."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.leader import Leader, judge
from controller.store.protocol import Store
from moorage.kit.clock import SystemClock
from moorage.wire import keys
from moorage.wire.session_pb2 import Position
from moorage.wire.store_pb2 import Cluster, LeaderInfo
from tests.contract.etcds import RELEASES
from tests.contract.worlds import EtcdWorld, eventually, world

pytestmark = pytest.mark.etcd

ROOT_FOLDER = Path(__file__).parents[2]
TTL_S = 2
WRITES = keys.ROOT + "writes/"

WRITER = """
import asyncio, itertools, sys
from controller.leader import Leader, NotLeading
from controller.store.etcd import EtcdStore
from controller.store.protocol import Put, StoreError
from moorage.kit.clock import SystemClock
from moorage.wire.store_pb2 import LeaderInfo

async def main(endpoint, name, prefix, ttl_s):
    store = await EtcdStore.connect([endpoint])
    leader = Leader(store, SystemClock(), name, LeaderInfo(), int(ttl_s), 0.3)
    running = asyncio.create_task(leader.run())
    for number in itertools.count():
        try:
            if leader.is_leading():
                await leader.commit([], [Put(f"{prefix}{name}/{number:06}", leader.term.id.encode())])
        except (NotLeading, StoreError):
            pass
        await asyncio.sleep(0.002)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(params=RELEASES)
async def sea(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EtcdWorld]:
    async with world(request.param, tmp_path, timeout_s=1.0) as made:
        assert isinstance(made, EtcdWorld)
        yield made


@contextlib.asynccontextmanager
async def writer(sea: EtcdWorld, name: str) -> AsyncIterator[Process]:
    """A controller of its own process that writes as fast as it may while it leads."""
    arguments = ["-c", WRITER, sea.etcd.endpoint, name, WRITES, str(TTL_S)]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE, cwd=ROOT_FOLDER)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@contextlib.asynccontextmanager
async def running(store: Store, name: str) -> AsyncIterator[Leader]:
    leader = Leader(store, SystemClock(), name, LeaderInfo(), TTL_S, 0.3)
    task = asyncio.create_task(leader.run(), name=name)
    yield leader
    task.cancel()
    await asyncio.wait({task})


async def leads(leader: Leader) -> None:
    assert leader.is_leading()


async def has_written(store: Store, name: str, more_than: int = 0) -> None:
    assert len((await store.list(f"{WRITES}{name}/")).items) > more_than


async def terms(store: Store) -> Cluster:
    found = await store.get(keys.CLUSTER)
    assert found is not None
    return Cluster.FromString(found.value)


async def test_a_leader_stopped_by_a_signal_writes_nothing_once_another_leads(sea: EtcdWorld) -> None:
    async with writer(sea, "a") as first:
        await eventually(lambda: has_written(sea.store, "a", 50))
        first.send_signal(signal.SIGSTOP)
        async with running(sea.store, "b") as second:
            await eventually(lambda: leads(second))
            assert second.term is not None
            began = second.term.revision
            first.send_signal(signal.SIGCONT)
            await asyncio.sleep(1)
            assert second.is_leading()
            late = [item for item in (await sea.store.list(WRITES + "a/")).items if item.revision > began]
            assert late == []
    assert [term.controller for term in (await terms(sea.store)).terms] == ["a", "b"]


async def test_a_killed_leader_that_comes_back_leads_before_its_old_lease_has_run_out(sea: EtcdWorld) -> None:
    async with running(sea.store, "other") as other:
        await eventually(lambda: leads(other))
    async with writer(sea, "a") as first:
        await eventually(lambda: has_written(sea.store, "a"))
        first.kill()
        await first.wait()
        async with asyncio.timeout(TTL_S / 2), running(sea.store, "a") as again:
            await eventually(lambda: leads(again))


async def test_a_leader_keeps_its_term_through_a_quick_restart_of_etcd(sea: EtcdWorld) -> None:
    async with running(sea.store, "a") as leader:
        await eventually(lambda: leads(leader))
        before = leader.term
        await sea.restart()
        for _ in range(20):
            assert leader.term == before
            await asyncio.sleep(0.1)
        assert leader.is_leading()


async def test_a_backup_restored_below_a_leader_begins_a_term_that_convicts_it(sea: EtcdWorld) -> None:
    """An agent that acted on what is lost contradicts the restored store, also after that has grown past it."""
    async with writer(sea, "a"):
        await eventually(lambda: has_written(sea.store, "a", 50))
        await sea.save()
        await eventually(lambda: has_written(sea.store, "a", 500))
        lost = (await terms(sea.store)).terms[-1]
        seen = Position(generation=1, epoch=1, revision=(await sea.store.status()).revision, term=lost.id)
        await sea.restore()
        await eventually(lambda: grown_past(sea.store, seen.revision))
    cluster = await terms(sea.store)
    assert len(cluster.terms) > 1 and cluster.terms[1].revision < seen.revision
    assert "older backup" in judge(cluster, [], (await sea.store.status()).revision, seen)


async def grown_past(store: Store, revision: int) -> None:
    assert (await store.status()).revision > revision
