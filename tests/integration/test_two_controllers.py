"""Two controllers on one etcd: either answers, one leads, and the other takes over without anybody noticing."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.integration.agent_world import ROOT
from tests.integration.processes import Cluster, ControllerProcess, agent, cluster, eventually, insist, ready, service

pytestmark = pytest.mark.etcd


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path, controllers=2, agents=2) as made:
        yield made


async def roles(made: Cluster) -> tuple[ControllerProcess, ControllerProcess]:
    """The leader, and the one that follows."""
    async with asyncio.timeout(20):
        while True:
            for one, other in (made.controllers, made.controllers[::-1]):
                async with one.client() as client:
                    if (await client.version()).leader:
                        return one, other
            await asyncio.sleep(0.05)


async def held(controller: ControllerProcess, wanted: int) -> bool:
    """Whether it holds so many sessions."""
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"{controller.url}/metrics")).text
    return f"moor_sessions {wanted}.0" in text.splitlines()


async def moor(controller: ControllerProcess, *arguments: str, given: str = "") -> str:
    environment = {**os.environ, "MOOR_URL": controller.url, "MOOR_TOKEN": controller.token("admin")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from moorage.cli.main import main; main()", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=environment,
    )
    out, err = await process.communicate(given.encode())
    assert process.returncode == 0, (out, err)
    return out.decode()


async def test_the_one_that_follows_answers_reads_takes_writes_and_leads_to_the_leader(pair: Cluster) -> None:
    leader, follower = await roles(pair)
    async with follower.client() as client:
        await client.put_job({"name": "shop", **service(3)})
        [one, *_] = await pair.runs(client, {"shop": 3})
        await client.scale_job("shop", "web", 2)
        await pair.runs(client, {"shop": 2})
        assert (await client.cluster()).leader_url == leader.url
        async for _ in client.logs(one.id):
            pass  # whatever it says: the leader, who holds the session, was found
    await eventually(lambda: held(leader, 2), "all sessions are the leader's")
    assert await held(follower, 0)


async def test_the_command_works_with_the_url_of_the_one_that_follows(pair: Cluster) -> None:
    _, follower = await roles(pair)
    await moor(follower, "apply", "-f", "-", given=json.dumps({"kind": "Job", "name": "hello", **service(2)}))
    assert "hello" in await moor(follower, "get", "jobs")
    await moor(follower, "node", "drain", "n0")
    await moor(follower, "logs", "hello")
    await moor(follower, "delete", "job", "hello")


async def test_an_agent_that_knows_only_the_follower_is_sent_to_the_leader(pair: Cluster, tmp_path: Path) -> None:
    leader, follower = await roles(pair)
    late = agent(tmp_path, follower, 7, follower.token("agent"))
    await late.start()
    try:
        async with leader.client() as client:
            await eventually(lambda: ready(client, 3), "three nodes are ready")
            await eventually(lambda: held(leader, 3), "all sessions are the leader's")
    finally:
        await late.kill()


async def test_when_the_leader_is_killed_the_other_takes_over_and_nothing_restarts(pair: Cluster) -> None:
    leader, follower = await roles(pair)
    async with follower.client() as client:
        await client.put_job({"name": "shop", **service(4)})
        await pair.runs(client, {"shop": 4})
        started = pair.starts()
        await leader.kill()
        await insist(lambda: client.put_job({"name": "late", **service(2)}))
        await pair.runs(client, {"shop": 4, "late": 2})
        assert set(started) < set(pair.starts())
        assert len(pair.starts()) == 6
        assert pair.doubles() == []
        await leader.start()
        await leader.ready()
        assert (await client.version()).leader, "who came back follows"
        await eventually(lambda: ready(client, 2), "both nodes are ready")
        assert len(pair.starts()) == 6
