"""Repairs what a watch lost without anybody noticing.

Slowly, one prefix at a time, what the store lists is compared with what the cache holds. Exact although both move on:
keys that change while a comparison runs are left out of it, and it waits until the cache has passed the listing's
revision; every other key must then be the same on both sides. The big tables are listed by job and by node, so that no
turn holds a fleet in memory.
"""

from __future__ import annotations

import structlog

from controller.cache import metrics
from controller.cache.cache import Cache, kind_of
from controller.store.protocol import KeyValue, Listing, StoreError
from moorage.wire import keys

log = structlog.get_logger()

SMALL = (
    keys.CLUSTER,
    keys.LEADER,
    keys.JOBS,
    keys.JOB_VERSIONS,
    keys.JOB_STATES,
    keys.NODES,
    keys.PLANS,
    keys.REQUESTS,
    keys.TOKENS,
    keys.CONTROLLERS,
    keys.EVENTS,
    keys.ARRIVALS,
)


async def run(cache: Cache, every_s: float) -> None:
    """Rounds for ever, each spread over `every_s`."""
    await cache.synced.wait()
    while True:
        todo = prefixes(cache)
        for prefix in todo:
            await cache.clock.sleep(every_s / len(todo))
            try:
                await compare(cache, prefix)
            except (StoreError, TimeoutError) as error:
                log.debug("comparison put off", prefix=prefix, error=str(error))


async def compare(cache: Cache, prefix: str) -> int:
    """Returns how many keys were wrong and have been repaired. Raises StoreError, TimeoutError."""
    with cache.touched() as touched:
        listing = await cache.store.list(prefix)
        await cache.passed(listing.revision, timeout_s=30)
        repaired = cache.repair(*differences(cache, prefix, listing, touched))
    if repaired:
        metrics.REPAIRS.inc(repaired)
        log.error("the cache had lost changes and was repaired", prefix=prefix, keys=repaired)
    return repaired


def prefixes(cache: Cache) -> list[str]:
    """Of one round. A job or node that the cache has lost comes back by its own key, and then what belongs to it."""
    allocs = list(cache.allocs())
    jobs = {job.uid for job in cache.jobs()} | {alloc.job_uid for alloc in allocs}
    nodes = {node.id for node in cache.nodes()} | {alloc.node for alloc in allocs}
    strays = [key for key in cache.table("status").keys() if cache.alloc(key.rpartition("/")[2]) is None]
    return [
        *SMALL,
        *(keys.job_allocs(uid) for uid in sorted(jobs)),
        *(f"{keys.STATUSES}{node}/" for node in sorted(nodes)),
        *strays,
    ]


def differences(cache: Cache, prefix: str, listing: Listing, touched: set[str]) -> tuple[list[KeyValue], list[str]]:
    """What to put and what to delete, so that the cache is what the store listed."""
    table = cache.table(kind_of(prefix))
    listed = {kv.key for kv in listing.items}
    puts = [kv for kv in listing.items if kv.key not in touched and table.revision(kv.key) != kv.revision]
    deletes = [key for key in _held(cache, prefix) if key not in touched and key not in listed]
    return puts, deletes


def _held(cache: Cache, prefix: str) -> list[str]:
    kind = kind_of(prefix)
    if kind == "alloc":
        return [entry.key.key for entry in cache.allocs_of_job(prefix[len(keys.ALLOCS) :].rstrip("/"))]
    if kind == "status":
        node, _, stray = prefix[len(keys.STATUSES) :].partition("/")
        allocs = [stray] if stray else [entry.id for entry in cache.allocs_of_node(node)]
        return [keys.status(node, alloc) for alloc in allocs if cache.status(alloc) is not None]
    return [key for key in cache.table(kind).keys() if key.startswith(prefix)]
