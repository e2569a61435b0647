"""Sessions over real gRPC, with the store in memory and a real etcd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.store.protocol import Delete, Put
from moorage.wire import keys
from moorage.wire.session_pb2 import Orphan, OrphanReport, Position, Redirect, Refused, SetDone
from moorage.wire.store_pb2 import FAILED, HEALTH_UNKNOWN, PREPARING, RUNNING, STOPPED, NodeState, PlanMark
from tests.integration.dispatcher_world import Controller, controller, put_version
from tests.unit.cache.samples import alloc_status, key, node_facts, put_alloc


@pytest.fixture(params=["memory", pytest.param("etcd34", marks=pytest.mark.etcd)])
async def moor(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Controller]:
    async with controller(request.param, tmp_path) as made:
        yield made


async def test_hello_is_answered_by_welcome_and_the_complete_set(moor: Controller) -> None:
    await moor.write(
        put_version(), put_alloc(key(0), "n1"), put_alloc(key(1), "n2"), put_alloc(key(2), "n1", stop=True)
    )
    agent = moor.agent()
    welcome, assignments = await agent.join()
    assert (await moor.cluster()).id == welcome.welcome.cluster_id
    assert welcome.welcome.node_name == "n1"
    assert (welcome.welcome.heartbeat_ms, welcome.welcome.lost_after_ms) == (100, 600)
    assert set(assignments) == {key(0).id, key(2).id}
    run, stop = assignments[key(0).id], assignments[key(2).id]
    assert (run.stop, run.project, run.job, run.index, run.attempt) == (False, "default", "hello", 0, 1)
    assert run.spec.tasks[0].container.image == "busybox:1"
    assert (stop.stop, stop.stop_reason, stop.HasField("spec")) == (True, "scaled down", False)
    position = agent.seen
    assert (position.generation, position.epoch) == (1, 1)
    assert moor.leader.term is not None and position.term == moor.leader.term.id
    assert position.revision >= (await moor.store.get(keys.node_state("n1"))).revision  # type: ignore[union-attr]


async def test_a_node_is_ready_with_its_facts_and_gets_the_smallest_ordinal_that_is_free(moor: Controller) -> None:
    await asyncio.gather(*(moor.agent(f"n{number}").join() for number in range(5)))
    states = [await moor.state(f"n{number}") for number in range(5)]
    assert sorted(state.ordinal for state in states) == [1, 2, 3, 4, 5]
    assert {state.phase for state in states} == {NodeState.READY}
    assert await moor.facts("n3") == node_facts("n3")


async def test_facts_are_written_only_when_they_changed(moor: Controller) -> None:
    agent = moor.agent()
    await agent.join()
    written = await moor.store.get(keys.node_facts("n1"))
    await agent.say(facts=node_facts("n1"))
    agent.hang_up()
    await agent.join()
    assert await moor.store.get(keys.node_facts("n1")) == written
    changed = node_facts("n1")
    changed.attributes["docker.version"] = "26.1"
    await agent.say(facts=changed)
    await moor.until(lambda: (node := moor.cache.node("n1")) and node.facts == changed)


async def test_two_nodes_of_one_name_are_told_apart(moor: Controller) -> None:
    first, second = moor.agent("aaaaaaaa-1"), moor.agent("bbbbbbbb-2")
    first.facts.name = second.facts.name = "web"
    await first.join()
    welcome, _ = await second.join()
    assert welcome.welcome.node_name == "web-bbbbbbbb"
    assert moor.cache.node_by_name("web").id == "aaaaaaaa-1"  # type: ignore[union-attr]


@pytest.mark.parametrize("token", ["", "wrong", "moor_user_secret"])
async def test_without_an_agents_token_there_is_no_session(moor: Controller, token: str) -> None:
    answer = await moor.agent(token=token).hello()
    assert answer.refused.code == "unauthenticated"
    assert (await moor.state()).epoch == 0


async def test_an_agent_of_another_cluster_or_protocol_is_refused(moor: Controller) -> None:
    stranger, future, nobody = moor.agent(), moor.agent(), moor.agent("../x")
    stranger.cluster_id, future.protocol = "another", 9
    assert (await stranger.hello()).refused.code == "wrong_cluster"
    assert (await future.hello()).refused.code == "protocol"
    assert (await nobody.hello()).refused.code == "protocol"
    assert (await moor.state()).epoch == 0


async def test_a_controller_that_lost_its_leadership_ends_sessions_and_redirects(moor: Controller) -> None:
    agent = moor.agent()
    await agent.join()
    await moor.leader.resign()
    farewell = await agent.farewell()
    assert isinstance(farewell, Redirect) and "lead" in farewell.reason
    answer = await agent.hello()
    assert answer.WhichOneof("message") == "redirect"
    assert (await moor.state()).epoch == 1


async def test_changes_come_as_deltas_and_those_of_one_moment_in_one(moor: Controller) -> None:
    await moor.write(put_version(1), put_version(2, image="busybox:2"))
    agent = moor.agent()
    await agent.join()
    before = agent.seen.revision
    committed = await moor.write(*(put_alloc(key(index), "n1") for index in range(40)), put_alloc(key(99), "n2"))
    delta = (await agent.delta()).delta
    assert {a.alloc for a in delta.changed} == {key(index).id for index in range(40)}
    assert before < delta.position.revision == committed.revision
    assert delta.changed[0].spec.tasks[0].container.image == "busybox:1"
    await moor.write(put_alloc(key(0), "n1", version=2), put_alloc(key(1), "n1", stop=True))
    changed = {a.alloc: a for a in (await agent.delta()).delta.changed}
    assert changed[key(0).id].spec.tasks[0].container.image == "busybox:2"
    assert changed[key(1).id].stop and not changed[key(1).id].HasField("spec")


async def test_an_allocation_that_is_deleted_is_told_as_forgotten(moor: Controller) -> None:
    await moor.write(put_version(), put_alloc(key(0), "n1", stop=True))
    agent = moor.agent()
    await agent.join()
    await agent.report(1, alloc_status(key(0), STOPPED, HEALTH_UNKNOWN))
    await agent.hear("ack")
    await moor.write(Delete(key(0).key), Delete(keys.status("n1", key(0).id)))
    delta = (await agent.delta()).delta
    assert list(delta.forgotten) == [key(0).id] and not delta.changed


async def test_a_newer_attempt_stops_the_older_one_wherever_it_runs(moor: Controller) -> None:
    await moor.write(put_version(), put_alloc(key(0, 1), "n1"))
    agent = moor.agent()
    await agent.join()
    await moor.write(put_alloc(key(0, 2), "n2"))
    (told,) = (await agent.delta()).delta.changed
    assert (told.alloc, told.stop, told.stop_reason) == (key(0, 1).id, True, "superseded")
    agent.hang_up()
    _, assignments = await agent.join()
    assert assignments[key(0, 1).id].stop


async def test_a_plan_of_several_transactions_is_handed_out_with_its_mark(moor: Controller) -> None:
    await moor.write(put_version(), put_alloc(key(0, 1), "n1"))
    agent = moor.agent()
    await agent.join()
    await moor.write(put_alloc(key(0, 2), "n2", plan="p1"), put_alloc(key(1), "n1", plan="p1"))
    other = moor.agent()
    _, assignments = await other.join()
    assert set(assignments) == {key(0, 1).id} and not assignments[key(0, 1).id].stop
    await moor.write(Put(keys.plan("p1"), PlanMark().SerializeToString()))
    changed = {a.alloc: a.stop for a in (await other.delta()).delta.changed}
    assert changed == {key(0, 1).id: True, key(1).id: False}


async def test_statuses_are_acknowledged_once_they_are_stored(moor: Controller) -> None:
    await moor.write(put_version(), put_alloc(key(0), "n1"), put_alloc(key(1), "n1"))
    agent = moor.agent()
    await agent.join()
    await agent.report(1, alloc_status(key(0), PREPARING, HEALTH_UNKNOWN, 1), alloc_status(key(1), serial=1))
    assert (await agent.hear("ack")).ack.serial == 1
    assert (await moor.status(key(0).id)).phase == PREPARING  # type: ignore[union-attr]
    assert await moor.status(key(1).id) == alloc_status(key(1), serial=1)
    await agent.report(2)
    assert (await agent.hear("ack")).ack.serial == 2, "an empty batch asks whether anybody is there"


async def test_state_only_moves_forward(moor: Controller) -> None:
    await moor.write(put_version(), put_alloc(key(0), "n1"))
    agent = moor.agent()
    await agent.join()
    for serial, status in enumerate(
        [
            alloc_status(key(0), RUNNING, serial=5),
            alloc_status(key(0), PREPARING, serial=4),
            alloc_status(key(0), FAILED, serial=6),
            alloc_status(key(0), RUNNING, serial=7),
        ]
    ):
        await agent.report(serial, status)
        assert (await agent.hear("ack")).ack.serial == serial
    stored = await moor.status(key(0).id)
    assert stored is not None and (stored.phase, stored.serial) == (FAILED, 6)


async def test_a_status_of_another_nodes_or_of_no_allocation_is_acknowledged_and_dropped(moor: Controller) -> None:
    await moor.write(put_version(), put_alloc(key(0), "n2"))
    agent = moor.agent()
    await agent.join()
    await agent.report(1, alloc_status(key(0)), alloc_status(key(7)))
    assert (await agent.hear("ack")).ack.serial == 1
    assert list((await agent.delta()).delta.forgotten) == [key(7).id]
    assert await moor.status(key(0).id) is await moor.status(key(7).id) is None


async def test_many_statuses_of_many_nodes_share_transactions_and_are_all_acknowledged(moor: Controller) -> None:
    await moor.write(put_version())
    for node in range(10):
        await moor.write(*(put_alloc(key(node * 100 + index), f"n{node}") for index in range(30)))
    agents = [moor.agent(f"n{node}") for node in range(10)]
    await asyncio.gather(*(agent.join() for agent in agents))
    before = moor.cache.revision
    for node, agent in enumerate(agents):
        for index in range(30):
            await agent.report(index, alloc_status(key(node * 100 + index), serial=1))
    for agent in agents:
        while (await agent.hear("ack")).ack.serial < 29:
            pass
    await moor.until(lambda: all(moor.cache.status(a.id) for a in moor.cache.allocs()))
    assert moor.cache.revision - before < 100, "300 statuses in a fraction of as many transactions"


async def test_a_second_session_of_a_node_ends_the_first_and_its_statuses_do_not_count(moor: Controller) -> None:
    await moor.write(put_version(), put_alloc(key(0), "n1"))
    old, new = moor.agent(), moor.agent()
    await old.join()
    stale = moor.dispatcher.sessions["n1"]
    await new.join()
    assert new.seen.epoch == 2
    farewell = await old.farewell()
    assert isinstance(farewell, Refused) and farewell.code == "node_id_taken"
    # As if the old session's status had been on its way when the new one began.
    stale.line.closed = False
    stale.line.accept(alloc_status(key(0), FAILED, serial=9))
    moor.dispatcher._statuses.add(stale.line)
    await moor.until(lambda: not stale.line.pending and not stale.line.busy)
    assert await moor.status(key(0).id) is None
    await new.report(1, alloc_status(key(0), RUNNING, serial=3))
    await new.hear("ack")
    assert (await moor.status(key(0).id)).serial == 3  # type: ignore[union-attr]


async def test_a_session_goes_on_where_its_nodes_state_was_rewritten_under_the_same_epoch(moor: Controller) -> None:
    await moor.write(put_version(), put_alloc(key(0), "n1"))
    agent = moor.agent()
    await agent.join()
    state = await moor.state()
    state.message = "rewritten"
    await moor.write(Put(keys.node_state("n1"), state.SerializeToString()))
    await agent.report(1, alloc_status(key(0)))
    assert (await agent.hear("ack")).ack.serial == 1
    assert await moor.status(key(0).id) is not None


async def test_a_silent_node_is_lost_and_ready_again_after_the_next_hello(moor: Controller) -> None:
    silent, alive = moor.agent("n1"), moor.agent("n2")
    await silent.join()
    await alive.join()
    lost = asyncio.create_task(silent.farewell())
    while not lost.done():
        await alive.beat()
        await asyncio.sleep(0.05)
    assert isinstance(await lost, Redirect)
    state = await moor.state("n1")
    assert (state.phase, state.epoch, state.message) == (NodeState.LOST, 1, "no heartbeat for 0.6 s")
    assert state.lost_since_ms > 0
    assert (await moor.state("n2")).phase == NodeState.READY
    await silent.join()
    state = await moor.state("n1")
    assert (state.phase, state.epoch, state.lost_since_ms) == (NodeState.READY, 2, 0)


async def test_a_loss_whose_answer_was_lost_ends_the_session_all_the_same(moor: Controller) -> None:
    """Or the node would stay lost for as long as its agent is heard."""
    agent = moor.agent()
    await agent.join()
    state = await moor.state()
    state.phase, state.lost_since_ms = NodeState.LOST, 1
    lost = asyncio.create_task(agent.farewell())
    await moor.write(Put(keys.node_state("n1"), state.SerializeToString()))
    assert isinstance(await asyncio.wait_for(lost, 5), Redirect)
    await agent.join()
    assert (await moor.state()).phase == NodeState.READY


async def test_heartbeats_stay_in_memory(moor: Controller) -> None:
    agent = moor.agent()
    await agent.join()
    before = (await moor.store.status()).revision
    await agent.beat()
    await moor.until(lambda: moor.dispatcher.usage("n1"))
    usage = moor.dispatcher.usage("n1")
    assert usage is not None and usage.usage.cpu_usage_us == 7
    assert (await moor.store.status()).revision == before


async def test_orphans_are_known_and_dropped_on_demand(moor: Controller) -> None:
    agent = moor.agent()
    await agent.join()
    await agent.say(orphans=OrphanReport(orphans=[Orphan(alloc="a1", job="gone")]))
    await moor.until(lambda: moor.dispatcher.orphans("n1"))
    assert moor.dispatcher.orphans("n1")[0].job == "gone"
    moor.dispatcher.drop_orphans("n1", ["a1"])
    assert list((await agent.hear("drop")).drop.allocs) == ["a1"]
    await agent.say(orphans=OrphanReport())
    await moor.until(lambda: not moor.dispatcher.orphans("n1"))


async def test_what_the_agent_has_acted_on_is_known(moor: Controller) -> None:
    agent = moor.agent()
    await agent.join()
    await agent.say(done=SetDone(revision=agent.seen.revision))
    await moor.until(lambda: moor.dispatcher.sessions["n1"].done_revision == agent.seen.revision)


async def test_a_node_that_was_forgotten_comes_back_under_an_epoch_that_it_has_not_seen(moor: Controller) -> None:
    agent = moor.agent()
    agent.cluster_id, agent.seen = (await moor.cluster()).id, Position(generation=1, epoch=7, revision=1)
    await agent.join()
    assert agent.seen.epoch == 8
    await moor.write(Delete(keys.node_state("n1")), Delete(keys.node_facts("n1")))
    assert isinstance(await agent.farewell(), Redirect)
    await agent.join()
    assert agent.seen.epoch == 9


async def test_a_store_that_is_away_delays_statuses_and_loses_none(moor: Controller) -> None:
    await moor.write(put_version(), put_alloc(key(0), "n1"))
    agent = moor.agent()
    await agent.join()
    await moor.world.stop()
    await agent.report(1, alloc_status(key(0)))
    await asyncio.sleep(0.3)
    await moor.world.go_on()
    while await moor.status(key(0).id) is None:
        await agent.beat()
        await asyncio.sleep(0.05)
