"""What every store does while nothing goes wrong: guards, transactions, limits, pages, leases, watches, compaction.

What it does when something goes wrong is in test_store_faults.py. Both run over the store in memory, etcd 3.4 of this
machine and etcd 3.5 of Debian 13.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from controller.store.etcd import EtcdStore
from controller.store.memory import MemoryStore
from controller.store.protocol import (
    MAX_OPERATIONS,
    Absent,
    Changes,
    CreatedAt,
    Delete,
    Guard,
    LeaseGone,
    Operation,
    Put,
    Reset,
    Store,
    Unchanged,
)
from tests.contract.etcds import RELEASES, EtcdProcess
from tests.contract.worlds import QUICK, Follower

numbers = itertools.count()


@pytest.fixture(
    scope="module", params=["memory", *(pytest.param(release, marks=pytest.mark.etcd) for release in RELEASES)]
)
def endpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One etcd for the whole module; each test has a prefix of its own in it."""
    if request.param == "memory":
        yield ""
        return
    etcd = EtcdProcess(request.param, tmp_path_factory.mktemp(request.param))
    try:
        etcd.start()
        yield etcd.endpoint
    finally:
        etcd.kill()


@pytest.fixture
async def store(endpoint: str) -> AsyncIterator[Store]:
    store: Store = await EtcdStore.connect([endpoint], watch_timings=QUICK) if endpoint else MemoryStore()
    yield store
    await store.close()


@pytest.fixture
def root() -> str:
    return f"/test-{next(numbers)}/"


async def put(store: Store, key: str, value: bytes = b"x", lease: int = 0) -> int:
    """Returns the revision of the write."""
    done = await store.commit([], [Put(key, value, lease)])
    assert done.ok
    return done.revision


async def keys_under(store: Store, prefix: str) -> list[str]:
    return [item.key for item in (await store.list(prefix)).items]


async def test_what_was_put_is_read_back_with_its_revisions(store: Store, root: str) -> None:
    created = await put(store, root + "a", b"\x00binary\xff")
    changed = await put(store, root + "a", b"")
    found = await store.get(root + "a")
    assert found is not None
    assert (found.value, found.created, found.revision) == (b"", created, changed)
    assert await store.get(root + "b") is None


async def test_a_prefix_holds_what_begins_with_it_in_order_and_nothing_else(store: Store, root: str) -> None:
    for name in ["b/2", "a", "b/10", "c", "b", "bb/1"]:
        await put(store, root + name)
    assert await keys_under(store, root + "b/") == [root + "b/10", root + "b/2"]
    assert await keys_under(store, root + "nothing/") == []


async def test_each_guard_lets_pass_where_it_holds_and_stops_where_not(store: Store, root: str) -> None:
    key = root + "guarded"
    first = await put(store, key)
    second = await put(store, key)
    holds: list[Guard] = [Unchanged(key, second), CreatedAt(key, first), Absent(root + "other")]
    fails: list[Guard] = [Unchanged(key, first), CreatedAt(key, second), Absent(key), Unchanged(root + "other", first)]
    for guard in holds:
        assert (await store.commit([guard], [Put(root + "yes", b"")])).ok, guard
    for guard in fails:
        assert not (await store.commit([guard], [Put(root + "no", b"")])).ok, guard
    assert await store.get(root + "no") is None


async def test_a_key_made_again_does_not_pass_for_the_old_one(store: Store, root: str) -> None:
    key = root + "leader"
    old = await put(store, key)
    await store.commit([], [Delete(key)])
    new = await put(store, key)
    assert not (await store.commit([CreatedAt(key, old)], [])).ok
    assert (await store.commit([CreatedAt(key, new)], [])).ok


async def test_one_failed_guard_undoes_the_whole_transaction(store: Store, root: str) -> None:
    await put(store, root + "there")
    done = await store.commit(
        [Absent(root + "new"), Absent(root + "there")], [Put(root + "new", b""), Delete(root + "there")]
    )
    assert not done.ok
    assert await keys_under(store, root) == [root + "there"]


async def test_all_writes_of_a_transaction_have_its_revision(store: Store, root: str) -> None:
    operations = [Put(f"{root}{index}", b"x") for index in range(5)]
    done = await store.commit([], operations)
    assert {item.revision for item in (await store.list(root)).items} == {done.revision}


async def test_deleting_what_is_not_there_changes_nothing(store: Store, root: str) -> None:
    before = await put(store, root + "a")
    done = await store.commit([], [Delete(root + "b")])
    assert done.ok and done.revision == before


async def test_of_two_writers_at_once_one_wins(store: Store, root: str) -> None:
    revision = await put(store, root + "a", b"0")
    attempts = [store.commit([Unchanged(root + "a", revision)], [Put(root + "a", b"%d" % n)]) for n in range(20)]
    assert sum(done.ok for done in await asyncio.gather(*attempts)) == 1


async def test_the_largest_transaction_passes_and_a_larger_one_is_refused(store: Store, root: str) -> None:
    guards = [Absent(f"{root}{index:03}") for index in range(MAX_OPERATIONS + 1)]
    puts = [Put(f"{root}{index:03}", b"") for index in range(MAX_OPERATIONS + 1)]
    assert (await store.commit(guards[:-1], puts[:-1])).ok
    with pytest.raises(ValueError, match="at most 128"):
        await store.commit(guards, puts[:1])
    with pytest.raises(ValueError, match="at most 128"):
        await store.commit(guards[:1], puts)
    assert len(await keys_under(store, root)) == MAX_OPERATIONS


async def test_a_transaction_that_is_too_big_or_names_a_key_twice_is_refused(store: Store, root: str) -> None:
    with pytest.raises(ValueError, match="larger than"):
        await store.commit([], [Put(root + "big", bytes(1 << 21))])
    twice: list[Operation] = [Put(root + "a", b"1"), Delete(root + "a")]
    with pytest.raises(ValueError, match="at most once"):
        await store.commit([], twice)
    assert await keys_under(store, root) == []


async def test_more_than_ten_thousand_keys_are_listed_at_one_revision(store: Store, root: str) -> None:
    async def fill(part: int) -> None:
        await store.commit([], [Put(f"{root}{part:03}/{index:03}", b"v") for index in range(MAX_OPERATIONS)])

    await asyncio.gather(*map(fill, range(90)))
    listing, _ = await asyncio.gather(store.list(root), put(store, root + "999/late"))
    found = [item.key for item in listing.items if not item.key.endswith("late")]
    assert found == [f"{root}{part:03}/{index:03}" for part in range(90) for index in range(MAX_OPERATIONS)]
    assert all(item.revision <= listing.revision for item in listing.items)


async def test_large_values_are_listed_although_they_do_not_fit_into_one_message(store: Store, root: str) -> None:
    for index in range(75):
        await put(store, f"{root}{index:02}", bytes(1_000_000))
    listing = await store.list(root)
    assert [len(item.value) for item in listing.items] == [1_000_000] * 75
    await asyncio.gather(*(store.commit([], [Delete(item.key)]) for item in listing.items))


async def test_what_hangs_on_a_lease_goes_when_it_runs_out(store: Store, root: str) -> None:
    lease = await store.grant(1)
    await put(store, root + "leased", lease=lease)
    async with Follower(store, root) as follower:
        await follower.until(lambda: root + "leased" not in follower.data)
    assert await store.get(root + "leased") is None
    assert await store.keep_alive(lease) <= 0


async def test_a_lease_that_is_kept_alive_stays(store: Store, root: str) -> None:
    lease = await store.grant(1)
    await put(store, root + "leased", lease=lease)
    for _ in range(10):
        assert 0 < await store.keep_alive(lease) <= 1
        await asyncio.sleep(0.2)
    assert await store.get(root + "leased") is not None


async def test_a_kept_lease_outlives_a_stalled_event_loop(store: Store, root: str) -> None:
    granted_at = time.monotonic()
    lease = await store.grant(1)
    keeper = store.keep_lease(lease, ttl_s=1, renew_s=0.2, granted_at=granted_at)
    await put(store, root + "leased", lease=lease)
    time.sleep(2)  # noqa: ASYNC251 (the stall itself)
    assert keeper.until() > time.monotonic()
    assert await store.get(root + "leased") is not None
    keeper.close()
    async with Follower(store, root) as follower:
        await follower.until(lambda: not follower.data)


async def test_a_kept_lease_that_is_revoked_is_noticed(store: Store, root: str) -> None:
    granted_at = time.monotonic()
    lease = await store.grant(2)
    keeper = store.keep_lease(lease, ttl_s=2, renew_s=0.1, granted_at=granted_at)
    await store.revoke(lease)
    await asyncio.sleep(0.5)
    assert keeper.until() < time.monotonic()
    keeper.close()


async def test_revoking_a_lease_removes_its_keys_and_may_be_done_twice(store: Store, root: str) -> None:
    lease = await store.grant(60)
    await put(store, root + "leased", lease=lease)
    await put(store, root + "free", lease=lease)
    await put(store, root + "free")
    await store.revoke(lease)
    await store.revoke(lease)
    assert await keys_under(store, root) == [root + "free"]
    with pytest.raises(LeaseGone):
        await store.commit([], [Put(root + "leased", b"", lease)])


async def test_a_watch_begins_with_the_truth_and_goes_on_with_what_changes(store: Store, root: str) -> None:
    await put(store, root + "old")
    async with Follower(store, root) as follower:
        assert set(follower.data) == {root + "old"}
        await put(store, root + "new")
        done = await store.commit([], [Delete(root + "old")])
        await follower.passes(done.revision)
        assert set(follower.data) == {root + "new"}
        assert follower.resets == 1


async def test_a_transaction_of_many_keys_comes_in_one_batch(store: Store, root: str) -> None:
    async with Follower(store, root) as follower:
        for round_ in range(5):
            operations = [Put(f"{root}{index}", b"%d" % round_ * 10_000) for index in range(MAX_OPERATIONS)]
            await store.commit([], operations)
        await follower.until(lambda: len(follower.batches) > 1 and follower.data[root + "0"].value[:1] == b"4")
        for batch in follower.batches[1:]:
            if isinstance(batch, Changes) and batch.puts:
                assert len(batch.puts) == MAX_OPERATIONS


async def test_changes_larger_than_a_message_are_put_together_again(store: Store, root: str) -> None:
    """What a watch has missed by now is far more than etcd sends at once: it comes in fragments."""
    async with contextlib.aclosing(store.watch(root)) as watch:
        assert isinstance(await anext(watch), Reset)
        for round_ in range(20):
            puts = [Put(f"{root}{index}", b"%02d" % round_ * 5_000) for index in range(MAX_OPERATIONS)]
            last = (await store.commit([], puts)).revision
        seen: dict[str, bytes] = {}
        async for batch in watch:
            assert isinstance(batch, Changes)
            assert len(batch.puts) == MAX_OPERATIONS and len({put.revision for put in batch.puts}) == 1
            seen |= {put.key: put.value[:2] for put in batch.puts}
            if batch.revision == last:
                break
        assert seen == {f"{root}{index}": b"19" for index in range(MAX_OPERATIONS)}


async def test_a_key_deleted_and_made_again_shows_another_creation(store: Store, root: str) -> None:
    first = await put(store, root + "a")
    async with Follower(store, root) as follower:
        await store.commit([], [Delete(root + "a")])
        second = await put(store, root + "a")
        await follower.passes(second)
        assert first < follower.data[root + "a"].created == second


async def test_a_watcher_of_a_quiet_prefix_learns_that_nothing_happened(store: Store, root: str) -> None:
    async with Follower(store, root + "quiet/") as follower:
        elsewhere = await put(store, root + "elsewhere")
        await follower.passes(elsewhere)
        assert follower.data == {} and follower.resets == 1


async def test_many_watchers_see_the_same(store: Store, root: str) -> None:
    async with Follower(store, root) as one, Follower(store, root) as two:
        for index in range(50):
            last = await put(store, f"{root}{index % 7}", b"%d" % index)
        await one.passes(last)
        await two.passes(last)
        assert one.data == two.data == {item.key: item for item in (await store.list(root)).items}


async def test_compaction_keeps_the_present_and_may_be_done_twice(store: Store, root: str) -> None:
    await put(store, root + "a", b"1")
    revision = await put(store, root + "a", b"2")
    await store.compact(revision)
    await store.compact(revision - 1)
    found = await store.get(root + "a")
    assert found is not None and found.value == b"2"


async def test_a_watch_that_keeps_up_does_not_mind_compaction(store: Store, root: str) -> None:
    async with Follower(store, root) as follower:
        for index in range(10):
            revision = await put(store, root + "a", b"%d" % index)
            await follower.passes(revision)
            await store.compact(revision)
        assert follower.resets == 1 and follower.data[root + "a"].value == b"9"


async def test_the_status_tells_revision_size_and_release(store: Store, root: str) -> None:
    revision = await put(store, root + "a")
    status = await store.status()
    assert status.revision >= revision and status.size_bytes > 0
    assert not status.quota_alarm and status.version
