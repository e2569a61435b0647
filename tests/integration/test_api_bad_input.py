"""What people and programs send by mistake: a clear answer each, and nothing lost or half done."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from controller.store.memory import MemoryStore
from moorage.wire import keys
from tests.unit.api.world import World, hello, world

JOB = "/v1/projects/default/jobs/hello"
JSON = {"Content-Type": "application/json"}


def with_task(**fields: Any) -> dict[str, Any]:
    job = hello()
    job["groups"]["web"]["tasks"]["server"] |= fields
    return job


async def refused(w: World, answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """A problem as it should be, and an untouched store."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["code"], problem["status"]) == (status, code, status), problem
    assert problem["title"]
    assert problem["detail"]
    assert (await w.store.list(keys.JOBS)).items == []
    assert (await w.store.list(keys.JOB_VERSIONS)).items == []
    return problem


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (hello(replicas=3), "replicas"),
        (hello(count=-1), "groups.web.count"),
        (with_task(resources={"cpu": "100x", "memory": "64Mi"}), "groups.web.tasks.server.resources.cpu"),
        (with_task(resources={"cpu": "100m", "memory": "64MB"}), "groups.web.tasks.server.resources.memory"),
        (with_task(container={}), "groups.web.tasks.server.container.image"),
        (hello() | {"name": "a/b"}, "name"),
        (hello() | {"name": "other"}, "name"),
        (hello() | {"name": 5}, "name"),
        (hello() | {"kind": "Network"}, "kind"),
        (hello() | {"type": "cron"}, "type"),
        ({}, "groups"),
        ({"groups": {}}, "groups"),
    ],
)
async def test_a_wrong_spec_is_refused_with_the_path_of_what_is_wrong(body: dict[str, Any], path: str) -> None:
    async with world() as w:
        problem = await refused(w, await w.http.put(JOB, json=body), 422, "invalid_spec")
        assert path in [error["path"] for error in problem["errors"]]


async def test_a_misspelt_field_comes_with_a_suggestion() -> None:
    async with world() as w:
        body = hello()
        body["groups"]["web"]["contraints"] = []
        problem = await refused(w, await w.http.put(JOB, json=body), 422, "invalid_spec")
        assert "constraints" in problem["errors"][0]["suggestion"]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "bad_json"),
        (b"{", 400, "bad_json"),
        (b'{"groups": NaN}', 400, "bad_json"),
        (b"\xff\xfe{}", 400, "bad_json"),
        (b"[" * 200_000, 400, "bad_json"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, 400, "bad_json"),
        (b"[]", 422, "invalid_request"),
        (b"null", 422, "invalid_request"),
        (b'{"groups": {"web": "' + b"x" * (1 << 20) + b'"}}', 413, "too_large"),
    ],
)
async def test_a_body_that_is_no_job_at_all(content: bytes, status: int, code: str) -> None:
    async with world() as w:
        await refused(w, await w.http.put(JOB, content=content, headers=JSON), status, code)


async def test_a_body_that_hides_its_size_is_cut_off() -> None:
    async def endless() -> Any:
        while True:
            yield b" " * 65_536

    async with world() as w:
        await refused(w, await w.http.put(JOB, content=endless(), headers=JSON), 413, "too_large")


@pytest.mark.parametrize(
    "media_type", ["text/yaml", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
)
async def test_another_media_type_is_refused(media_type: str) -> None:
    async with world() as w:
        answer = await w.http.put(JOB, content=b"{}", headers={"Content-Type": media_type})
        await refused(w, answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("name", ["a%2Fb", "Hello", "-a", "a" * 64, "a_b", "a.b", "%00", "%F0%9F%92%A9", "a%0A"])
async def test_a_name_that_is_no_dns_label_is_refused(name: str) -> None:
    async with world() as w:
        for path in (f"/v1/projects/default/jobs/{name}", f"/v1/projects/{name}/jobs/hello"):
            await refused(w, await w.http.put(path, json=hello()), 422, "invalid_request")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "next=nonsense", "labels==x", "watch=perhaps", "next=" + "A" * 2000]
)
async def test_a_query_that_makes_no_sense_is_refused(query: str) -> None:
    async with world() as w:
        problem = await refused(w, await w.http.get(f"/v1/projects/default/jobs?{query}"), 422, "invalid_request")
        assert problem["errors"][0]["path"] == query.partition("=")[0]


async def test_an_if_match_that_is_none_is_refused() -> None:
    async with world() as w:
        answer = await w.http.put(JOB, json=hello(), headers={"If-Match": "newest"})
        await refused(w, answer, 422, "invalid_request")


async def test_routes_and_methods_that_do_not_exist_are_problems_as_well() -> None:
    async with world() as w:
        await refused(w, await w.http.get("/v1/nothing"), 404, "not_found")
        wrong = await w.http.post(JOB)
        await refused(w, wrong, 405, "method_not_allowed")
        assert wrong.headers["Allow"] == "DELETE, GET, PUT"


async def test_an_etcd_that_is_down_while_applying_is_said_at_once_and_nothing_is_half_done() -> None:
    async with world() as w:
        w.store.trouble.leave()
        answer = await w.http.put(JOB, json=hello())
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json()["code"] == "store_unavailable"
        w.store.trouble.come_back()
        await refused(w, answer, 503, "store_unavailable")
        assert (await w.http.put(JOB, json=hello())).status_code == 201


async def test_an_etcd_that_hangs_is_given_up_on() -> None:
    async with world() as w:

        async def hang(*_: object) -> None:
            await asyncio.Event().wait()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MemoryStore, "commit", hang)
            answer = await w.http.put(JOB, json=hello())
        problem = await refused(w, answer, 503, "store_unavailable")
        assert "nothing in time" in problem["detail"]


async def test_a_write_whose_answer_was_lost_may_be_sent_again() -> None:
    async with world() as w:
        w.store.trouble.lost_answers = 1
        assert (await w.http.put(JOB, json=hello())).json()["code"] == "store_unavailable"
        again = await w.http.put(JOB, json=hello())
        assert (again.status_code, again.json()["version"], again.headers["Moor-Action"]) == (200, 1, "unchanged")


async def test_reads_go_on_while_etcd_is_down() -> None:
    async with world() as w:
        await w.http.put(JOB, json=hello())
        w.store.trouble.leave()
        assert (await w.http.get(JOB)).status_code == 200


async def test_a_full_store_is_said() -> None:
    async with world() as w:
        w.store.trouble.quota_bytes = 0
        answer = await w.http.put(JOB, json=hello())
        await refused(w, answer, 507, "store_full")
