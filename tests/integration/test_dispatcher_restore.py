"""The store is put back to an old backup: agents that know better are refused until a person accepts it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.store.protocol import Put, StoreError
from moorage.wire import keys
from moorage.wire.session_pb2 import Redirect, Refused
from moorage.wire.store_pb2 import Cluster, NodeState
from tests.integration.dispatcher_world import QUICK, Agent, Controller, controller, put_version
from tests.unit.cache.samples import key, put_alloc, put_job


@pytest.fixture(params=["memory", pytest.param("etcd34", marks=pytest.mark.etcd)])
async def moor(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Controller]:
    async with controller(request.param, tmp_path) as made:
        await made.write(put_version(), put_alloc(key(0), "n1"))
        yield made


async def goes_back(moor: Controller) -> None:
    """To what was saved, from before the node's first session; and the controller leads, still or again."""
    await moor.world.restore()
    await moor.until(lambda: moor.cache.node("n1") is None and moor.dispatcher.may_send(), timeout_s=30)


async def refused(agent: Agent) -> Refused:
    """The answer of a controller that has found out who leads."""
    async with asyncio.timeout(20):
        while (answer := await agent.hello()).WhichOneof("message") == "redirect":
            agent.hang_up()
            await asyncio.sleep(0.05)
    assert answer.WhichOneof("message") == "refused", answer
    return answer.refused


async def suspicion(moor: Controller) -> str:
    for _ in range(100):
        try:
            return (await moor.cluster()).restore_suspected
        except StoreError:
            await asyncio.sleep(0.05)
    raise AssertionError("the store does not come back")


async def test_an_agent_that_has_seen_more_than_the_backup_is_refused_and_that_is_written_down(
    moor: Controller,
) -> None:
    await moor.world.save()
    agent, other = moor.agent("n1"), moor.agent("n2")
    await agent.join()
    await goes_back(moor)
    answer = await refused(agent)
    assert answer.code == "restore_suspected" and "accept-restore" in answer.reason
    assert "n1" in await suspicion(moor)
    assert (await moor.state("n1")).epoch == 0, "no epoch is raised: it would look newer than what the agent has seen"
    assert (await refused(other)).code == "restore_suspected", "nobody gets a set, not even who has seen nothing"


async def one_write_later(moor: Controller) -> Agent:
    """An agent that has acted on one write past a backup, which the store is put back to while no controller runs."""
    agent = moor.agent()
    await agent.join()
    await moor.world.save()
    await moor.write(put_alloc(key(1), "n1"))
    await agent.delta()
    await moor.stop(killed=True)
    await moor.world.restore()
    return agent


async def test_one_missing_write_is_enough_where_the_controller_was_restarted_too(moor: Controller) -> None:
    agent = await one_write_later(moor)
    again = Controller(moor.world, QUICK)
    await again.start()
    later = again.agent()
    later.cluster_id, later.seen = agent.cluster_id, agent.seen
    try:
        assert (await refused(later)).code == "restore_suspected"
        assert await suspicion(again)
    finally:
        await again.stop()


async def test_one_missing_write_is_enough_where_another_controller_starts_and_people_write_before_it_leads(
    moor: Controller,
) -> None:
    agent = await one_write_later(moor)
    other = Controller(moor.world, QUICK, "c2")
    await other.arrive()
    for number in range(5):  # while the lease that the backup holds runs out
        await other.write(put_job(version=number))
    await other.lead(timeout_s=20)
    cluster = await other.cluster()
    assert cluster.terms[0].revision < agent.seen.revision < cluster.terms[1].revision, "the terms tell nothing"
    later = other.agent()
    later.cluster_id, later.seen = agent.cluster_id, agent.seen
    try:
        assert (await refused(later)).code == "restore_suspected"
    finally:
        await other.stop()


async def test_controllers_that_come_and_go_make_no_agent_a_liar(moor: Controller) -> None:
    agent = moor.agent()
    await agent.join()
    second = Controller(moor.world, QUICK, "c2")
    await second.arrive()
    await moor.write(put_alloc(key(1), "n1"))
    await agent.delta()
    await second.write(put_job(version=2))
    await moor.stop()
    await second.lead(timeout_s=20)
    later = second.agent()
    later.cluster_id, later.seen = agent.cluster_id, agent.seen
    try:
        await later.join()
        assert later.seen.revision > agent.seen.revision or later.seen.epoch == 2
    finally:
        await second.stop()


async def test_a_new_generation_is_above_what_agents_have_seen_of_another_history(moor: Controller) -> None:
    await moor.world.save()
    await moor.dispatcher.accept_restore("ada")
    agent = moor.agent()
    await agent.join()
    assert agent.seen.generation == 2
    await goes_back(moor)
    assert (await refused(agent)).code == "restore_suspected"
    assert await moor.dispatcher.accept_restore("ada") == 3
    agent.hang_up()
    await agent.join()
    assert agent.seen.generation == 3


async def test_writes_that_let_the_revision_pass_what_agents_saw_change_nothing(moor: Controller) -> None:
    await moor.world.save()
    agent = moor.agent()
    await agent.join()
    await goes_back(moor)
    while moor.cache.revision <= agent.seen.revision + 5:
        await moor.write(put_job(version=moor.cache.revision))
    assert (await refused(agent)).code == "restore_suspected"
    assert await suspicion(moor)


async def test_the_suspicion_outlives_the_leadership(moor: Controller) -> None:
    await moor.world.save()
    agent = moor.agent()
    await agent.join()
    await goes_back(moor)
    assert (await refused(agent)).code == "restore_suspected"
    before = moor.leader.term
    moor.leader.end("for the test")
    await moor.until(lambda: moor.leader.term not in (None, before))
    assert (await refused(moor.agent("n9"))).code == "restore_suspected"


async def test_a_backup_of_an_epoch_earlier_is_refused_by_the_epoch_alone(moor: Controller) -> None:
    agent = moor.agent()
    await agent.join()
    older = await moor.state()
    agent.hang_up()
    await agent.join()
    # As if only the write of the second session were missing from this store's history.
    await moor.write(Put(keys.node_state("n1"), older.SerializeToString()))
    assert (await refused(agent)).code == "restore_suspected"
    assert "session 2" in await suspicion(moor)


async def test_a_suspicion_ends_every_session(moor: Controller) -> None:
    agent = moor.agent()
    await agent.join()
    cluster = await moor.cluster()
    cluster.restore_suspected = "found by another controller"
    await moor.write(Put(keys.CLUSTER, cluster.SerializeToString()))
    farewell = await agent.farewell()
    assert isinstance(farewell, Refused) and farewell.code == "restore_suspected"


async def test_while_suspected_no_node_is_declared_lost(moor: Controller) -> None:
    await moor.agent().join()
    cluster = await moor.cluster()
    cluster.restore_suspected = "found by another controller"
    await moor.write(Put(keys.CLUSTER, cluster.SerializeToString()))
    await asyncio.sleep(1.0)
    assert (await moor.state()).phase == NodeState.READY


async def test_after_accept_restore_a_new_generation_begins_and_all_goes_on(moor: Controller) -> None:
    await moor.world.save()
    agent = moor.agent()
    await agent.join()
    await goes_back(moor)
    await refused(agent)
    agent.hang_up()
    assert await moor.dispatcher.accept_restore("ada") == 2
    cluster = await moor.cluster()
    assert (cluster.generation, cluster.restore_suspected) == (2, "")
    welcome, assignments = await agent.join()
    assert welcome.welcome.position.generation == agent.seen.generation == 2
    assert set(assignments) == {key(0).id}
    told = {(event.kind, event.principal) for _, event in moor.cache.events()}
    assert told == {("restore_suspected", "controller"), ("restore_accepted", "ada")}


async def test_accept_restore_makes_every_session_begin_anew(moor: Controller) -> None:
    agent = moor.agent()
    await agent.join()
    assert await moor.dispatcher.accept_restore("ada") == 2
    assert isinstance(await agent.farewell(), Redirect)
    await agent.join()
    assert agent.seen.generation == 2


async def test_accept_restore_that_meets_an_election_tries_again(moor: Controller) -> None:
    kv = await moor.store.get(keys.CLUSTER)
    assert kv is not None
    cluster = Cluster.FromString(kv.value)
    cluster.terms.add(id="another", revision=kv.revision)
    await moor.store.commit([], [Put(keys.CLUSTER, cluster.SerializeToString())])
    await moor.dispatcher.accept_restore("ada")  # the cache has not heard of that yet
    assert (await moor.cluster()).generation == 2
    assert (await moor.cluster()).terms[-1].id == "another"
