"""Writes: one guarded transaction each, bounded in time, seen by the reads that follow.

etcd may be away while somebody applies. A request then says so within seconds, and since each write is one
transaction, nothing is half done. Whether a transaction without an answer took effect is unknown; all writes of the
API may be sent again, which then finds the thing done or does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from controller.api.audit import Noted
from controller.api.deps import ApiDeps
from controller.api.problems import STORE_FULL, STORE_UNAVAILABLE, Refused
from controller.store.protocol import Guard, KeyValue, Operation, Put, StoreFull, StoreUnavailable
from moorage.wire import keys
from moorage.wire.store_pb2 import Request

T = TypeVar("T")

ATTEMPTS = 8
"""Of a read-decide-commit round before a write gives up against a crowd of other writers."""


async def get(deps: ApiDeps, key: str) -> KeyValue | None:
    """From the store itself: a decision to write must not rest on a cache that is behind."""
    return await patiently(deps, deps.store.get(key))


async def commit(
    deps: ApiDeps, guards: Sequence[Guard], operations: Sequence[Operation], noted: Noted | None = None
) -> int | None:
    """The revision of the write, which the cache has seen by now (or is late with); None: a guard did not hold.

    `noted` says who did this, and is written with it.
    """
    await patiently(deps, deps.arrived.wait())
    told = [noted.put] if noted is not None else []
    committed = await patiently(deps, deps.store.commit(guards, [*operations, *told]))
    if not committed.ok:
        return None
    if noted is not None:
        deps.audit.done(noted)
    await catch_up(deps, committed.revision)
    return committed.revision


async def catch_up(deps: ApiDeps, revision: int) -> None:
    """Reads after writes see them. A cache that is late is no reason to fail a write that is done."""
    try:
        await deps.cache.passed(revision, timeout_s=deps.settings.catch_up_s)
    except TimeoutError:
        return


async def ask(deps: ApiDeps, uid: str, kind: str, target: str, principal: str) -> None:
    """Leave a wish for the leader, who carries it out once and removes it."""
    wish = Request(kind=kind, target=target, principal=principal, created_ms=deps.clock.now_ms())
    await commit(deps, [], [Put(keys.request(uid, deps.new_id()), wish.SerializeToString())])


async def patiently(deps: ApiDeps, answer: Awaitable[T]) -> T:
    """The store's answer in time. Raises Refused: 503, 507."""
    try:
        async with asyncio.timeout(deps.settings.store_patience_s):
            return await answer
    except (TimeoutError, StoreUnavailable) as error:
        raise Refused(
            STORE_UNAVAILABLE,
            f"The store (etcd) does not answer: {str(error) or 'nothing in time'}.",
            hint="What runs keeps running. Send the request again in a moment: that is safe.",
        ) from error
    except StoreFull as error:
        raise Refused(
            STORE_FULL,
            "The store's space is used up; nothing was written.",
            hint="What runs keeps running. `moor cluster status` says more; MOOR_ETCD_QUOTA sets the room.",
        ) from error
