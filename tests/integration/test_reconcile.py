"""From an applied spec to exactly the wanted allocations, through the store, the cache and the scheduler."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

import pytest
from structlog.testing import CapturingLogger

from controller.cache import Cache
from controller.leader import Leader
from controller.reconcile import Reconciler, describe_plan, explain, news
from controller.store.memory import MemoryStore
from controller.store.protocol import Put
from moorage.kit.clock import SystemClock
from moorage.kit.tasks import Owner
from moorage.model import parse_job
from moorage.wire import keys
from moorage.wire.store_pb2 import FAILED, HEALTHY, STOPPED, Cluster, LeaderInfo, NodeState, Request
from tests.integration.reconcile_world import FAST, World, spec, world


async def deployed(world: World, count: int = 3, **given: Any) -> str:
    uid = await world.apply(spec(count, **given))
    await world.until(lambda: len(world.running(uid)) == count)
    return uid


async def test_an_applied_job_runs_and_its_state_says_so() -> None:
    async with world() as w:
        uid = await deployed(w)
        assert [(k.index, k.attempt) for k in w.records(uid)] == [(0, 1), (1, 1), (2, 1)]

        def settled() -> bool:
            state = w.cache.job_state(uid)
            return state is not None and state.settled_version == 1

        await w.until(settled)
        state = w.cache.job_state(uid)
        assert state is not None
        [group] = state.groups
        assert (group.wanted, group.placed, group.running, group.healthy, group.updated) == (3, 3, 3, 3, 3)
        assert [event.kind for event in state.events] == ["placed"]
        assert "web/0 on" in state.events[0].message


async def test_a_job_at_rest_writes_nothing() -> None:
    async with world() as w:
        await deployed(w)
        await w.rest()
        before = w.leaders.commits
        await w.leaders.elect()  # a new leader finds nothing to do either
        await w.rest()
        assert w.leaders.commits == before


async def test_scaling_down_and_up_never_uses_an_attempt_twice() -> None:
    async with world() as w:
        uid = await deployed(w)
        await w.apply(spec(1))
        await w.until(lambda: w.records(uid) == [(uid, "web", 0, 1)])
        assert w.cache.status(keys.alloc_id(uid, "web", 2, 1)) is None
        await w.apply(spec(3))
        await w.until(lambda: len(w.running(uid)) == 3)
        assert [(k.index, k.attempt) for k in w.records(uid)] == [(0, 1), (1, 2), (2, 2)]


async def test_a_change_of_count_updates_versions_in_place() -> None:
    async with world() as w:
        uid = await deployed(w)
        await w.apply(spec(4))
        await w.until(lambda: len(w.running(uid)) == 4 and all(e.version == 2 for e in w.running(uid).values()))
        assert {k.attempt for k in w.records(uid)} == {1}


async def test_a_changed_image_replaces_one_at_a_time_waiting_for_health() -> None:
    async with world() as w:
        uid = await deployed(w, 4)
        least = 4

        def watch(_: object) -> None:
            nonlocal least
            serving = [e for e in w.running(uid).values() if _healthy(w, e.id)]
            least = min(least, len(serving))

        unsubscribe = w.cache.subscribe(watch)
        await w.apply(spec(4, image="shop:2"))
        await w.until(lambda: len(w.running(uid)) == 4 and all(e.version == 2 for e in w.running(uid).values()))
        unsubscribe()
        assert least == 3
        assert {k.attempt for k in w.records(uid) if w.phase_of(k) != STOPPED} == {2}


def _healthy(w: World, alloc: str) -> bool:
    status = w.cache.status(alloc)
    return status is not None and status.health == HEALTHY


async def test_a_crashing_image_holds_the_rollout_with_the_others_serving() -> None:
    async with world() as w:
        uid = await deployed(w, 3)
        w.nodes.crash = lambda entry: "exit code 1" if entry.version == 2 else ""
        await w.apply(spec(3, image="shop:2", reschedule={"delay": "50ms", "max_delay": "50ms"}))

        def failed_thrice() -> bool:
            return max(k.attempt for k in w.records(uid)) >= 4

        await w.until(failed_thrice)
        assert len(w.running(uid)) == 2
        await w.until(lambda: "exit code 1; failed" in w.waiting(uid).get(("web", 0), ""))
        assert len([k for k in w.records(uid) if k.index == 0]) <= 3, "at most the last failure is kept"
        await w.apply(spec(3, image="shop:3"))
        await w.until(lambda: len(w.running(uid)) == 3 and all(e.version == 3 for e in w.running(uid).values()))


async def test_a_crash_loop_waits_longer_and_longer_and_prefers_another_node() -> None:
    async with world() as w:
        w.nodes.crash = lambda entry: "exit code 1"
        uid = await w.apply(spec(1, reschedule={"delay": "40ms", "max_delay": "10s"}))
        await w.until(lambda: max((k.attempt for k in w.records(uid)), default=0) >= 3)
        started = w.clock.now_ms()
        await w.until(lambda: max(k.attempt for k in w.records(uid)) >= 4)
        assert w.clock.now_ms() - started >= 100
        nodes = [e.node for e in w.cache.attempts_of_slot(keys.Slot(uid, "web", 0))]
        assert len(set(nodes[-2:])) == 2

        def told() -> bool:
            return any(event.kind == "failed" for _, event in w.cache.events("default"))

        await w.until(told)


async def test_a_lost_node_is_replaced_after_its_time_and_the_old_ones_are_told_to_stop() -> None:
    async with world(("a", "b")) as w:
        uid = await deployed(w, 4, strategy="spread", disconnect={"replace_after": "1500ms"})
        gone = {e.key for e in w.cache.allocs_of_node("a")}
        assert len(gone) == 2
        await w.lose("a")
        await w.until(lambda: any("node a is lost" in reason for reason in w.waiting(uid).values()))
        assert {e.key for e in w.cache.allocs_of_job(uid)} >= gone
        await w.until(lambda: len(w.running(uid)) == 4 and {e.node for e in w.running(uid).values()} == {"b"})
        assert all(entry.stop for entry in w.cache.allocs_of_node("a"))
        await w.heal("a")
        await w.until(lambda: not w.cache.allocs_of_node("a"))


async def test_a_node_that_comes_back_in_time_keeps_everything() -> None:
    async with world(("a", "b")) as w:
        uid = await deployed(w, 4, strategy="spread", disconnect={"replace_after": "10s"})
        await w.rest()
        await w.lose("a")
        await w.until(lambda: len(w.waiting(uid)) == 2)
        await w.heal("a")
        await w.until(lambda: not w.waiting(uid))
        assert {k.attempt for k in w.records(uid)} == {1}


async def test_what_a_node_stopped_while_cut_off_is_started_again_when_it_is_back_in_time() -> None:
    async with world(("a",)) as w:
        job = spec(2, disconnect={"replace_after": "10s"}, reschedule={"delay": "100ms"}, restart={"mode": "fail"})
        uid = await w.apply(job)
        await w.until(lambda: len(w.running(uid)) == 2)
        await w.lose("a")
        await w.until(lambda: len(w.waiting(uid)) == 2)
        await w.heal("a")
        for entry in list(w.cache.allocs_of_node("a")):
            await w.nodes.say(entry, STOPPED, "no controller was heard for 2 s")
        await w.until(lambda: [entry.attempt for entry in w.running(uid).values()] == [2, 2])
        assert {entry.decode().failures for entry in w.running(uid).values()} == {0}


async def test_a_drain_moves_work_one_at_a_time() -> None:
    async with world() as w:
        uid = await deployed(w, 4, strategy="spread")
        least = 4

        def watch(_: object) -> None:
            nonlocal least
            least = min(least, len(w.running(uid)))

        unsubscribe = w.cache.subscribe(watch)
        for node in ("a", "b"):
            await w.node_spec(node, drain=True)
        await w.until(lambda: {e.node for e in w.running(uid).values()} == {"c"} and len(w.running(uid)) == 4)
        unsubscribe()
        assert least == 3


async def test_a_cordon_only_blocks_what_is_new() -> None:
    async with world(("a",)) as w:
        uid = await deployed(w, 2)
        await w.node_spec("a", cordoned=True)
        await w.apply(spec(3))
        await w.until(lambda: "cordoned" in w.waiting(uid).get(("web", 2), ""))
        assert len(w.running(uid)) == 2
        await w.node_spec("a")
        await w.until(lambda: len(w.running(uid)) == 3)


async def test_what_finds_no_room_says_why_and_goes_on_when_there_is_room() -> None:
    async with world(("a",)) as w:
        uid = await w.apply(spec(3, task={"resources": {"memory": "2Gi"}}))
        await w.until(lambda: len(w.running(uid)) == 2 and bool(w.waiting(uid)))
        assert "memory" in w.waiting(uid)["web", 2]
        view = explain(w.cache, "default", "shop")
        waits = next(slot for slot in view.slots if slot.index == 2)
        assert (waits.state, waits.nodes[0].fits) == ("waiting", False)
        assert view.slots[0].node_name == "a"
        await w.add_node("b")
        await w.until(lambda: len(w.running(uid)) == 3)


async def test_two_jobs_at_once_never_take_the_same_room() -> None:
    async with world(("a",)) as w:
        for name in ("x", "y", "z"):
            await w.apply(spec(2, task={"resources": {"memory": "1Gi"}}), name)
        await w.until(lambda: len([e for e in w.cache.allocs_of_node("a") if w.phase(e) is not None]) == 4)
        await w.rest()
        assert len(list(w.cache.allocs_of_node("a"))) == 4


async def test_deleting_leaves_no_key_behind() -> None:
    async with world() as w:
        uid = await deployed(w, 3)
        await w.apply(spec(3, image="shop:2"))
        await w.delete()
        await w.until(lambda: w.cache.job("default", "shop") is None)
        await w.rest()
        left = await w.store.list(keys.ROOT)
        assert [kv.key for kv in left.items if uid in kv.key or "status/" in kv.key] == []


async def test_a_deleted_job_waits_for_a_lost_node_until_it_is_forgotten() -> None:
    async with world(("a", "b")) as w:
        uid = await deployed(w, 2, strategy="spread")
        await w.lose("a")
        await w.delete()
        await w.until(lambda: any("moor node forget a" in reason for reason in w.waiting(uid).values()))
        assert w.cache.job("default", "shop") is not None
        await w.ask("a", "forget_node", "a")
        await w.until(lambda: w.cache.job("default", "shop") is None)
        assert w.cache.node("a") is None
        assert w.cache.requests() == []


async def test_forgetting_a_node_replaces_what_ran_there_at_once() -> None:
    async with world(("a", "b")) as w:
        uid = await deployed(w, 2, strategy="spread", disconnect={"replace_after": "1h"})
        await w.lose("a")
        await w.ask("a", "forget_node", "a")
        await w.until(lambda: len(w.running(uid)) == 2 and {e.node for e in w.running(uid).values()} == {"b"})
        await w.until(lambda: not w.cache.allocs_of_node("a"))


async def test_a_ready_node_is_not_forgotten_and_the_wish_says_why() -> None:
    async with world(("a",)) as w:
        await w.ask("a", "forget_node", "a")
        await w.until(lambda: any(event.kind == "not_forgotten" for _, event in w.cache.events()))
        node = w.cache.node("a")
        assert node is not None
        assert node.state.phase == NodeState.READY


async def test_an_allocation_stopped_on_request_is_replaced_at_once() -> None:
    async with world() as w:
        uid = await deployed(w, 1, reschedule={"delay": "1h", "max_delay": "1h"})
        await w.ask(uid, "stop_alloc", w.running(uid)["web", 0].id)
        await w.until(lambda: [e.attempt for e in w.running(uid).values()] == [2])
        assert w.cache.requests() == []


async def test_a_given_up_slot_is_tried_again_on_request() -> None:
    async with world() as w:
        w.nodes.crash = lambda entry: "exit code 1" if entry.attempt == 1 else ""
        uid = await w.apply(spec(1, restart={"mode": "fail"}))
        await w.until(lambda: "restart.mode is fail" in w.waiting(uid).get(("web", 0), ""))
        [failed] = w.cache.allocs_of_job(uid)
        assert w.phase(failed) == FAILED
        await w.ask(uid, "stop_alloc", failed.id)
        await w.until(lambda: len(w.running(uid)) == 1)


async def test_a_status_that_comes_after_its_allocation_is_gone_is_removed() -> None:
    async with world(("a",)) as w:
        uid = await deployed(w, 1)
        entry = w.running(uid)["web", 0]
        await w.delete()
        await w.until(lambda: w.cache.alloc(entry.id) is None)
        await w.nodes.say(entry, STOPPED)
        await w.until(lambda: w.cache.status(entry.id) is not None)
        await w.until(lambda: w.cache.status(entry.id) is None)


async def test_old_versions_go_but_those_in_use_stay() -> None:
    async with world(("a",)) as w:
        uid = await deployed(w, 1)
        for priority in range(1, 15):
            await w.apply(spec(1) | {"priority": priority})
        await w.until(lambda: len(w.cache.versions(uid)) == 10)
        await w.until(lambda: [e.version for e in w.running(uid).values()] == [15])


async def test_a_thousand_allocations_take_several_transactions_and_one_turn_each() -> None:
    async with world(()) as w:
        for number in range(20):
            await w.add_node(f"n{number}", cpu=64_000, memory=64 * (1 << 30))
        small = {"resources": {"cpu": "10m", "memory": "8Mi"}}
        uid = await deployed(w, 1500, task=small)
        assert len(w.records(uid)) == 1500
        assert w.leaders.commits < 100


async def test_a_plan_says_what_a_change_would_do_and_writes_nothing() -> None:
    async with world(("a",)) as w:
        created = describe_plan(w.cache, "default", None, parse_job({"name": "shop", **spec(3)}))
        assert (created.action, created.groups) == ("create", {"web": "3 to place"})
        uid = await deployed(w, 3)
        version = w.cache.version(uid, 1)
        assert version is not None
        same = describe_plan(w.cache, "default", version.spec, version.spec)
        assert (same.action, same.changes, same.groups) == ("unchanged", [], {"web": "unchanged"})
        bigger = spec(4, image="shop:2", task={"resources": {"memory": "2Gi"}})
        bigger["groups"]["web"]["tasks"]["server"]["container"] = {"image": "shop:2"}
        change = describe_plan(w.cache, "default", version.spec, parse_job({"name": "shop", **bigger}))
        assert change.action == "update"
        assert change.groups == {"web": "1 to place, 3 to replace (template changed)"}
        assert "groups.web.count" in [one.path for one in change.changes]


async def test_nothing_is_decided_on_a_suspected_backup_and_all_goes_on_when_it_is_accepted() -> None:
    async with world(("a", "b")) as w:
        uid = await deployed(w, 2, strategy="spread", disconnect={"replace_after": "300ms"})
        await w.put(keys.CLUSTER, Cluster(id="c", generation=1, restore_suspected="agent h1").SerializeToString())
        await w.lose("a")
        await w.apply(spec(3, strategy="spread"))
        await w.rest(0.5)
        assert w.records(uid) == [(uid, "web", 0, 1), (uid, "web", 1, 1)]
        assert not any(entry.stop for entry in w.cache.allocs())
        await w.put(keys.CLUSTER, Cluster(id="c", generation=2).SerializeToString())
        await w.heal("a")  # in time: its time counts from the acceptance
        await w.until(lambda: len(w.running(uid)) == 3)
        assert {k.attempt for k in w.records(uid)} == {1, 100_001}, "numbers that no agent can have seen"


async def test_it_works_while_its_own_controller_leads_and_rests_when_it_does_not() -> None:
    clock = SystemClock()
    store = MemoryStore(clock)
    cache, owner = Cache(store, clock), Owner("leading")
    leader = Leader(store, clock, "c1", LeaderInfo(controller="c1"))
    owner.start(cache.run(), "cache")
    owner.start(Reconciler(cache, leader, clock, random.Random(1), FAST).run(), "reconciler")
    await cache.synced.wait()
    wish = Request(kind="stop_alloc", target="nothing").SerializeToString()
    written = await store.commit([], [Put(keys.request("u", "r1"), wish)])
    await cache.passed(written.revision)
    await asyncio.sleep(0.05)
    assert len(cache.requests()) == 1
    owner.start(leader.run(), "leader")
    async with asyncio.timeout(10):
        while cache.requests():
            await cache.passed(cache.revision + 1)
    await leader.resign()
    written = await store.commit([], [Put(keys.request("u", "r2"), wish)])
    await cache.passed(written.revision)
    await asyncio.sleep(0.05)
    assert len(cache.requests()) == 1
    await owner.close()
    await store.close()


async def test_what_other_parts_tell_becomes_an_event_also_where_nobody_leads_yet() -> None:
    async with world() as w:
        w.leaders.resign()
        w.reconciler.tell("store_trouble", "etcd has ended: no space left on device")
        await asyncio.sleep(0.1)
        assert w.cache.events() == []
        await w.leaders.elect()
        await w.until(lambda: any(event.kind == "store_trouble" for _, event in w.cache.events()))
        [event] = [event for _, event in w.cache.events() if event.kind == "store_trouble"]
        assert (event.kind, event.object, event.count) == ("store_trouble", "cluster", 1)
        assert "no space left" in event.message


async def test_events_wait_while_the_store_is_full() -> None:
    async with world() as w:
        w.store.trouble.quota_bytes = 0
        w.reconciler.tell("store_trouble", "the store is full")
        await asyncio.sleep(0.2)
        assert w.cache.events() == []
        w.store.trouble.quota_bytes = float("inf")
        await w.store.disarm()
        await w.until(lambda: "the store is full" in [event.message for _, event in w.cache.events()])


async def test_the_log_tells_of_each_allocation_with_its_job_and_node(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = CapturingLogger()
    monkeypatch.setattr(news, "log", lines)
    async with world() as w:
        w.nodes.crash = lambda entry: "exit 1" if entry.index == 1 and entry.attempt == 1 else ""
        uid = await w.apply(spec(2))
        await w.until(lambda: len(w.running(uid)) == 2)
        await w.apply(spec(1))
        await w.until(lambda: len(w.running(uid)) == 1)
    assert {line.args[0] for line in lines.calls} == {"placed", "stopping", "failed"}
    for line in lines.calls:
        told = line.kwargs
        assert (told["project"], told["job"]) == ("default", "shop")
        assert told["node"] in ("a", "b", "c") and re.fullmatch("[0-9a-f]{16}", told["allocation"])


DAY_MS = 86_400_000


async def test_a_node_that_was_lost_while_the_clock_was_ahead_is_replaced_in_time() -> None:
    async with world() as w:
        uid = await deployed(w)
        w.nodes.away.add("a")
        future = w.clock.now_ms() + DAY_MS
        state = NodeState(phase=NodeState.LOST, lost_since_ms=future, name="a", epoch=1)
        await w.put(keys.node_state("a"), state.SerializeToString())
        await w.until(lambda: {entry.node for entry in w.running(uid).values()} == {"b", "c"})


async def test_what_fails_after_the_clock_was_set_right_is_tried_again_in_time() -> None:
    async with world() as w:
        uid = await deployed(w, 1)
        [entry] = w.running(uid).values()
        record = entry.decode()
        record.created_ms += DAY_MS
        await w.put(entry.key.key, record.SerializeToString())
        await w.nodes.say(entry, FAILED, "exit 1")
        await w.until(lambda: [e.attempt for e in w.running(uid).values()] == [2])


async def test_a_wish_that_can_never_be_carried_out_holds_up_no_other() -> None:
    async with world() as w:
        uid = await deployed(w, 1)
        # Of a node whose state nobody can read, so that the guard on it never holds.
        await w.put(keys.node_spec("odd"), b"")
        await w.put(keys.node_state("odd"), b"\xff\xff")
        await w.ask("0-first", "forget_node", "odd")
        [entry] = w.running(uid).values()
        await w.ask("1-second", "stop_alloc", entry.id)
        await w.until(lambda: [e.attempt for e in w.running(uid).values()] == [2])
