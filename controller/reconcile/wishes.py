"""Wishes that are not a spec: forget a node, stop an allocation. Each is carried out once.

The wish is removed in the transaction that fulfils it, so that neither a crash nor a second leader repeats it. What
cannot be fulfilled is removed with an event that says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controller.cache import Cache
from controller.reconcile.steps import unchanged
from controller.store.protocol import Delete, Guard, KeyValue, Operation, Put, Unchanged
from moorage.wire import keys
from moorage.wire.store_pb2 import Event, NodeState, Request

KINDS = frozenset(("forget_node", "stop_alloc"))
"""Others are for other parts."""


@dataclass(frozen=True, slots=True)
class Fulfilment:
    guards: Sequence[Guard]
    operations: Sequence[Operation]
    event: Event | None = None


def fulfil(cache: Cache, kv: KeyValue, wish: Request, term: str, now_ms: int) -> Fulfilment:
    """How to carry out a wish of one of KINDS."""
    if wish.kind == "forget_node":
        return _forget_node(cache, kv, wish, now_ms)
    return _stop_alloc(cache, kv, wish, term, now_ms)


def _forget_node(cache: Cache, kv: KeyValue, wish: Request, now_ms: int) -> Fulfilment:
    node = cache.node(wish.target) or cache.node_by_name(wish.target)
    if node is None:
        return _done(kv)
    name = node.name
    if node.state.phase == NodeState.READY:
        return _done(
            kv, _event("not_forgotten", f"node {name} is ready: only a lost node can be forgotten", name, wish, now_ms)
        )
    state = keys.node_state(node.id)
    still = unchanged(state, node.state_revision)
    gone = [Delete(key(node.id)) for key in (keys.node_spec, keys.node_state, keys.node_facts)]
    event = _event("forgotten", f"node {name} was forgotten: what it ran counts as ended", name, wish, now_ms)
    return Fulfilment([Unchanged(kv.key, kv.revision), still], [*gone, Delete(kv.key)], event)


def _stop_alloc(cache: Cache, kv: KeyValue, wish: Request, term: str, now_ms: int) -> Fulfilment:
    entry = cache.alloc(wish.target)
    if entry is None or entry.stop:
        return _done(kv)
    message = entry.decode()
    message.stop, message.stop_ms, message.term = True, now_ms, term
    message.stop_reason = f"stopped by {wish.principal}" if wish.principal else "stopped on request"
    key = entry.key.key
    return Fulfilment(
        [Unchanged(kv.key, kv.revision), Unchanged(key, entry.revision)],
        [Put(key, message.SerializeToString()), Delete(kv.key)],
        Event(
            at_ms=now_ms,
            kind="stopped",
            message=f"{entry.group}/{entry.index} attempt {entry.attempt}: {message.stop_reason}",
            principal=wish.principal,
            project=entry.project,
            object=f"job/{entry.job}",
            alloc=entry.id,
            count=1,
        ),
    )


def _done(kv: KeyValue, event: Event | None = None) -> Fulfilment:
    return Fulfilment([Unchanged(kv.key, kv.revision)], [Delete(kv.key)], event)


def _event(kind: str, message: str, node: str, wish: Request, now_ms: int) -> Event:
    return Event(at_ms=now_ms, kind=kind, message=message, principal=wish.principal, object=f"node/{node}", count=1)
