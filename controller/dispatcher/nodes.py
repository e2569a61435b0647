"""The nodes' state in the store: ready with a new epoch at each session, lost after silence.

Only the leader writes these keys, and within it only this module. Each write is guarded by the revision that it was
decided on; whoever was overtaken reads again. Names and ordinals are handed out here: promised ones are remembered
until the cache shows them, so that two nodes that join at once get different ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.cache import Cache, NodeEntry
from controller.dispatcher.leadership import Leadership
from controller.store.protocol import Absent, Committed, Guard, Operation, Put, Unchanged
from moorage.kit.clock import Clock
from moorage.wire import keys
from moorage.wire.store_pb2 import NodeFacts, NodeState

MAX_LOST = 50
"""Nodes in one transaction."""


@dataclass(frozen=True, slots=True)
class Promise:
    name: str
    ordinal: int


def smallest_free(taken: Iterable[int]) -> int:
    """From 1: an ordinal of 0 says that there is none yet."""
    used = set(taken)
    return next(number for number in range(1, len(used) + 2) if number not in used)


class Nodes:
    def __init__(self, cache: Cache, leader: Leadership, clock: Clock) -> None:
        self._cache = cache
        self._leader = leader
        self._clock = clock
        self._promised: dict[str, Promise] = {}

    def promise(self, node_id: str, wanted: str) -> Promise:
        known = self._cache.node(node_id)
        ordinal = (known.state.ordinal if known else 0) or self._free_ordinal(node_id)
        self._promised[node_id] = Promise(self._free_name(wanted, node_id), ordinal)
        return self._promised[node_id]

    def shown(self, node_id: str) -> None:
        """The cache shows the node's state, or the try was given up."""
        self._promised.pop(node_id, None)

    def _free_ordinal(self, node_id: str) -> int:
        stored = [node.state.ordinal for node in self._cache.nodes()]
        return smallest_free(stored + [p.ordinal for node, p in self._promised.items() if node != node_id])

    def _free_name(self, wanted: str, node_id: str) -> str:
        """Commands name nodes by name, so no two may share one: the later one gets a part of its id appended."""
        wanted = wanted or node_id
        holder = self._cache.node_by_name(wanted)
        promised = (p.name for node, p in self._promised.items() if node != node_id)
        taken = (holder is not None and holder.id != node_id) or wanted in promised
        return f"{wanted}-{node_id[:8]}" if taken else wanted

    async def begin_session(self, node: NodeEntry, epoch: int, term: str, facts: NodeFacts) -> Committed:
        """Ready under a new epoch, the facts with it where they changed. `node` is what was decided on."""
        promise = self.promise(node.id, facts.name)
        state = NodeState(phase=NodeState.READY, epoch=epoch, ordinal=promise.ordinal, name=promise.name, term=term)
        operations: list[Operation] = [Put(keys.node_state(node.id), state.SerializeToString())]
        if node.facts != facts:
            operations.append(Put(keys.node_facts(node.id), facts.SerializeToString()))
        return await self._leader.commit([unchanged(node)], operations)

    async def write_facts(self, node_id: str, state_revision: int, facts: NodeFacts) -> Committed | None:
        """None where nothing has changed."""
        node = self._cache.node(node_id)
        if node is not None and node.facts == facts:
            return None
        guard = Unchanged(keys.node_state(node_id), state_revision)
        return await self._leader.commit([guard], [Put(keys.node_facts(node_id), facts.SerializeToString())])

    async def declare_lost(self, node_ids: Sequence[str], silent_s: float, term: str) -> list[str]:
        """Returns the nodes that are lost now; one that came back meanwhile is not."""
        entries = [node for node_id in node_ids if (node := self._cache.node(node_id)) is not None]
        lost: list[str] = []
        for start in range(0, len(entries), MAX_LOST):
            part = entries[start : start + MAX_LOST]
            if await self._lose(part, silent_s, term):
                lost += [node.id for node in part]
            else:  # one of them moved: each by itself
                lost += [node.id for node in part if await self._lose([node], silent_s, term)]
        return lost

    async def _lose(self, nodes: Sequence[NodeEntry], silent_s: float, term: str) -> bool:
        guards: list[Guard] = []
        operations: list[Operation] = []
        for node in nodes:
            state = NodeState()
            state.CopyFrom(node.state)
            state.phase, state.lost_since_ms, state.term = NodeState.LOST, self._clock.now_ms(), term
            state.message = f"no heartbeat for {silent_s:g} s"
            guards.append(unchanged(node))
            operations.append(Put(keys.node_state(node.id), state.SerializeToString()))
        return (await self._leader.commit(guards, operations)).ok


def unchanged(node: NodeEntry) -> Guard:
    key = keys.node_state(node.id)
    return Unchanged(key, node.state_revision) if node.state_revision else Absent(key)
