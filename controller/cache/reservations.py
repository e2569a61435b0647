"""Keeps the scheduler's snapshot in step with what the cache learns.

An allocation counts on its node, ports included, from the moment it is written until its status is terminal or it is
deleted; whether it is to stop, or its plan is committed, does not matter: until it has ended its resources are taken.
"""

from __future__ import annotations

from controller.cache.entries import NodeEntry
from controller.cache.tables import AllocTable, NodeTable, StatusTable, node_of
from moorage.wire import keys
from moorage.wire.store_pb2 import NodeState
from scheduler.snapshot import Snapshot


class Reservations:
    def __init__(self, allocs: AllocTable, statuses: StatusTable, nodes: NodeTable) -> None:
        self.snapshot = Snapshot()
        self._allocs = allocs
        self._statuses = statuses
        self._nodes = nodes

    def put(self, kind: str, key: str, *, replaced: bool) -> None:
        if kind == "alloc" and not replaced:  # what an allocation reserves never changes
            self._add(keys.parse_alloc(key).id)
        elif kind == "status":
            alloc = key.rpartition("/")[2]
            if self._ended(alloc):
                self.snapshot.remove_alloc(alloc)
        elif kind == "node":
            self._describe(node_of(key))

    def deleted(self, kind: str, key: str) -> None:
        if kind == "alloc":
            self.snapshot.remove_alloc(keys.parse_alloc(key).id)
        elif kind == "status":
            self._add(key.rpartition("/")[2])
        elif kind == "node":
            self._describe(node_of(key))

    def rebuild(self) -> None:
        """From the tables alone: after a leap to another history, in which the same allocation may be elsewhere."""
        self.snapshot = Snapshot()
        for node in self._nodes.entries():
            self._describe(node.id)
        for entry in self._allocs.entries():
            self._add(entry.id)

    def _ended(self, alloc: str) -> bool:
        status = self._statuses.of(alloc)
        return status is not None and status.terminal

    def _add(self, alloc: str) -> None:
        entry = self._allocs.by_id(alloc)
        if entry is None or self._ended(alloc):
            return
        message = entry.decode()
        wants = message.resources
        ports = tuple(message.ports.values())
        self.snapshot.add_alloc(entry.id, entry.node, wants.cpu_millis, wants.memory_bytes, wants.disk_bytes, ports)

    def _describe(self, node_id: str) -> None:
        node = self._nodes.node(node_id)
        if node is None:
            self.snapshot.remove_node(node_id)
            return
        facts = node.facts
        why_not = why_not_schedulable(node)
        self.snapshot.set_node(
            node_id,
            node.name,
            facts.cpu_millis if facts else 0,
            facts.memory_bytes if facts else 0,
            facts.disk_bytes if facts else 0,
            attributes(node),
            tuple(facts.drivers) if facts else (),
            not why_not,
            why_not,
        )


def why_not_schedulable(node: NodeEntry) -> str:
    """In a user's words; empty where work may be placed."""
    if node.state.phase == NodeState.LOST:
        return "lost"
    if node.facts is None or node.state.phase != NodeState.READY:
        return "never seen"
    if node.spec.drain:
        return "draining"
    return "cordoned" if node.spec.cordoned else ""


def attributes(node: NodeEntry) -> dict[str, str]:
    """What constraints can ask for. Labels that people set win over those that the agent was started with."""
    found = dict(node.facts.attributes) if node.facts else {}
    found.update({f"label.{name}": value for name, value in node.spec.labels.items()})
    found["node.id"], found["node.name"] = node.id, node.name
    return found
