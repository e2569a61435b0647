"""What an operator sees of an agent: structured logs, and metrics."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.agent_world import (
    AgentProcess,
    ScriptedController,
    assignment,
    group,
    restart_policy,
    stopped,
    until,
)


@pytest.fixture
async def controller() -> AsyncIterator[ScriptedController]:
    controller = ScriptedController()
    await controller.start()
    yield controller
    await controller.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def lines(agent: AgentProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in agent.log().splitlines()]


async def test_every_line_carries_its_node_and_what_is_about_an_allocation_its_job_too(
    controller: ScriptedController, tmp_path: Path
) -> None:
    agent = AgentProcess(tmp_path / "n1", controller)
    await agent.start()
    told = assignment(0, spec=group(("false",), restart=restart_policy(attempts=1)))
    controller.assign(told)
    await until(lambda: controller.ended(told.alloc), "failed")
    controller.assign(stopped(told))
    await agent.restart()
    await until(lambda: agent.log().count("session open") == 2, "a second session")
    await agent.kill()
    after_start = lines(agent)[1:]
    assert {line["node"] for line in after_start} == {"n1"}
    about = [line for line in after_start if "task" in line or line["event"] == "ending"]
    assert {line["event"] for line in about} >= {"task started", "task ended", "ending"}
    assert {(line["allocation"], line["job"]) for line in about} == {(told.alloc, "shop")}
    assert all({"level", "timestamp"} <= line.keys() for line in after_start)


async def test_metrics_tell_of_sessions_runners_and_how_long_the_driver_takes(
    controller: ScriptedController, tmp_path: Path
) -> None:
    port = free_port()
    agent = AgentProcess(tmp_path / "n1", controller, arguments=["--metrics", f"127.0.0.1:{port}"])
    await agent.start()
    controller.assign(assignment(0), assignment(1))
    await until(lambda: len(agent.witness.running()) == 2, "both to run")
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    await agent.kill()
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(samples['moor_agent_sessions_total{outcome="welcomed"}']) == 1
    assert float(samples["moor_agent_connected"]) == 1
    assert float(samples["moor_agent_allocations"]) == 2
    assert float(samples["moor_agent_orphans"]) == 0
    assert float(samples['moor_agent_driver_seconds_count{driver="docker",operation="start"}']) == 2
    assert float(samples['moor_agent_driver_seconds_sum{driver="docker",operation="start"}']) > 0.005
    assert float(samples["moor_agent_assignment_to_start_seconds_count"]) == 2


async def test_a_port_for_metrics_that_is_taken_is_said_and_ends_the_start(
    controller: ScriptedController, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        agent = AgentProcess(tmp_path / "n1", controller, arguments=["--metrics", at])
        await agent.start()
        assert await agent.ended() == 1
    last = agent.log().strip().splitlines()[-1]
    assert last.startswith("moor agent: ") and "address already in use" in last
    assert "Traceback" not in agent.log()
