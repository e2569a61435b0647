"""What a later release has stored, or a hand has spoilt: one bad object is said, and all others go on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.store.protocol import Delete, Put
from moorage.wire import keys
from moorage.wire.store_pb2 import Job
from tests.integration.reconcile_world import World, spec, world
from tests.unit.api.world import hello
from tests.unit.api.world import world as api_world

NONSENSE = b"\xff\xff\xff"
"""Which is no protobuf message and no JSON."""


async def later_release(w: World, name: str, **changes: Any) -> str:
    """A job that runs by its first version, and whose second one a later release has written."""
    uid = await w.apply(spec(2), name)
    await w.until(lambda: len(w.running(uid)) == 2)
    key = keys.job_version(uid, 1)
    kv, head = await w.store.get(key), await w.store.get(keys.job("default", name))
    assert kv is not None and head is not None
    record, job = json.loads(kv.value), Job.FromString(head.value)
    record["spec"]["groups"]["web"]["count"] = 3
    record["spec"].update(changes)
    job.version = 2
    later = Put(keys.job_version(uid, 2), json.dumps(record).encode())
    done = await w.store.commit([], [later, Put(keys.job("default", name), job.SerializeToString())])
    await w.cache.passed(done.revision)
    return uid


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"type": "batch"}, "type"), ({"groups": {"web": {"count": "many"}}}, "count"), ({"groups": None}, "groups")],
)
async def test_a_job_of_a_later_release_is_said_and_left_alone_while_others_go_on(
    changes: dict[str, Any], word: str
) -> None:
    async with world() as w:
        uid = await later_release(w, "later", **changes)
        before = set(w.records(uid))
        other = await w.apply(spec(2), "other")
        await w.until(lambda: len(w.running(other)) == 2)
        await w.until(lambda: any(event.kind == "unreadable" for _, event in w.cache.events()))
        state = w.cache.job_state(uid)
        assert state is not None and word in state.message and "what runs goes on" in state.message
        await w.rest()
        assert set(w.records(uid)) == before and len(w.running(uid)) == 2
        told = [event for _, event in w.cache.events() if event.kind == "unreadable"]
        assert [(event.object, event.count) for event in told] == [("job/later", 1)]


async def test_fields_of_a_later_release_are_passed_over() -> None:
    async with world() as w:
        uid = await later_release(w, "later", shiny={"new": True})
        await w.until(lambda: len(w.running(uid)) == 3)
        assert not any(event.kind == "unreadable" for _, event in w.cache.events())


async def test_what_can_be_read_again_is_carried_out_and_no_longer_complained_of() -> None:
    async with world() as w:
        uid = await later_release(w, "later", type="batch")
        await w.until(lambda: (state := w.cache.job_state(uid)) is not None and bool(state.message))
        await w.apply(spec(4), "later")
        await w.until(lambda: len(w.running(uid)) == 4)
        await w.until(lambda: (state := w.cache.job_state(uid)) is not None and not state.message)


async def test_a_job_of_a_later_release_can_be_deleted() -> None:
    async with world() as w:
        uid = await later_release(w, "later", type="batch")
        await w.delete("later")
        await w.until(lambda: not w.records(uid) and w.cache.job_by_uid(uid) is None)


async def test_while_the_head_of_a_job_cannot_be_read_nothing_of_unknown_jobs_is_stopped_or_removed() -> None:
    """A controller that starts then knows the allocations, and not whose they are."""
    async with world() as w:
        uid = await w.apply(spec(2), "spoilt")
        await w.until(lambda: len(w.running(uid)) == 2)
        key = keys.job("default", "spoilt")
        head = await w.store.get(key)
        assert head is not None
        w.leaders.resign()
        await w.store.commit([], [Delete(key)])
        await w.put(key, NONSENSE)
        await w.leaders.elect()
        other = await w.apply(spec(1), "other")
        await w.until(lambda: len(w.running(other)) == 1)
        await w.rest()
        assert len(w.running(uid)) == 2
        assert w.cache.versions(uid) == [1]
        await w.put(key, head.value)
        await w.apply(spec(3), "spoilt")
        await w.until(lambda: len(w.running(uid)) == 3)


@pytest.mark.parametrize(
    "key",
    [
        keys.event("0000000000001-x"),
        keys.request("u", "r9"),
        keys.plan("p9"),
        keys.token("t9"),
        keys.job_state("u"),
        keys.job_version("u", 1),
        keys.ROOT + "jobver/u/latest",
        keys.ROOT + "alloc/of/another/shape",
        keys.ROOT + "alloc/u/web/0/1",
        keys.status("n", "0123456789abcdef"),
        keys.node_facts("a"),
        keys.node_spec("a"),
        keys.node_state("b"),
        keys.job("default", "spoilt"),
        keys.arrival("a9"),
        keys.ROOT + "volume/default/data",
    ],
)
async def test_one_key_that_nobody_can_read_stops_nothing(key: str) -> None:
    async with world() as w:
        await w.put(key, NONSENSE)
        await w.leaders.elect()
        uid = await w.apply(spec(3))
        await w.until(lambda: len(w.running(uid)) == 3)
        w.store.trouble.break_watches()
        await w.apply(spec(4))
        await w.until(lambda: len(w.running(uid)) == 4)
        await w.store.commit([], [Delete(key)])
        await w.apply(spec(5))
        await w.until(lambda: len(w.running(uid)) == 5)
        await w.delete()
        await w.until(lambda: w.cache.job("default", "shop") is None)


@pytest.mark.parametrize("record", [NONSENSE, b"[]", b'{"spec": {"type": "batch", "groups": 7}}', b'{"spec": null}'])
async def test_the_api_shows_scales_and_replaces_around_what_it_cannot_read(record: bytes) -> None:
    async with api_world() as w:
        jobs = "/v1/projects/default/jobs"
        await w.http.put(f"{jobs}/good", json=hello())
        await w.http.put(f"{jobs}/odd", json=hello())
        entry = w.cache.job("default", "odd")
        assert entry is not None
        done = await w.store.commit([], [Put(keys.job_version(entry.uid, 1), record)])
        await w.cache.passed(done.revision)
        assert [job["name"] for job in (await w.http.get(jobs)).json()["items"]] == ["good", "odd"]
        for path in ("", "/explain", "/versions", "/versions/1", "?labels=a=b"):
            assert (await w.http.get(f"{jobs}/odd{path}")).status_code == 200, path
        assert (await w.http.get(f"{jobs}?labels=a=b")).status_code == 200
        refused = await w.http.post(f"{jobs}/odd/scale", json={"group": "web", "count": 3})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_spec")
        assert (await w.http.post(f"{jobs}/odd/plan", json=hello())).status_code == 200
        assert (await w.http.put(f"{jobs}/odd", json=hello(count=5))).status_code == 200
        assert (await w.http.get(f"{jobs}/odd")).json()["spec"]["groups"]["web"]["count"] == 5
        await w.http.delete(f"{jobs}/odd")


async def test_what_keeps_a_job_from_being_worked_on_is_in_its_status() -> None:
    async with world() as w:
        uid = await later_release(w, "later", type="batch")
        await w.until(lambda: (state := w.cache.job_state(uid)) is not None and bool(state.message))
        state = w.cache.job_state(uid)
    async with api_world() as a:
        await a.http.put("/v1/projects/default/jobs/later", json=hello())
        assert state is not None
        await a.job_state("later", state)
        assert (
            "cannot be read by this release"
            in (await a.http.get("/v1/projects/default/jobs/later")).json()["status"]["message"]
        )
