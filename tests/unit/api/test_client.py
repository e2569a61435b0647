"""The client by itself: what it retries, follows, and says when nobody answers."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable

import httpx
import pytest

from moorage.client import ApiProblem, Client, Unreachable
from moorage.client.transport import reason
from moorage.model.view import Problem

VERSION = {"version": "1", "protocol": 1, "cluster_id": "c", "controller_id": "x", "leader": True}


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    body = Problem(title="t", status=status, code=code, detail="because").model_dump_json()
    return httpx.Response(status, content=body, headers={"Content-Type": "application/problem+json", **headers})


def client(answer: Callable[[httpx.Request], httpx.Response]) -> Client:
    return Client("http://api.test", "secret", rng=random.Random(1), transport=httpx.MockTransport(answer))


async def test_a_read_is_tried_again_while_the_controller_is_not_ready() -> None:
    answers = [problem(503, "not_synced"), problem(503, "not_synced"), httpx.Response(200, json=VERSION)]
    async with client(lambda _: answers.pop(0)) as api:
        assert (await api.version()).cluster_id == "c"


async def test_a_read_is_not_tried_for_ever() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return problem(503, "store_unavailable")

    async with client(answer) as api:
        with pytest.raises(ApiProblem, match="because"):
            await api.version()
    assert len(seen) == 4


async def test_a_write_is_sent_once() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return problem(503, "store_unavailable", **{"Retry-After": "2"})

    async with client(answer) as api:
        with pytest.raises(ApiProblem) as refused:
            await api.put_job({"name": "a"}, if_match=7)
    assert (refused.value.code, refused.value.retry_after_s) == ("store_unavailable", 2)
    assert [(r.method, r.headers["If-Match"], r.headers["Authorization"]) for r in seen] == [
        ("PUT", '"7"', "Bearer secret")
    ]


async def test_what_only_the_leader_can_do_is_sent_to_the_leader() -> None:
    cluster = {"id": "c", "generation": 2, "revision": 1, "nodes": 0, "nodes_ready": 0}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "leader.test":
            return httpx.Response(200, json=cluster)
        return problem(503, "not_leading", **{"Moor-Leader": "http://leader.test"})

    async with client(answer) as api:
        assert (await api.accept_restore()).generation == 2


async def test_two_that_both_say_the_other_leads_end_in_a_problem() -> None:
    async with client(lambda _: problem(503, "not_leading", **{"Moor-Leader": "http://other.test"})) as api:
        with pytest.raises(ApiProblem) as refused:
            await api.accept_restore()
    assert refused.value.code == "not_leading"


async def test_nobody_there_is_unreachable_and_says_the_url() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    async with client(answer) as api:
        with pytest.raises(Unreachable, match=r"http://api\.test cannot be reached: connection refused"):
            await api.version()


def test_the_reason_is_what_the_system_said_beneath_all_libraries() -> None:
    refused = ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 7070)")
    outer = httpx.ConnectError("All connection attempts failed")
    outer.__cause__ = OSError("All connection attempts failed")
    outer.__cause__.__cause__ = refused

    assert reason(outer) == "connection refused"
    assert reason(socket.gaierror(-2, "Name or service not known")) == "name or service not known"
    assert reason(ValueError("odd")) == "odd"


async def test_an_answer_that_is_not_the_apis_is_a_problem_as_well() -> None:
    async with client(lambda _: httpx.Response(404, text="<html>")) as api:
        with pytest.raises(ApiProblem, match="Is the URL that of a controller") as refused:
            await api.version()
    assert refused.value.code == "http_404"


async def test_names_are_quoted_so_that_a_slash_stays_in_the_name() -> None:
    seen: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return problem(422, "invalid_request")

    async with client(answer) as api:
        with pytest.raises(ApiProblem):
            await api.get_job("a/b", project="p?")
    assert seen == [b"/v1/projects/p%3F/jobs/a%2Fb"]
