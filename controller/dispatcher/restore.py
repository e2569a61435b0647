"""When the store turns out to be an old backup, and when a person says that it was meant.

A suspicion is written down before anything else happens: from then on nobody gets a set from any controller, however
far the store's revision rises, until `accept_restore` begins a new generation. Agents hold a higher generation to be
newer than whatever they have seen.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import structlog

from controller.cache import Cache
from controller.dispatcher.leadership import Leadership
from controller.events import CONTROLLER, event_id
from controller.store.protocol import Put, Unchanged
from moorage.wire import keys
from moorage.wire.store_pb2 import Cluster, Event

log = structlog.get_logger()

TRIES = 10


class Conflict(Exception):
    """The cluster's record kept changing."""


async def suspect(cache: Cache, leader: Leadership, reason: str) -> None:
    """Write the suspicion down, the first one stays. Raises StoreError, NotLeading, TimeoutError, Conflict."""

    def note(cluster: Cluster) -> bool:
        if cluster.restore_suspected:
            return False
        cluster.restore_suspected = reason
        return True

    if await _change(cache, leader, note, _event(cache, "restore_suspected", reason, CONTROLLER)):
        log.error("the store seems to be an old backup: nothing is handed out", reason=reason)


async def accept_restore(cache: Cache, leader: Leadership, principal: str, highest_seen: int) -> int:
    """Begin a generation above all that agents have seen; returns its number. Raises as `suspect` does."""
    generation = 0

    def accept(cluster: Cluster) -> bool:
        nonlocal generation
        cluster.generation = max(cluster.generation, highest_seen) + 1
        cluster.restore_suspected = ""
        generation = cluster.generation
        return True

    await _change(cache, leader, accept, _event(cache, "restore_accepted", "the restored store is accepted", principal))
    log.warning("restore accepted: a new generation begins", generation=generation, principal=principal)
    return generation


def _event(cache: Cache, kind: str, message: str, principal: str) -> Put:
    now_ms = cache.clock.now_ms()
    event = Event(at_ms=now_ms, kind=kind, message=message, object="cluster", principal=principal, count=1)
    return Put(keys.event(event_id(now_ms, secrets.token_hex(4))), event.SerializeToString())


async def _change(cache: Cache, leader: Leadership, change: Callable[[Cluster], bool], told: Put) -> bool:
    """Apply `change` to the newest record; False where it changes nothing. Elections write this key, too."""
    for _ in range(TRIES):
        kv = cache.get(keys.CLUSTER)
        if kv is None:
            raise Conflict("the cluster is not set up yet")
        cluster = Cluster.FromString(kv.value)
        if not change(cluster):
            return False
        guard = Unchanged(keys.CLUSTER, kv.revision)
        committed = await leader.commit([guard], [Put(keys.CLUSTER, cluster.SerializeToString()), told])
        await cache.passed(committed.revision)
        if committed.ok:
            return True
    raise Conflict("the cluster's record kept changing; try again")
