"""Leadership over the store in memory: election, fence, terms, takeover, and what ends it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from controller.leader import Leader, LeadershipTerm, NotLeading
from controller.leader.term import KEPT_TERMS
from controller.store.memory import MemoryStore
from controller.store.protocol import Absent, CreatedAt, Delete, Put, StoreUnavailable
from moorage.kit.clock import ManualClock
from moorage.wire import keys
from moorage.wire.store_pb2 import Cluster, LeaderInfo

KEY = keys.ROOT + "written"
TTL_S = 10


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[MemoryStore]:
    store = MemoryStore(clock)
    yield store
    await store.close()


def leader(store: MemoryStore, clock: ManualClock, name: str = "a") -> Leader:
    info = LeaderInfo(agent_address=f"{name}:7001", api_url=f"http://{name}:7000")
    return Leader(store, clock, name, info, TTL_S, 3, rng=random.Random(name))


async def elected(store: MemoryStore, clock: ManualClock, name: str = "a") -> tuple[Leader, LeadershipTerm]:
    made = leader(store, clock, name)
    await made.turn()
    assert made.term is not None and made.is_leading()
    return made, made.term


async def cluster(store: MemoryStore) -> Cluster:
    found = await store.get(keys.CLUSTER)
    assert found is not None
    return Cluster.FromString(found.value)


async def write(leader: Leader, value: bytes) -> bool:
    return (await leader.commit([], [Put(KEY, value)])).ok


class Running:
    """A leader whose `run` goes on, with a clock that is advanced by hand."""

    def __init__(self, leader: Leader, clock: ManualClock) -> None:
        self.leader = leader
        self._clock = clock

    async def __aenter__(self) -> Leader:
        self._task = asyncio.create_task(self.leader.run(), name="leader")
        await settle()
        return self.leader

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def pass_time(clock: ManualClock, seconds: float) -> None:
    for _ in range(int(seconds * 2)):
        await clock.advance(0.5)
        await settle()


async def test_the_first_to_stand_leads_and_the_second_waits(store: MemoryStore, clock: ManualClock) -> None:
    await elected(store, clock, "a")
    second = leader(store, clock, "b")
    await second.turn()
    assert not second.is_leading()
    known = second.known()
    assert known is not None and known.controller == "a" and known.agent_address == "a:7001"


async def test_of_many_who_stand_at_once_one_leads(store: MemoryStore, clock: ManualClock) -> None:
    leaders = [leader(store, clock, f"c{number}") for number in range(10)]
    await asyncio.gather(*(each.turn() for each in leaders))
    assert sum(each.is_leading() for each in leaders) == 1


async def test_the_fence_is_the_creation_of_the_leaders_key(store: MemoryStore, clock: ManualClock) -> None:
    _, term = await elected(store, clock)
    found = await store.get(keys.LEADER)
    assert found is not None
    assert term.fence == CreatedAt(keys.LEADER, found.created) and term.revision == found.created
    assert LeaderInfo.FromString(found.value).term == term.id


async def test_the_first_election_makes_the_cluster_and_each_one_adds_a_term(
    store: MemoryStore, clock: ManualClock
) -> None:
    first, term = await elected(store, clock, "a")
    made = await cluster(store)
    assert made.generation == 1 and len(made.id) == 36
    await first.resign()
    _, next_term = await elected(store, clock, "b")
    grown = await cluster(store)
    assert grown.id == made.id
    assert [(each.id, each.revision, each.controller) for each in grown.terms] == [
        (term.id, term.revision, "a"),
        (next_term.id, next_term.revision, "b"),
    ]


async def test_the_list_of_terms_keeps_the_newest(store: MemoryStore, clock: ManualClock) -> None:
    for _ in range(KEPT_TERMS + 3):
        made, term = await elected(store, clock)
        await made.resign()
    terms = (await cluster(store)).terms
    assert len(terms) == KEPT_TERMS and terms[-1].id == term.id


async def test_nobody_leads_before_the_term_is_on_record(store: MemoryStore, clock: ManualClock) -> None:
    """The answer to the term's write is lost: the leadership that never began is replaced by another."""
    made = leader(store, clock)
    told: list[LeadershipTerm | None] = []
    made.subscribe(told.append)
    original, calls = store.commit, 0

    async def commit(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise StoreUnavailable("no answer")
        return await original(*arguments)  # type: ignore[arg-type]

    store.commit = commit  # type: ignore[method-assign, assignment]
    await made.turn()
    assert told == [] and not made.is_leading()
    await made.turn()
    assert made.is_leading() and told == [made.term]
    assert made.term is not None
    assert [term.id for term in (await cluster(store)).terms] == [made.term.id]


async def test_an_election_whose_answer_was_lost_is_repeated_at_once(store: MemoryStore, clock: ManualClock) -> None:
    store.trouble.lost_answers = 1
    made = leader(store, clock)
    await made.turn()
    assert not made.is_leading()
    await made.turn()
    assert made.is_leading() and await write(made, b"x")


async def test_a_controller_that_comes_back_takes_over_from_itself_at_once(
    store: MemoryStore, clock: ManualClock
) -> None:
    before, old = await elected(store, clock, "a")
    after, new = await elected(store, clock, "a")
    assert new.fence.revision > old.fence.revision
    assert await write(after, b"new")
    with pytest.raises(NotLeading):
        await write(before, b"old")
    found = await store.get(KEY)
    assert found is not None and found.value == b"new"
    assert not before.is_leading()


async def test_the_next_leadership_begins_when_the_lease_has_run_out_and_not_before(
    store: MemoryStore, clock: ManualClock
) -> None:
    """Either controller may win the next one."""
    async with Running(leader(store, clock, "a"), clock) as first, Running(leader(store, clock, "b"), clock) as second:
        await pass_time(clock, 60)
        assert first.is_leading() and not second.is_leading()
        assert (before := first.term) is not None
        store.trouble.leases_stalled = True
        for _ in range(2 * TTL_S + 4):
            await clock.advance(0.5)
            assert not (first.is_leading() and second.is_leading())
            await settle()
            assert not (first.is_leading() and second.is_leading())
        store.trouble.leases_stalled = False
        await pass_time(clock, 2)
        assert first.is_leading() != second.is_leading()
        assert (after := first.term or second.term) is not None
        assert after.fence.revision > before.fence.revision


async def test_a_leader_whose_lease_may_have_run_out_commits_nothing(store: MemoryStore, clock: ManualClock) -> None:
    """As after a SIGSTOP: no turn has run in between, the clock alone tells."""
    made, _ = await elected(store, clock)
    store.trouble.leases_stalled = True
    clock._now_ms += TTL_S * 1000
    assert not made.is_leading()
    with pytest.raises(NotLeading):
        await write(made, b"late")
    assert await store.get(KEY) is None


async def test_the_fence_refuses_a_write_that_was_on_its_way_while_another_was_elected(
    store: MemoryStore, clock: ManualClock
) -> None:
    first, term = await elected(store, clock, "a")
    await store.revoke(first._lease)
    _, _ = await elected(store, clock, "b")
    assert not (await store.commit([term.fence, Absent(KEY)], [Put(KEY, b"late")])).ok
    first._keeper = Always()
    with pytest.raises(NotLeading):
        await write(first, b"late")
    assert await store.get(KEY) is None
    assert first.term is None


class Always:
    """A keeper that is wrong: the fence has to do."""

    def until(self) -> float:
        return float("inf")

    def pulse(self) -> None: ...

    def close(self) -> None: ...


async def test_a_conflict_is_not_the_end_of_a_leadership(store: MemoryStore, clock: ManualClock) -> None:
    made, _ = await elected(store, clock)
    await store.commit([], [Put(KEY, b"theirs")])
    done = await made.commit([Absent(KEY)], [Put(KEY, b"ours")])
    assert not done.ok and made.is_leading()


async def test_a_leader_that_resigns_is_followed_without_waiting(store: MemoryStore, clock: ManualClock) -> None:
    async with Running(leader(store, clock, "b"), clock) as second:
        await pass_time(clock, 1)
        assert second.is_leading()
        async with Running(leader(store, clock, "a"), clock) as first:
            await second.resign()
            await settle()
            assert first.is_leading() and not second.is_leading()


async def test_a_cancelled_leader_gives_the_lease_back(store: MemoryStore, clock: ManualClock) -> None:
    async with Running(leader(store, clock), clock) as made:
        assert made.is_leading()
    assert await store.get(keys.LEADER) is None


async def test_subscribers_are_told_of_begin_and_end_and_one_that_fails_harms_nobody(
    store: MemoryStore, clock: ManualClock
) -> None:
    made = leader(store, clock)
    told: list[LeadershipTerm | None] = []

    def fails(_: LeadershipTerm | None) -> None:
        raise RuntimeError("mine")

    made.subscribe(fails)
    unsubscribe = made.subscribe(told.append)
    await made.turn()
    term = made.term
    made.end("for a test")
    made.end("twice")
    assert told == [term, None]
    unsubscribe()
    await made.turn()
    assert told == [term, None]


async def test_a_store_that_is_away_ends_the_leadership_when_the_lease_ends_and_it_comes_back_with_it(
    store: MemoryStore, clock: ManualClock
) -> None:
    async with Running(leader(store, clock), clock) as made:
        first = made.term
        store.trouble.leave()
        await pass_time(clock, TTL_S - 2)
        assert made.is_leading()
        with pytest.raises(StoreUnavailable):
            await write(made, b"x")
        await pass_time(clock, 4)
        assert not made.is_leading() and made.term is None
        store.trouble.come_back()
        await pass_time(clock, 2)
        assert made.is_leading() and made.term != first
        assert await write(made, b"x")


async def test_a_key_removed_by_somebody_ends_the_leadership(store: MemoryStore, clock: ManualClock) -> None:
    async with Running(leader(store, clock), clock) as made:
        old = made.term
        await store.commit([], [Delete(keys.LEADER)])
        await settle()
        assert made.term != old
        await pass_time(clock, 1)
        assert made.is_leading()


async def test_a_backup_restored_below_a_leader_ends_its_leadership(store: MemoryStore, clock: ManualClock) -> None:
    """The leader's key is in the backup, so the fence alone would hold."""
    async with Running(leader(store, clock), clock) as made:
        old = made.term
        assert old is not None
        backup = store.trouble.snapshot()
        for number in range(20):
            await write(made, b"%d" % number)
        await settle()
        store.trouble.restore(backup)
        await settle()
        assert made.term != old
        await pass_time(clock, 1)
        new = made.term
        assert new is not None and new.id != old.id
        assert [term.id for term in (await cluster(store)).terms] == [old.id, new.id]


async def test_a_commit_tells_a_restored_backup_before_the_watch_does(store: MemoryStore, clock: ManualClock) -> None:
    made, _ = await elected(store, clock)
    backup = store.trouble.snapshot()
    for number in range(20):
        await write(made, b"%d" % number)
    store.trouble.restore(backup)
    with pytest.raises(NotLeading):
        await write(made, b"into another history")
    assert made.term is None


async def test_a_full_store_elects_nobody_and_says_that_anybody_may_mend_it(
    store: MemoryStore, clock: ManualClock
) -> None:
    await store.commit([], [Put(KEY, b"x")])
    store.trouble.quota_bytes = 0
    made = leader(store, clock)
    await made.turn()
    assert not made.is_leading() and made.may_maintain()
