"""Allocations, nodes, events, the cluster, and who may see them."""

from __future__ import annotations

import asyncio
import gc
import re
import time
from importlib import import_module

import pytest

from controller.dispatcher.restore import Conflict
from controller.leader import NotLeading
from controller.store.protocol import Put, StoreUnavailable
from moorage.wire import keys, store_pb2
from moorage.wire.session_pb2 import Heartbeat, Orphan, Usage
from tests.unit.api.world import World, bearer, hello, world

ALLOCATIONS = "/v1/projects/default/allocations"


async def shop(w: World, count: int = 3) -> list[str]:
    """A job of some allocations on one node."""
    await w.node("n1", "h1")
    await w.http.put("/v1/projects/default/jobs/shop", json=hello(count=count, labels={"team": "web"}))
    return [await w.allocation("shop", "web", index, "n1") for index in range(count)]


async def test_allocations_show_what_is_wanted_and_what_is() -> None:
    async with world() as w:
        first, second, third = await shop(w)
        await w.status(first, store_pb2.RUNNING, health=store_pb2.HEALTHY)
        await w.status(second, store_pb2.FAILED, message="exit code 1")
        items = (await w.http.get(ALLOCATIONS)).json()["items"]
        assert [(a["id"], a["name"], a["phase"], a["health"]) for a in items] == [
            (first, "shop/web/0", "running", "healthy"),
            (second, "shop/web/1", "failed", "unknown"),
            (third, "shop/web/2", "pending", "unknown"),
        ]
        assert {a["node_name"] for a in items} == {"h1"}


async def test_allocations_are_chosen_by_job_and_by_the_labels_of_jobs() -> None:
    async with world() as w:
        await shop(w)
        await w.http.put("/v1/projects/default/jobs/other", json=hello())
        one = await w.allocation("other", "web", 0, "n1")
        by_job = (await w.http.get(ALLOCATIONS, params={"job": "other"})).json()["items"]
        assert [a["id"] for a in by_job] == [one]
        by_label = (await w.http.get(ALLOCATIONS, params={"labels": "team=web"})).json()["items"]
        assert {a["job"] for a in by_label} == {"shop"}
        assert (await w.http.get(ALLOCATIONS, params={"job": "missing"})).json()["items"] == []


async def test_an_allocation_is_found_by_an_unambiguous_beginning_of_its_id() -> None:
    async with world() as w:
        ids = await shop(w, 40)
        whole = await w.http.get(f"{ALLOCATIONS}/{ids[0]}")
        assert whole.json()["id"] == ids[0]
        assert (await w.http.get(f"{ALLOCATIONS}/{ids[0][:12]}")).json() == whole.json()
        shared = next(c for c in "0123456789abcdef" if sum(alloc.startswith(c) for alloc in ids) > 1)
        ambiguous = await w.http.get(f"{ALLOCATIONS}/{shared}")
        assert (ambiguous.status_code, ambiguous.json()["code"]) == (409, "ambiguous_id")
        assert (await w.http.get(f"{ALLOCATIONS}/0000000000000000")).status_code == 404
        elsewhere = await w.http.get(f"/v1/projects/shop/allocations/{ids[0]}")
        assert elsewhere.status_code == 404, "another project's id is none"


async def test_a_stop_is_a_wish_for_the_leader_that_names_who_wished() -> None:
    async with world() as w:
        (alloc,) = await shop(w, 1)
        assert (await w.http.post(f"{ALLOCATIONS}/{alloc}/stop")).status_code == 202
        ((kv, wish),) = w.cache.requests()
        entry = w.cache.alloc(alloc)
        assert entry is not None
        assert kv.key.startswith(keys.request(entry.job_uid, ""))
        assert (wish.kind, wish.target, wish.principal) == ("stop_alloc", alloc, "alice")


async def test_a_node_sums_up_what_is_placed_there_and_has_not_ended() -> None:
    async with world() as w:
        first, *_ = await shop(w)
        await w.status(first, store_pb2.STOPPED)
        w.sessions.heartbeats["n1"] = Heartbeat(at_ms=1000, usage=Usage(cpu_usage_us=0, memory_bytes=77))
        assert (await w.http.get("/v1/nodes/h1")).json()["usage"] is None
        w.sessions.heartbeats["n1"] = Heartbeat(at_ms=2000, usage=Usage(cpu_usage_us=250_000, memory_bytes=78))
        w.sessions.orphaned["n1"] = [Orphan(alloc="ab", job="old", expires_ms=9)]
        node = (await w.http.get("/v1/nodes/h1")).json()
        assert (node["id"], node["phase"], node["schedulable"]) == ("n1", "ready", True)
        assert (node["allocations"], node["allocated"]["cpu_millis"]) == (2, 200)
        assert (node["usage"]["cpu_millis"], node["usage"]["memory_bytes"]) == (250, 78)
        assert [orphan["job"] for orphan in node["orphans"]] == ["old"]
        assert (await w.http.get("/v1/nodes/n1")).json() == node


async def test_nodes_are_listed_by_name_and_chosen_by_labels() -> None:
    async with world() as w:
        await w.node("n1", "zeta", disk="ssd")
        await w.node("n2", "alpha", disk="hdd")
        items = (await w.http.get("/v1/nodes")).json()["items"]
        assert [node["name"] for node in items] == ["alpha", "zeta"]
        items = (await w.http.get("/v1/nodes", params={"labels": "disk=ssd"})).json()["items"]
        assert [node["name"] for node in items] == ["zeta"]


async def test_a_node_is_cordoned_drained_and_labelled_by_patches_that_leave_the_rest() -> None:
    async with world() as w:
        await w.node("n1", "h1", disk="ssd")
        first = await w.http.patch("/v1/nodes/h1", json={"cordoned": True, "labels": {"rack": "r1"}})
        assert (first.json()["cordoned"], first.json()["labels"]) == (True, {"disk": "ssd", "rack": "r1"})
        second = await w.http.patch("/v1/nodes/h1", json={"draining": True, "labels": {"rack": None, "zone": "z"}})
        node = second.json()
        assert (node["cordoned"], node["draining"], node["labels"]) == (True, True, {"disk": "ssd", "zone": "z"})
        spec = await w.store.get(keys.node_spec("n1"))
        assert spec is not None
        assert store_pb2.NodeSpec.FromString(spec.value).principal == "alice"
        same = await w.http.patch("/v1/nodes/h1", json={"draining": True})
        assert same.headers["ETag"] == second.headers["ETag"], "what changes nothing writes nothing"
        stale = await w.http.patch(
            "/v1/nodes/h1", json={"draining": False}, headers={"If-Match": first.headers["ETag"]}
        )
        assert stale.status_code == 412


async def test_patches_at_once_are_all_kept() -> None:
    async with world() as w:
        await w.node("n1", "h1")
        patches = [w.http.patch("/v1/nodes/h1", json={"labels": {f"l{n}": "x"}}) for n in range(4)]
        assert {answer.status_code for answer in await asyncio.gather(*patches)} == {200}
        assert (await w.http.get("/v1/nodes/h1")).json()["labels"] == {f"l{n}": "x" for n in range(4)}


@pytest.mark.parametrize(
    "body", [{"cordoned": "yes"}, {"colour": "red"}, {"labels": {"a b": "c"}}, {"labels": {"a": 1}}, {"draining": None}]
)
async def test_a_patch_that_makes_no_sense_is_refused(body: dict[str, object]) -> None:
    async with world() as w:
        await w.node("n1", "h1")
        refused = await w.http.patch("/v1/nodes/h1", json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
        assert refused.json()["errors"][0]["path"].startswith(next(iter(body)))


async def test_only_a_lost_node_can_be_forgotten() -> None:
    async with world() as w:
        await w.node("n1", "h1")
        refused = await w.http.delete("/v1/nodes/h1")
        assert (refused.status_code, refused.json()["code"]) == (409, "node_not_lost")
        await w.node("n1", "h1", phase=store_pb2.NodeState.LOST)
        assert (await w.http.delete("/v1/nodes/h1")).status_code == 202
        ((_, wish),) = w.cache.requests()
        assert (wish.kind, wish.target, wish.principal) == ("forget_node", "n1", "alice")


async def test_what_needs_sessions_is_done_by_the_leader_or_says_who_that_is() -> None:
    async with world() as w:
        await w.node("n1", "h1")
        orphan = "0123456789abcdef"
        done = await w.http.post("/v1/nodes/h1/orphans/drop", json={"allocations": [orphan]})
        assert (done.status_code, w.sessions.dropped) == (202, [("n1", [orphan])])
        assert (await w.http.post("/v1/cluster/accept-restore")).status_code == 200
        assert w.sessions.accepted_by == ["alice"]
        w.leader.leading = False
        for path, body in [
            ("/v1/nodes/h1/orphans/drop", {"allocations": [orphan]}),
            ("/v1/cluster/accept-restore", None),
        ]:
            elsewhere = await w.http.post(path, json=body)
            assert (elsewhere.status_code, elsewhere.json()["code"]) == (503, "not_leading")
            assert elsewhere.headers["Moor-Leader"] == "http://leader.test"
        assert len(w.sessions.dropped) == len(w.sessions.accepted_by) == 1


async def test_a_leader_without_the_nodes_session_says_so() -> None:
    async with world() as w:
        await w.node("n1", "h1")
        w.sessions.unconnected.add("n1")
        refused = await w.http.post("/v1/nodes/h1/orphans/drop", json={"allocations": ["0123456789abcdef"]})
        assert (refused.status_code, refused.json()["code"]) == (503, "node_unreachable")


@pytest.mark.parametrize(
    ("trouble", "status", "code"),
    [
        (NotLeading("lost it meanwhile"), 503, "not_leading"),
        (Conflict("the cluster's record kept changing"), 409, "conflict"),
        (StoreUnavailable("no answer"), 503, "store_unavailable"),
    ],
)
async def test_a_restore_that_could_not_be_accepted_is_a_problem(trouble: Exception, status: int, code: str) -> None:
    async with world() as w:
        w.sessions.restore_fails = trouble
        refused = await w.http.post("/v1/cluster/accept-restore")
        assert (refused.status_code, refused.json()["code"]) == (status, code)


async def test_events_are_those_of_a_project_or_an_object() -> None:
    async with world() as w:
        for number, (project, thing) in enumerate([("default", "job/a"), ("shop", "job/b"), ("", "node/h1")]):
            event = store_pb2.Event(at_ms=number, kind="placed", project=project, object=thing, principal="alice")
            await w.put(keys.event(f"{number:013d}-x"), event)
        everything = (await w.http.get("/v1/events")).json()["items"]
        assert [event["object"] for event in everything] == ["job/a", "job/b", "node/h1"]
        assert {event["principal"] for event in everything} == {"alice"}
        shops = (await w.http.get("/v1/events", params={"project": "shop"})).json()["items"]
        assert [event["object"] for event in shops] == ["job/b"]
        node = (await w.http.get("/v1/events", params={"object": "node/h1"})).json()["items"]
        assert [event["object"] for event in node] == ["node/h1"]
        bobs = (await w.http.get("/v1/events", headers=bearer(w.shop))).json()["items"]
        assert [event["object"] for event in bobs] == ["job/b"]


async def test_the_cluster_and_the_version_tell_who_leads() -> None:
    async with world() as w:
        await w.put(keys.CLUSTER, store_pb2.Cluster(id="abc", generation=2, restore_suspected="too old"))
        await w.node("n1", "h1")
        await w.node("n2", "h2", phase=store_pb2.NodeState.LOST)
        cluster = (await w.http.get("/v1/cluster")).json()
        assert (cluster["id"], cluster["generation"], cluster["restore_suspected"]) == ("abc", 2, "too old")
        assert (cluster["nodes"], cluster["nodes_ready"], cluster["leader"]) == (2, 1, "c1")
        version = (await w.http.get("/v1/version", headers=bearer(w.shop))).json()
        assert (version["cluster_id"], version["controller_id"], version["leader"]) == ("abc", "c1", True)


@pytest.mark.parametrize("path", ["/v1/nodes", "/v1/version", "/v1/nothing", "/v1/openapi.json", "/"])
@pytest.mark.parametrize(
    "header",
    [{}, {"Authorization": ""}, {"Authorization": "Bearer "}, bearer("moor_a_b"), {"Authorization": "Basic YTpi"}],
)
async def test_no_call_without_a_valid_token(path: str, header: dict[str, str]) -> None:
    async with world() as w:
        del w.http.headers["Authorization"]
        refused = await w.http.get(path, headers=header)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        assert "Authorization: Bearer" in refused.json()["hint"]


async def test_a_project_token_is_for_its_project_alone() -> None:
    async with world() as w:
        await w.node("n1", "h1")
        own = "/v1/projects/shop/jobs/hello"
        assert (await w.http.put(own, json=hello(), headers=bearer(w.shop))).status_code == 201
        for method, path in [
            ("GET", "/v1/projects/default/jobs"),
            ("PUT", "/v1/projects/default/jobs/hello"),
            ("GET", "/v1/projects/default/allocations"),
            ("GET", "/v1/events?project=default"),
            ("GET", "/v1/nodes"),
            ("GET", "/v1/nodes/h1"),
            ("PATCH", "/v1/nodes/h1"),
            ("DELETE", "/v1/nodes/h1"),
            ("GET", "/v1/cluster"),
            ("POST", "/v1/cluster/accept-restore"),
        ]:
            body = hello() if method in ("PUT", "PATCH") else None
            refused = await w.http.request(method, path, json=body, headers=bearer(w.shop))
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), (method, path)


async def test_an_agents_token_opens_nothing_here() -> None:
    async with world() as w:
        refused = await w.http.get("/v1/version", headers=bearer(w.agent))
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


async def test_a_controller_that_has_not_read_the_store_says_so_instead_of_refusing_tokens() -> None:
    async with world(synced=False) as w:
        answer = await w.http.get("/v1/nodes")
        assert (answer.status_code, answer.json()["code"]) == (503, "not_synced")
        assert (await w.http.get("/healthz")).status_code == 200
        ready = await w.http.get("/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "not_synced")


async def test_what_is_wrong_with_the_store_is_told_where_people_and_programs_look() -> None:
    trouble = ["etcd has ended: no space left on device"]
    async with world(trouble=lambda: trouble) as w:
        assert (await w.http.get("/v1/cluster")).json()["trouble"] == trouble
        assert (await w.http.get("/readyz")).json() == {"status": "ready", "trouble": trouble}
    async with world(trouble=lambda: trouble, synced=False) as w:
        assert trouble[0] in (await w.http.get("/readyz")).json()["detail"]


async def test_metrics_count_by_route_and_not_by_name() -> None:
    async with world() as w:
        assert (await w.http.get("/readyz")).status_code == 200
        await w.http.get("/v1/projects/default/jobs/very-special-name")
        text = (await w.http.get("/metrics")).text
        assert 'moor_api_requests_total{method="GET",route="/v1/projects/{project}/jobs/{name}",status="404"}' in text
        assert "very-special-name" not in text


async def test_long_lists_do_not_hold_up_short_reads() -> None:
    async with world() as w:
        await w.http.put("/v1/projects/default/jobs/small", json=hello())
        await w.http.put("/v1/projects/default/jobs/big", json=hello(count=10_000))
        entry = w.cache.job("default", "big")
        assert entry is not None
        alloc = store_pb2.Alloc(project="default", job="big", node="n1", version=1).SerializeToString()
        for start in range(0, 10_000, 100):
            slots = [keys.AllocKey(entry.uid, "web", index, 1).key for index in range(start, start + 100)]
            committed = await w.store.commit([], [Put(key, alloc) for key in slots])
        await w.cache.passed(committed.revision)

        async def lists() -> int:
            following: str | None = None
            seen = 0
            while True:
                page = (await w.http.get(ALLOCATIONS, params={"next": following} if following else None)).json()
                seen += len(page["items"])
                if (following := page["next"]) is None:
                    return seen

        gc.collect()
        gc.freeze()  # as in the controller: a full collection with all of the tests' modules takes longer than a read
        listing = asyncio.create_task(lists())
        slowest = 0.0
        while not listing.done():
            began = time.thread_time()  # of the processor: what else runs on the machine does not count
            await asyncio.sleep(0.001)
            assert (await w.http.get("/v1/projects/default/jobs/small")).status_code == 200
            slowest = max(slowest, time.thread_time() - began)
        gc.unfreeze()
        assert await listing == 10_000
        assert slowest < 0.1


async def test_who_changed_a_node_is_told_with_the_change() -> None:
    async with world() as w:
        await w.node("n1", "h1")
        for patch in ({"cordoned": True}, {"draining": True}, {"cordoned": False, "draining": False}):
            await w.http.patch("/v1/nodes/h1", json=patch)
        await w.http.patch("/v1/nodes/h1", json={"labels": {"rack": "r1"}})
        await w.http.patch("/v1/nodes/h1", json={"labels": {"rack": "r1"}})  # says nothing new
        await w.http.post("/v1/nodes/h1/orphans/drop", json={"allocations": ["0123456789abcdef"]})
        told = sorted((event.principal, event.object, event.kind, event.message) for _, event in w.cache.events())
        assert told == [
            ("alice", "node/h1", "cordoned", "is cordoned"),
            ("alice", "node/h1", "drained", "is drained"),
            ("alice", "node/h1", "labelled", "has other labels: rack"),
            ("alice", "node/h1", "orphans_dropped", "orphans are to end: 0123456789abcdef"),
            ("alice", "node/h1", "undrained", "is drained no more, is cordoned no more"),
        ]


PARTS = {
    "API": ["moor_api_requests_total", "moor_api_latency_seconds", "moor_api_in_flight"],
    "work queue": ["moor_reconcile_queue_depth", "moor_reconcile_waiting_jobs"],
    "reconciler": ["moor_reconcile_turn_seconds", "moor_reconcile_conflicts_total", "moor_reconcile_failures_total"],
    "scheduler": ["moor_reconcile_place_seconds", "moor_reconcile_rejections_total"],
    "store": ["moor_store_call_seconds", "moor_store_failures_total", "moor_store_size_bytes", "moor_store_full"],
    "cache": ["moor_cache_revision", "moor_cache_resets_total", "moor_cache_unreadable_total"],
    "leadership": ["moor_leader", "moor_leader_elections_total"],
    "sessions": ["moor_sessions", "moor_session_hellos_total", "moor_statuses_total", "moor_nodes_lost_total"],
}


@pytest.mark.parametrize("part", PARTS)
async def test_every_part_of_a_controller_is_measured(part: str) -> None:
    import_module("controller.process")
    async with world() as w:
        text = (await w.http.get("/metrics")).text
    told = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert {name for name in PARTS[part] if name not in told} == set()
