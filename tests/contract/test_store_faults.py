"""What a store does when something goes wrong: etcd killed, stopped, restored from an old backup, compacted, full.

Each test has a world of its own. Followers check with every batch that a watch keeps its promises (worlds.Follower).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.store.maintenance import Maintenance
from controller.store.protocol import (
    Absent,
    Changes,
    Delete,
    Put,
    Reset,
    Store,
    StoreFull,
    StoreUnavailable,
    Unchanged,
)
from moorage.kit.clock import SystemClock
from tests.contract.etcds import RELEASES
from tests.contract.worlds import Follower, MemoryWorld, World, eventually, world

KINDS = ["memory", *(pytest.param(release, marks=pytest.mark.etcd) for release in RELEASES)]
ROOT = "/moorage/"
QUOTA = 3 << 20


@pytest.fixture(params=KINDS)
async def sea(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with world(request.param, tmp_path, timeout_s=1.0) as made:
        yield made


@pytest.fixture(params=KINDS)
async def small(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A world with a small quota."""
    async with world(request.param, tmp_path, f"--quota-backend-bytes={QUOTA}") as made:
        if isinstance(made, MemoryWorld):
            made.memory.trouble.quota_bytes = QUOTA
        yield made


async def put(store: Store, key: str, value: bytes = b"x") -> int:
    return (await store.commit([], [Put(ROOT + key, value)])).revision


async def agree(store: Store, follower: Follower) -> None:
    """The follower holds what the store holds, once it has come as far."""
    listing = await store.list(ROOT)
    await follower.passes(max((item.revision for item in listing.items), default=0))
    assert follower.data == {item.key: item for item in listing.items}


async def test_after_a_kill_and_a_restart_there_is_a_reset_and_nothing_is_lost(sea: World) -> None:
    async with Follower(sea.store, ROOT) as follower:
        await put(sea.store, "before")
        await sea.restart()
        await follower.until(lambda: follower.resets == 2)
        await eventually(lambda: put(sea.store, "after"))
        await agree(sea.store, follower)
        assert set(follower.data) == {ROOT + "before", ROOT + "after"}


async def test_what_was_deleted_while_a_watch_was_away_is_not_in_the_reset(sea: World) -> None:
    await put(sea.store, "a")
    async with Follower(sea.store, ROOT) as follower:
        await sea.restart()
        await eventually(lambda: sea.store.commit([], [Delete(ROOT + "a")]))
        await follower.until(lambda: not follower.data)


async def test_a_stopped_store_is_noticed_by_calls_and_by_watches(sea: World) -> None:
    async with Follower(sea.store, ROOT) as follower:
        await put(sea.store, "before")
        await sea.stop()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await sea.store.get(ROOT + "before")
        with pytest.raises(StoreUnavailable):
            await put(sea.store, "meanwhile")
        assert time.monotonic() - began < 3
        await asyncio.sleep(1.5)  # longer than the silence that a watch puts up with
        await sea.go_on()
        await follower.until(lambda: follower.resets == 2)
        await eventually(lambda: put(sea.store, "after"))
        await agree(sea.store, follower)


async def test_a_slow_consumer_is_not_taken_for_a_stopped_store(sea: World) -> None:
    async with contextlib.aclosing(sea.store.watch(ROOT)) as watch:
        assert isinstance(await anext(watch), Reset)
        for index in range(3):
            await put(sea.store, f"{index}")
            assert isinstance(await anext(watch), Changes)
            await asyncio.sleep(1.2)


async def test_a_watch_left_behind_by_compaction_begins_anew(sea: World) -> None:
    """The consumer holds on to its Reset while history is compacted past it."""
    await put(sea.store, "gone")
    async with contextlib.aclosing(sea.store.watch(ROOT)) as watch:
        first = await anext(watch)
        await sea.store.commit([], [Delete(ROOT + "gone")])
        for index in range(5):
            last = await put(sea.store, "a", b"%d" % index)
        await sea.store.compact(last)
        second = await anext(watch)
        assert isinstance(first, Reset) and isinstance(second, Reset)
        assert [item.key for item in second.items] == [ROOT + "a"]
        assert second.revision >= last > first.revision


async def test_a_backup_restored_under_a_living_watch_is_a_reset_to_lower_revisions(sea: World) -> None:
    await put(sea.store, "kept", b"old")
    async with Follower(sea.store, ROOT) as follower:
        await sea.save()
        for index in range(200):
            last = await put(sea.store, "kept" if index else "lost", b"new")
        await follower.passes(last)
        await sea.restore()
        await follower.until(lambda: follower.resets == 2)
        assert {key: item.value for key, item in follower.data.items()} == {ROOT + "kept": b"old"}
        assert follower.revision < last
        await eventually(lambda: put(sea.store, "after"))
        await agree(sea.store, follower)


async def test_a_guard_from_before_a_restore_does_not_hold_after_it(sea: World) -> None:
    await put(sea.store, "a")
    await sea.save()
    newer = await put(sea.store, "a", b"newer")
    await sea.restore()
    await eventually(lambda: sea.store.get(ROOT + "a"))
    assert not (await sea.store.commit([Unchanged(ROOT + "a", newer)], [Put(ROOT + "a", b"")])).ok


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_nothing_acknowledged_is_lost_under_writers_restarts_and_stops(sea: World, seed: int) -> None:
    """Writers count up keys of their own with guards; a count that was acknowledged is never undone nor repeated."""
    rng = random.Random(seed)
    acknowledged: dict[str, int] = {}
    done = asyncio.Event()

    async def write(key: str) -> None:
        while not done.is_set():
            with contextlib.suppress(StoreUnavailable):
                found = await sea.store.get(key)
                count = int(found.value) + 1 if found else 1
                assert count > acknowledged.get(key, 0), "an acknowledged write is gone"
                guard = Unchanged(key, found.revision) if found else Absent(key)
                if (await sea.store.commit([guard], [Put(key, b"%d" % count), Put(key + "/twin", b"%d" % count)])).ok:
                    acknowledged[key] = count
            await asyncio.sleep(rng.random() * 0.01)

    async def disturb() -> None:
        for _ in range(3):
            await asyncio.sleep(0.1 + rng.random() * 0.3)
            if rng.random() < 0.5:
                await sea.restart()
            else:
                await sea.stop()
                await asyncio.sleep(rng.random())
                await sea.go_on()
        await asyncio.sleep(0.2)
        done.set()

    async with Follower(sea.store, ROOT) as follower:
        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(write(f"{ROOT}{number}"))
            group.create_task(disturb())
        await eventually(lambda: agree(sea.store, follower))
        assert len(acknowledged) == 8
        for key, count in acknowledged.items():
            assert int(follower.data[key].value) >= count
            assert follower.data[key].value == follower.data[key + "/twin"].value
            assert follower.data[key].revision == follower.data[key + "/twin"].revision


async def test_a_filled_quota_is_noticed_said_and_recovered_from(small: World) -> None:
    """The room is taken by old versions of one key: compaction and defragmentation free it."""
    maintenance = Maintenance(small.store, SystemClock(), lambda: True)
    await maintenance.turn()
    assert maintenance.trouble == ""
    await put(small.store, "kept", b"kept")
    with pytest.raises(StoreFull):
        for index in range(2000):
            await put(small.store, "big", b"%d" % (index % 10) * 50_000)
    onlooker = Maintenance(small.store, SystemClock(), lambda: False)
    await onlooker.turn()
    assert "the store is full" in onlooker.trouble
    await maintenance.turn()
    await onlooker.turn()
    assert maintenance.trouble == onlooker.trouble == ""
    assert not (await small.store.status()).quota_alarm
    await put(small.store, "big", b"again")
    found = await small.store.get(ROOT + "kept")
    assert found is not None and found.value == b"kept"


async def test_a_quota_filled_by_what_is_alive_stays_in_trouble_until_something_is_deleted(small: World) -> None:
    maintenance = Maintenance(small.store, SystemClock(), lambda: True, interval_s=0.05)
    keys = []
    with pytest.raises(StoreFull):
        for index in range(200):
            keys.append(f"{ROOT}{index}")
            await put(small.store, f"{index}", b"x" * 50_000)
    await maintenance.turn()
    assert "MiB are left" in maintenance.trouble
    await maintenance.turn()
    assert "MiB are left" in maintenance.trouble
    await small.store.commit([], [Delete(key) for key in keys[: len(keys) * 3 // 4]])  # etcd 3.5 overshoots by half
    await well(maintenance)
    await taken(maintenance, small.store, "again")


async def taken(maintenance: Maintenance, store: Store, name: str) -> None:
    """A write goes through; an alarm that etcd raises once more on its way down is taken back, too."""
    async with asyncio.timeout(10):
        while True:
            try:
                await put(store, name)
            except StoreFull:
                await maintenance.turn()
            else:
                return


async def well(maintenance: Maintenance) -> None:
    async with asyncio.timeout(10):
        while maintenance.trouble:
            await maintenance.turn()
            await asyncio.sleep(0.05)


async def test_an_unknown_outcome_of_a_write_is_told_as_such() -> None:
    async with world("memory", Path("/")) as made:
        assert isinstance(made, MemoryWorld)
        made.memory.trouble.lost_answers = 1
        with pytest.raises(StoreUnavailable):
            await put(made.store, "a")
        assert await made.store.get(ROOT + "a") is not None
