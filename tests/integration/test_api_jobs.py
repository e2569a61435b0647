"""Jobs over the API: store in memory, the real cache, the real app."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from controller.store.protocol import Delete
from moorage.model import decode_version
from moorage.wire import keys, store_pb2
from tests.unit.api.world import bearer, hello, world

JOB = "/v1/projects/default/jobs/hello"


async def test_a_job_is_created_read_changed_and_deleted() -> None:
    async with world() as w:
        created = await w.http.put(JOB, json=hello())
        assert (created.status_code, created.headers["Moor-Action"]) == (201, "created")
        job = created.json()
        assert (job["name"], job["version"], job["principal"]) == ("hello", 1, "alice")
        assert job["spec"]["groups"]["web"]["update"] is None or "update" in job["spec"], "defaults are filled in"
        assert created.headers["ETag"] == f'"{job["revision"]}"'
        read = await w.http.get(JOB)
        assert (read.status_code, read.json(), read.headers["ETag"]) == (200, job, created.headers["ETag"])

        changed = await w.http.put(JOB, json=hello(count=3))
        assert (changed.status_code, changed.json()["version"], changed.json()["uid"]) == (200, 2, job["uid"])
        assert changed.headers["Moor-Action"] == "updated"

        deleted = await w.http.delete(JOB)
        assert (deleted.status_code, deleted.json()["status"]["phase"]) == (202, "deleting")
        again = await w.http.delete(JOB)
        assert (again.status_code, again.headers["ETag"]) == (202, deleted.headers["ETag"])


async def test_the_same_body_again_writes_nothing() -> None:
    async with world() as w:
        first = await w.http.put(JOB, json=hello())
        revision = (await w.store.status()).revision
        spelled_out = first.json()["spec"]
        for body in (hello(), hello() | {"kind": "Job", "name": "hello", "version": "v1"}, spelled_out):
            again = await w.http.put(JOB, json=body)
            assert (again.status_code, again.headers["ETag"]) == (200, first.headers["ETag"])
            assert again.headers["Moor-Action"] == "unchanged"
        assert (await w.store.status()).revision == revision


async def test_the_head_and_its_version_are_written_together() -> None:
    async with world() as w:
        job = (await w.http.put(JOB, json=hello())).json()
        head = await w.store.get(keys.job("default", "hello"))
        version = await w.store.get(keys.job_version(job["uid"], 1))
        assert head is not None
        assert version is not None
        assert head.revision == version.revision == job["revision"]
        record = decode_version(version.value)
        assert (record.principal, record.spec.groups["web"].count, set(record.template_hashes)) == ("alice", 2, {"web"})


async def test_only_a_changed_template_changes_the_template_hash() -> None:
    async with world() as w:
        uid = (await w.http.put(JOB, json=hello())).json()["uid"]
        await w.http.put(JOB, json=hello(count=7, labels={"team": "web"}))
        await w.http.put(JOB, json=hello(image="busybox:2"))
        records = [await w.store.get(keys.job_version(uid, n)) for n in (1, 2, 3)]
        one, two, three = (decode_version(kv.value).template_hashes["web"] for kv in records if kv is not None)
        assert one == two != three


async def test_a_job_deleted_and_applied_again_is_another() -> None:
    async with world() as w:
        uid = (await w.http.put(JOB, json=hello())).json()["uid"]
        await w.http.delete(JOB)
        refused = await w.http.put(JOB, json=hello())
        assert (refused.status_code, refused.json()["code"]) == (409, "job_deleting")
        gone = await w.store.commit([], [Delete(keys.job("default", "hello")), Delete(keys.job_version(uid, 1))])
        await w.cache.passed(gone.revision)
        again = await w.http.put(JOB, json=hello())
        assert (again.status_code, again.json()["version"]) == (201, 1)
        assert again.json()["uid"] != uid


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_write_over_another_revision_is_refused_with_the_current_one(method: str) -> None:
    async with world() as w:
        tag = (await w.http.put(JOB, json=hello())).headers["ETag"]
        body = hello(count=9) if method == "PUT" else None
        stale = await w.http.request(method, JOB, json=body, headers={"If-Match": '"1"'})
        assert (stale.status_code, stale.json()["code"], stale.headers["ETag"]) == (412, "precondition_failed", tag)
        assert tag.strip('"') in stale.json()["detail"]
        right = await w.http.request(method, JOB, json=body, headers={"If-Match": tag})
        assert right.status_code in (200, 202)


async def test_create_only_and_change_only() -> None:
    async with world() as w:
        missing = await w.http.put(JOB, json=hello(), headers={"If-Match": "*"})
        assert missing.status_code == 412
        assert (await w.http.put(JOB, json=hello(), headers={"If-None-Match": "*"})).status_code == 201
        there = await w.http.put(JOB, json=hello(count=9), headers={"If-None-Match": "*"})
        assert there.status_code == 412
        assert (await w.http.get(JOB)).json()["spec"]["groups"]["web"]["count"] == 2


async def test_two_writers_at_once_both_count_in_some_order_and_no_version_is_lost() -> None:
    async with world() as w:
        await w.http.put(JOB, json=hello(count=1))
        answers = await asyncio.gather(*(w.http.put(JOB, json=hello(count=n)) for n in (2, 3)))
        assert [answer.status_code for answer in answers] == [200, 200]
        assert sorted(answer.json()["version"] for answer in answers) == [2, 3]
        last = max(answers, key=lambda answer: int(answer.json()["version"])).json()
        assert (await w.http.get(JOB)).json()["spec"] == last["spec"]
        kept = (await w.http.get(JOB + "/versions")).json()["items"]
        assert {v["version"]: v["spec"]["groups"]["web"]["count"] for v in kept} == {1: 1} | {
            answer.json()["version"]: answer.json()["spec"]["groups"]["web"]["count"] for answer in answers
        }


async def test_of_two_writers_over_the_same_revision_one_is_told() -> None:
    async with world() as w:
        tag = (await w.http.put(JOB, json=hello(count=1))).headers["ETag"]
        writes = [w.http.put(JOB, json=hello(count=n), headers={"If-Match": tag}) for n in (2, 3)]
        answers = await asyncio.gather(*writes)
        assert sorted(answer.status_code for answer in answers) == [200, 412]
        assert (await w.http.get(JOB)).json()["version"] == 2


async def test_scaling_by_many_at_once_loses_nothing_else() -> None:
    async with world() as w:
        await w.http.put(JOB, json=hello(labels={"team": "web"}))
        scale = [w.http.post(JOB + "/scale", json={"group": "web", "count": n}) for n in (3, 4, 5)]
        answers = await asyncio.gather(*scale)
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        job = (await w.http.get(JOB)).json()
        assert (job["version"], job["spec"]["labels"]) == (4, {"team": "web"})


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"group": "db", "count": 1}, 404),
        ({"group": "web", "count": -1}, 422),
        ({"group": "web", "count": "3"}, 422),
        ({"group": "web", "count": 3, "force": True}, 422),
        ({"group": "web"}, 422),
        ({"count": 3}, 422),
    ],
)
async def test_a_scale_that_makes_no_sense_changes_nothing(body: dict[str, Any], code: int) -> None:
    async with world() as w:
        tag = (await w.http.put(JOB, json=hello())).headers["ETag"]
        assert (await w.http.post(JOB + "/scale", json=body)).status_code == code
        assert (await w.http.get(JOB)).headers["ETag"] == tag


async def test_a_job_that_is_not_there_is_404_everywhere() -> None:
    async with world() as w:
        for method, path in [
            ("GET", JOB),
            ("DELETE", JOB),
            ("GET", JOB + "/explain"),
            ("GET", JOB + "/versions"),
            ("GET", JOB + "/versions/1"),
        ]:
            answer = await w.http.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (method, path)
        answer = await w.http.post(JOB + "/scale", json={"group": "web", "count": 1})
        assert answer.status_code == 404


async def test_lists_come_in_pages_by_name_and_are_chosen_by_labels() -> None:
    async with world() as w:
        for number in range(5):
            labels = {"parity": "even" if number % 2 == 0 else "odd"}
            await w.http.put(f"/v1/projects/default/jobs/j{number}", json=hello(labels=labels))
        await w.http.put("/v1/projects/other/jobs/elsewhere", json=hello())
        names, following = [], None
        while True:
            query = {"limit": 2} | ({"next": following} if following else {})
            page = (await w.http.get("/v1/projects/default/jobs", params=query)).json()
            names.append([job["name"] for job in page["items"]])
            if (following := page["next"]) is None:
                break
        assert names == [["j0", "j1"], ["j2", "j3"], ["j4"]]
        odd = (await w.http.get("/v1/projects/default/jobs", params={"labels": "parity!=even"})).json()
        assert [job["name"] for job in odd["items"]] == ["j1", "j3"]


async def test_the_leaders_view_of_a_job_is_its_status() -> None:
    async with world() as w:
        await w.http.put(JOB, json=hello(count=2))
        group = store_pb2.GroupState(group="web", wanted=2, placed=1, running=1, healthy=1, updated=1)
        group.waiting.add(index=1, reason="1 node: memory short by 12 MiB")
        event = store_pb2.Event(at_ms=5, kind="placed", message="web/0 on h1", principal="alice")
        await w.job_state("hello", store_pb2.JobState(groups=[group], events=[event]))
        status = (await w.http.get(JOB)).json()["status"]
        assert (status["phase"], status["groups"][0]["healthy"]) == ("deploying", 1)
        assert status["message"] == "web: 1 of 2 wait: 1 node: memory short by 12 MiB"
        assert status["events"][0]["principal"] == "alice"


async def test_versions_are_listed_newest_first_with_who_made_them() -> None:
    async with world() as w:
        await w.http.put("/v1/projects/shop/jobs/hello", json=hello(count=1))
        headers = {"Authorization": f"Bearer {w.shop}"}
        await w.http.put("/v1/projects/shop/jobs/hello", json=hello(count=2), headers=headers)
        items = (await w.http.get("/v1/projects/shop/jobs/hello/versions")).json()["items"]
        assert [(v["version"], v["principal"], v["current"]) for v in items] == [(2, "bob", True), (1, "alice", False)]
        one = await w.http.get("/v1/projects/shop/jobs/hello/versions/1")
        assert (one.status_code, one.json()) == (200, items[1])


async def test_a_plan_says_what_a_put_would_do_and_writes_nothing() -> None:
    async with world() as w:
        await w.node("n1", "h1")
        fresh = await w.http.post(JOB + "/plan", json=hello())
        assert (fresh.status_code, fresh.json()["action"]) == (200, "create")
        assert (await w.http.get(JOB)).status_code == 404
        await w.http.put(JOB, json=hello())
        revision = (await w.store.status()).revision
        assert (await w.http.post(JOB + "/plan", json=hello())).json()["action"] == "unchanged"
        update = (await w.http.post(JOB + "/plan", json=hello(count=5))).json()
        assert update["action"] == "update"
        assert ("groups.web.count", 2, 5) in [(c["path"], c["old"], c["new"]) for c in update["changes"]]
        assert (await w.http.post(JOB + "/plan", json=hello(count=-1))).json()["code"] == "invalid_spec"
        assert (await w.store.status()).revision == revision


async def test_explain_answers_for_each_slot() -> None:
    async with world() as w:
        await w.node("n1", "h1")
        await w.http.put(JOB, json=hello(count=2))
        await w.allocation("hello", "web", 0, "n1", why="best fit of 1 node")
        slots = (await w.http.get(JOB + "/explain")).json()["slots"]
        assert [(slot["group"], slot["index"], slot["node_name"]) for slot in slots] == [
            ("web", 0, "h1"),
            ("web", 1, None),
        ]


async def test_the_published_schema_is_that_of_the_model() -> None:
    async with world() as w:
        schema = (await w.http.get("/v1/schemas/job")).json()
        assert "groups" in json.dumps(schema["properties"])


async def test_who_changed_a_job_is_told_with_the_change() -> None:
    async with world() as w:
        path = "/v1/projects/shop/jobs/hello"
        await w.http.put(path, json=hello(count=2), headers=bearer(w.shop))
        await w.http.put(path, json=hello(count=2))  # unchanged: nobody did anything
        await w.http.post(f"{path}/scale", json={"group": "web", "count": 5})
        await w.http.put(path, json=hello(count=4, image="busybox:2"))
        await w.http.delete(path)
        await w.http.delete(path)
        told = [(e.principal, e.kind, e.message, e.project, e.object) for _, e in w.cache.events()]
        assert sorted(told) == [
            ("alice", "deleted", "is to be deleted", "shop", "job/hello"),
            ("alice", "scaled", "scaled web from 2 to 5", "shop", "job/hello"),
            ("alice", "updated", "updated to version 3, scaled web from 5 to 4", "shop", "job/hello"),
            ("bob", "created", "created: 2 x web", "shop", "job/hello"),
        ]


async def test_a_change_that_is_refused_tells_nothing() -> None:
    async with world() as w:
        await w.http.put("/v1/projects/default/jobs/hello", json=hello(), headers={"If-Match": "7"})
        assert w.cache.events() == []


async def test_the_same_done_again_and_again_is_one_event_with_a_count() -> None:
    async with world() as w:
        path = "/v1/projects/default/jobs/hello"
        await w.http.put(path, json=hello(count=1))
        for count in (2, 1, 2, 1, 2, 1):
            await w.http.post(f"{path}/scale", json={"group": "web", "count": count})
        counts = {event.message: event.count for _, event in w.cache.events() if event.kind == "scaled"}
        assert counts == {"scaled web from 1 to 2": 3, "scaled web from 2 to 1": 3}
