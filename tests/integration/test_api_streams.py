"""Watches and logs over a real server, seen through the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from controller.api import create_app
from controller.store.protocol import Delete
from moorage.client import ApiProblem, Client
from moorage.model.view import WatchEvent
from moorage.wire import keys, store_pb2
from moorage.wire.session_pb2 import AttachFrame
from tests.unit.api.live import live, served, until
from tests.unit.api.world import World, hello, world


async def upto(events: AsyncIterator[WatchEvent[Any]], type: str) -> list[Any]:
    """Events up to the first of a type, without bookmarks."""
    found: list[WatchEvent[Any]] = []
    async with asyncio.timeout(5):
        async for event in events:
            if event.type != "bookmark" or type == "bookmark":
                found.append(event)
            if event.type == type:
                return found
    raise AssertionError("the stream ended")


async def test_a_watch_of_jobs_tells_everything_then_each_change() -> None:
    async with live() as (w, client):
        await client.put_job(hello(name="a"))
        async with aclosing(client.watch_jobs()) as events:
            first = await upto(events, "synced")
            assert [(event.type, event.object and event.object.name) for event in first] == [
                ("reset", None),
                ("put", "a"),
                ("synced", None),
            ]
            await client.put_job(hello(name="b"))
            (created,) = await upto(events, "put")
            assert (created.object.name, created.revision >= created.object.revision) == ("b", True)
            group = store_pb2.GroupState(group="web", wanted=2, placed=2, running=2, healthy=2, updated=2)
            await w.job_state("b", store_pb2.JobState(groups=[group], settled_version=1))
            (running,) = await upto(events, "put")
            assert running.object.status.phase == "running", "told again when the leader's view changed"
            gone = await w.store.commit([], [Delete(keys.job("default", "b"))])
            (deleted,) = await upto(events, "delete")
            assert (deleted.name, deleted.revision >= gone.revision) == ("b", True)


async def test_a_watch_of_one_project_hears_nothing_of_others() -> None:
    async with live() as (_, client):
        async with aclosing(client.watch_jobs(project="shop")) as events:
            await upto(events, "synced")
            await client.put_job(hello(name="a"))
            await client.put_job(hello(name="b"), project="shop")
            (only,) = await upto(events, "put")
            assert only.object.name == "b"


async def test_a_watch_of_allocations_follows_status_and_the_loss_of_a_node() -> None:
    async with live() as (w, client):
        await w.node("n1", "h1")
        await client.put_job(hello(name="a"))
        await client.put_job(hello(name="other"))
        alloc = await w.allocation("a", "web", 0, "n1")
        async with aclosing(client.watch_allocations(job="a")) as events:
            await upto(events, "synced")
            await w.allocation("other", "web", 0, "n1")
            await w.status(alloc, store_pb2.RUNNING)
            (running,) = await upto(events, "put")
            assert (running.object.id, running.object.phase) == (alloc, "running")
            await w.node("n1", "h1", phase=store_pb2.NodeState.LOST)
            (lost,) = await upto(events, "put")
            assert (lost.object.id, lost.object.phase) == (alloc, "lost")


async def test_watches_of_nodes_and_events() -> None:
    async with live() as (w, client):
        await w.node("n1", "h1")
        async with aclosing(client.watch_nodes()) as nodes, aclosing(client.watch_events()) as events:
            assert len(await upto(nodes, "synced")) == 3
            assert len(await upto(events, "synced")) == 2
            await client.patch_node("h1", cordoned=True)
            assert (await upto(nodes, "put"))[0].object.cordoned
            told = (await upto(events, "put"))[0].object
            assert (told.kind, told.object, told.principal) == ("cordoned", "node/h1", "alice")
            await w.put(keys.event("1-x"), store_pb2.Event(at_ms=1, kind="placed", object="job/a"))
            assert (await upto(events, "put"))[0].object.kind == "placed"


async def test_a_watch_is_never_silent_for_long() -> None:
    async with live() as (_, client):
        async with aclosing(client.watch_jobs()) as events:
            await upto(events, "synced")
            assert len(await upto(events, "bookmark")) == 1


async def test_a_watcher_that_goes_leaves_nothing_behind() -> None:
    async with live() as (w, client):
        before = len(w.cache._subscribers)
        async with aclosing(client.watch_jobs()) as events:
            await upto(events, "synced")
            assert len(w.cache._subscribers) == before + 1
        await until(lambda: len(w.cache._subscribers) == before)


async def test_a_watch_goes_on_by_itself_when_the_controller_comes_back() -> None:
    async with world() as w:
        async with served(w.app) as url:
            client = Client(url, w.admin)
            events = client.watch_jobs()
            await upto(events, "synced")
        port = int(url.rpartition(":")[2])
        async with served(w.app, port), aclosing(events):
            await client.put_job(hello(name="a"))
            again = await upto(events, "synced")
            assert [event.type for event in again] == ["reset", "put", "synced"]
        await client.close()


async def test_a_watch_that_was_never_allowed_says_so() -> None:
    async with live() as (w, client):
        async with Client(client._http.url, w.shop) as bob:
            with pytest.raises(ApiProblem) as refused:
                await upto(bob.watch_nodes(), "synced")
            assert refused.value.code == "forbidden"


async def place(w: World, client: Client) -> str:
    await w.node("n1", "h1")
    await client.put_job(hello(name="a"))
    return await w.allocation("a", "web", 0, "n1")


async def test_logs_come_by_channel_until_their_end() -> None:
    async with live() as (w, client):
        alloc = await place(w, client)
        big = bytes(range(256)) * 1000
        w.sessions.frames = [
            AttachFrame(channel=1, data=b"out\n"),
            AttachFrame(channel=2, data=b"err\n"),
            AttachFrame(channel=1, data=big),
            AttachFrame(end=True),
        ]
        found = [item async for item in client.logs(alloc[:10], tail=5, timestamps=True, since_ms=7)]
        assert found[:2] == [(1, b"out\n"), (2, b"err\n")]
        assert b"".join(data for _, data in found[2:]) == big
        assert max(len(data) for _, data in found) <= 64 * 1024
        ((node, request),) = w.sessions.asked
        assert (node, request.alloc, request.task) == ("n1", alloc, "server")
        assert (request.tail, request.timestamps, request.since_ms, request.follow) == (5, True, 7, False)


async def test_trouble_in_the_middle_of_logs_is_a_problem() -> None:
    async with live() as (w, client):
        alloc = await place(w, client)
        w.sessions.frames = [AttachFrame(channel=1, data=b"x"), AttachFrame(error="the engine is gone", end=True)]
        async with aclosing(client.logs(alloc)) as items:
            assert await anext(items) == (1, b"x")
            with pytest.raises(ApiProblem, match="the engine is gone") as trouble:
                await anext(items)
            assert trouble.value.code == "logs_failed"


async def test_a_reader_that_goes_ends_the_stream_to_the_agent() -> None:
    async with live() as (w, client):
        alloc = await place(w, client)
        w.sessions.frames = [AttachFrame(channel=1, data=b"x")]
        async with aclosing(client.logs(alloc, follow=True)) as items:
            assert await anext(items) == (1, b"x")
        await until(lambda: w.sessions.closed == 1)


async def test_a_reader_that_does_not_read_holds_up_the_agent_and_not_the_controllers_memory() -> None:
    async with live() as (w, client):
        alloc = await place(w, client)
        w.sessions.frames = [AttachFrame(channel=1, data=bytes(60_000)) for _ in range(2_000)]
        async with aclosing(client.logs(alloc)) as items:
            await anext(items)
            await asyncio.sleep(0.5)
            fetched = w.sessions.fetched
            assert fetched < 400


@pytest.mark.parametrize(
    ("alloc", "task", "code"),
    [("{alloc}", "nothing", "invalid_request"), ("0000", "", "not_found"), ("XYZ", "", "invalid_request")],
)
async def test_wrong_logs_are_refused_in_the_handshake(alloc: str, task: str, code: str) -> None:
    async with live() as (w, client):
        known = await place(w, client)
        with pytest.raises(ApiProblem) as refused:
            await anext(client.logs(alloc.format(alloc=known), task=task))
        assert refused.value.code == code


async def test_logs_on_a_lost_node_say_so() -> None:
    async with live() as (w, client):
        alloc = await place(w, client)
        await w.node("n1", "h1", phase=store_pb2.NodeState.LOST)
        with pytest.raises(ApiProblem, match="'h1', which is lost") as refused:
            await anext(client.logs(alloc))
        assert refused.value.code == "node_unreachable"


async def test_logs_of_a_node_without_a_session_are_refused_in_the_handshake() -> None:
    async with live() as (w, client):
        alloc = await place(w, client)
        w.sessions.unconnected.add("n1")
        with pytest.raises(ApiProblem, match="not connected") as refused:
            await anext(client.logs(alloc))
        assert refused.value.code == "node_unreachable"


async def test_no_logs_without_a_token_or_of_another_project() -> None:
    async with live() as (w, client):
        alloc = await place(w, client)
        for token, code in [("moor_a_b", "unauthenticated"), (w.shop, "forbidden"), (w.agent, "forbidden")]:
            async with Client(client._http.url, token) as other:
                with pytest.raises(ApiProblem) as refused:
                    await anext(other.logs(alloc))
                assert refused.value.code == code


async def test_a_controller_that_does_not_lead_sends_readers_of_logs_to_the_leader() -> None:
    async with live() as (leader, client):
        alloc = await place(leader, client)
        leader.sessions.frames = [AttachFrame(channel=1, data=b"x"), AttachFrame(end=True)]
        follower = ScriptedFollower(client._http.url)
        app = create_app(replace(leader.deps, leader=follower))
        async with served(app) as url, Client(url, leader.admin) as through:
            assert [item async for item in through.logs(alloc)] == [(1, b"x")]
            assert (await through.accept_restore()).id == ""
            assert leader.sessions.accepted_by == ["alice"]


class ScriptedFollower:
    def __init__(self, url: str) -> None:
        self._info = store_pb2.LeaderInfo(controller="c1", api_url=url)

    def is_leading(self) -> bool:
        return False

    def known(self) -> store_pb2.LeaderInfo | None:
        return self._info
