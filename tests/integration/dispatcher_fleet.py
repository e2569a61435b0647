"""Many scripted agents in a process of their own: `python -m tests.integration.dispatcher_fleet PORT AGENTS BEAT_S`.

They join, report every allocation that they are told as running, then only send heartbeats with usage. Prints "ready"
when all have their complete set and every status is acknowledged, and goes on until standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys

from moorage.wire.session_pb2 import AgentMessage, AllocUsage, Assignment, Heartbeat, StatusBatch, Usage
from moorage.wire.store_pb2 import HEALTHY, RUNNING, AllocStatus
from tests.integration.dispatcher_world import Agent


def running(assignment: Assignment) -> AllocStatus:
    return AllocStatus(
        alloc=assignment.alloc,
        phase=RUNNING,
        health=HEALTHY,
        serial=1_700_000_000_000,
        changed_ms=1_700_000_000_000,
        healthy_since_ms=1_700_000_000_000,
        running_since_ms=1_700_000_000_000,
        version=assignment.version,
        job_uid=assignment.job_uid,
        group=assignment.group,
        index=assignment.index,
        attempt=assignment.attempt,
    )


async def live(agent: Agent, beat_s: float, joined: asyncio.Semaphore, ready: asyncio.Event) -> None:
    async with joined:
        _, assignments = await agent.join()
        if assignments:
            statuses = [running(assignment) for assignment in assignments.values()]
            await agent.say(statuses=StatusBatch(serial=1, statuses=statuses))
            await agent.hear("ack", timeout_s=60)
    ready.set()
    usage = [AllocUsage(alloc=alloc, cpu_usage_us=10**9, memory_bytes=1 << 26, pids=3) for alloc in assignments]
    beat = AgentMessage(heartbeat=Heartbeat(at_ms=1_700_000_000_000, usage=Usage(cpu_usage_us=10**10), allocs=usage))
    await asyncio.sleep(beat_s * random.random())
    while True:
        await agent.say(heartbeat=beat.heartbeat)
        await asyncio.sleep(beat_s)


async def all_set(events: list[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


async def main(port: int, count: int, beat_s: float) -> None:
    joined = asyncio.Semaphore(100)
    agents = [Agent(port, f"node-{number}") for number in range(count)]
    events = [asyncio.Event() for _ in agents]
    tasks = [
        asyncio.create_task(live(agent, beat_s, joined, event)) for agent, event in zip(agents, events, strict=True)
    ]
    everybody = asyncio.create_task(all_set(events))
    done, _ = await asyncio.wait([everybody, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for first in done:
        first.result()  # an agent that failed fails the fleet
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    with contextlib.suppress(Exception):
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
