"""Who counts as silent, and when it was not the nodes."""

from __future__ import annotations

import time

from controller.cache import NodeEntry
from controller.dispatcher.liveness import Liveness, silent
from moorage.kit.clock import ManualClock
from moorage.wire.store_pb2 import NodeState


def node(name: str, phase: NodeState.Phase.ValueType = NodeState.READY) -> NodeEntry:
    return NodeEntry(name, state=NodeState(phase=phase), state_revision=1)


async def look_for(liveness: Liveness, clock: ManualClock, nodes: list[NodeEntry], seconds: int) -> list[str]:
    found: list[str] = []
    for _ in range(seconds):
        await clock.advance(1)
        found += liveness.look(nodes)
    return found


def test_silence_counts_from_the_last_word_or_from_the_beginning() -> None:
    heard = {"a": 100.0, "b": 109.0}
    assert silent(["a", "b", "c"], heard, 90.0, 115.0, 15.0) == ["a", "c"]
    assert silent(["a", "b", "c"], heard, 101.0, 115.0, 15.0) == []


async def test_everybody_gets_the_full_time_after_the_leadership_was_won() -> None:
    clock = ManualClock()
    liveness = Liveness(clock, 15)
    liveness.heard("a")
    await clock.advance(14)
    liveness.begin()
    assert await look_for(liveness, clock, [node("a")], 14) == []
    assert await look_for(liveness, clock, [node("a")], 2) == ["a", "a"]


async def test_only_nodes_that_count_as_ready_are_lost() -> None:
    clock = ManualClock()
    liveness = Liveness(clock, 15)
    nodes = [node("lost", NodeState.LOST), node("new", NodeState.UNKNOWN), node("ready")]
    assert await look_for(liveness, clock, nodes, 15) == ["ready"]


async def test_a_controller_that_was_stopped_itself_blames_nobody() -> None:
    clock = ManualClock()
    liveness = Liveness(clock, 15)
    assert await look_for(liveness, clock, [node("a")], 10) == []
    await clock.advance(60)
    assert liveness.look([node("a")]) == []
    assert await look_for(liveness, clock, [node("a")], 14) == []
    assert await look_for(liveness, clock, [node("a")], 1) == ["a"]


async def test_a_turn_over_five_thousand_nodes_is_cheap() -> None:
    clock = ManualClock()
    liveness = Liveness(clock, 15)
    nodes = [node(str(number)) for number in range(5000)]
    for entry in nodes:
        liveness.heard(entry.id)
    await clock.advance(5)
    began = time.process_time()
    assert liveness.look(nodes) == []
    assert time.process_time() - began < 0.05
