"""Random sequences of what may happen to a node: nothing is ever doubled, and in the end what is wanted runs."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.drivers import labels
from moorage.wire.session_pb2 import Assignment
from tests.unit.agent.build import assignment, group, policy
from tests.unit.agent.node import Node

SLOTS = 3
SPEC = group("one", "two", restart=policy(attempts=10_000, delay_ms=100))
SPEC.tasks[1].container.command[:] = ["sh", "-c", "trap '' TERM; sleep 100000"]  # takes its time to end

events = st.one_of(
    st.tuples(st.sampled_from(["assign", "stop", "replace", "replace_unsaid", "crash"]), st.integers(0, SLOTS - 1)),
    st.tuples(st.sampled_from(["agent", "reboot", "away", "back", "set", "forget"]), st.just(0)),
    st.tuples(st.just("wait"), st.sampled_from([0, 1, 5])),
)


class World:
    """The controller's side of the story: `wanted` is the set it would send."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.wanted: dict[str, Assignment] = {}
        self.attempts = [0] * SLOTS

    async def do(self, what: str, which: int) -> None:
        node = self.node
        match what:
            case "assign" if not self._live(which):
                await self._say(self._next(which))
            case "stop":
                await self._say(*self._stops(which))
            case "replace":
                await self._say(*self._stops(which), self._next(which))
            case "replace_unsaid":
                await self._say(self._next(which))
            case "crash":
                for name in sorted(node.running())[which : which + 1]:
                    node.engine.kill(name, 1)
                await node.settle()
            case "agent":
                await node.restart()
            case "reboot":
                await node.reboot()
            case "away" | "back":
                node.engine.away = what == "away"
            case "set":
                await node.take_set(*self.wanted.values())
            case "forget":
                over = [a for a, told in self.wanted.items() if told.stop]
                for alloc in over:
                    del self.wanted[alloc]
                await node.take(forgotten=tuple(over))
            case "wait":
                await node.after(which)

    async def heal(self) -> None:
        """A minute at most, and the end has to last."""
        started = self.node.clock.now_ms()
        self.node.engine.away = False
        await self.node.take_set(*self.wanted.values())
        as_wanted = 0
        while as_wanted < 3 and self.node.clock.now_ms() < started + 60_000:
            await self.node.after(1)
            as_wanted = as_wanted + 1 if self.found() == self.expected() else 0

    def expected(self) -> set[tuple[str, str]]:
        newest = dict(enumerate(self.attempts))
        live = [told for told in self.wanted.values() if not told.stop and told.attempt == newest[told.index]]
        return {(told.alloc, task.name) for told in live for task in SPEC.tasks}

    def found(self) -> set[tuple[str, str]]:
        tasks = [task for task in self.node.engine.tasks.values() if task.exit is None]
        return {(task.labels[labels.ALLOC], task.labels[labels.TASK]) for task in tasks}

    async def _say(self, *changed: Assignment) -> None:
        for told in changed:
            self.wanted[told.alloc] = told
        await self.node.take(*changed)

    def _next(self, which: int) -> Assignment:
        self.attempts[which] += 1
        return assignment(which, self.attempts[which], SPEC)

    def _stops(self, which: int) -> list[Assignment]:
        return [assignment(which, told.attempt, stop=True) for told in self._live(which)]

    def _live(self, which: int) -> list[Assignment]:
        return [told for told in self.wanted.values() if told.index == which and not told.stop]


async def play(folder: Path, story: list[tuple[str, int]]) -> None:
    world = World(Node(folder))
    try:
        await world.node.take_set()
        for what, which in story:
            await world.do(what, which)
            assert world.node.engine.doubles == []
        await world.heal()
        assert world.node.engine.doubles == []
        assert world.found() == world.expected()
    finally:
        await world.node.down()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(events, max_size=25))
def test_whatever_happens_nothing_is_doubled_and_what_is_wanted_runs(story: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory(prefix="moor-agent-") as folder:
        asyncio.run(play(Path(folder), story))
