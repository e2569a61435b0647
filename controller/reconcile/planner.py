"""Finds nodes for what several jobs want to place, in one call of the scheduler, off the event loop.

Placements that are decided but not yet seen by the cache are in flight: they are counted on every snapshot until their
commit has arrived or failed, so that jobs one after the other never take the same room. A node whose spec changed
after the snapshot was taken (somebody cordoned it) is not written to: the job comes again.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from controller.cache import Cache
from controller.reconcile import metrics
from controller.reconcile.policy import ask
from controller.reconcile.read import Target
from controller.reconcile.steps import unchanged
from controller.reconcile.values import Decision, Place
from controller.store.protocol import Guard
from moorage.kit.tasks import Blocking
from moorage.wire import keys
from moorage.wire.spec_pb2 import Resources
from moorage.wire.store_pb2 import FAILED, STOPPED
from scheduler import Placement, Plan, Request, Snapshot, place


@dataclass(frozen=True, slots=True)
class Placed:
    place: Place
    placement: Placement
    node_guard: Guard


@dataclass(slots=True)
class Work:
    """A job's turn: what was decided, and what came of asking for nodes."""

    target: Target
    decision: Decision
    placed: list[Placed] = field(default_factory=list)
    rejected: dict[tuple[str, int], str] = field(default_factory=dict)
    again: bool = False  # there is more to do than this turn does

    @property
    def uid(self) -> str:
        return self.target.uid


DOUBT_S = 10.0
"""A commit without an answer has taken effect by then, and has been seen, or never will."""


class InFlight:
    """Placements that the cache's own snapshot does not count yet."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._held: dict[str, tuple[str, Resources, tuple[int, ...]]] = {}
        self._doubted: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._held)

    def add(self, placed: Iterable[Placed], resources: Mapping[str, Resources]) -> None:
        for one in placed:
            ports = tuple(one.placement.ports.values())
            self._doubted.pop(one.place.key.id, None)
            self._held[one.place.key.id] = (one.placement.node, resources[one.place.key.group], ports)

    def remove(self, placed: Iterable[Placed]) -> None:
        for one in placed:
            self._remove(one.place.key.id)

    def doubt(self, placed: Iterable[Placed]) -> None:
        """Nobody knows whether they were committed: room and ports are kept for them until it must have shown."""
        until = self._cache.clock.monotonic() + DOUBT_S
        self._doubted.update({one.place.key.id: until for one in placed})

    def _remove(self, alloc: str) -> None:
        self._held.pop(alloc, None)
        self._doubted.pop(alloc, None)

    def snapshot(self) -> Snapshot:
        now = self._cache.clock.monotonic()
        for alloc in [alloc for alloc, until in self._doubted.items() if until <= now]:
            self._remove(alloc)
        copy = self._cache.snapshot.copy()
        for alloc, (node, wants, ports) in self._held.items():
            if self._cache.alloc(alloc) is None:
                copy.add_alloc(alloc, node, wants.cpu_millis, wants.memory_bytes, wants.disk_bytes, ports)
        return copy


class Planner:
    def __init__(self, cache: Cache, rng: random.Random, placements: int) -> None:
        self._cache = cache
        self._rng = rng
        self._placements = placements
        self._threads = Blocking("place", 1)
        self.in_flight = InFlight(cache)

    def close(self) -> None:
        self._threads.close()

    async def plan(self, works: Iterable[Work]) -> None:
        """Fill in `placed` and `rejected`, jobs of higher priority first."""
        wanting = [work for work in works if work.decision.place]
        wanting.sort(key=lambda work: -work.target.compiled.priority if work.target.compiled else 0)
        asked = [(work, group, request) for work in wanting for group, request in self._requests(work)]
        if not asked:
            return
        snapshot, revision = self.in_flight.snapshot(), self._cache.revision
        with metrics.PLACING.time():
            plans = await self._threads.call(place, snapshot, [r for _, _, r in asked], self._rng.getrandbits(32))
        for (work, places, _), plan in zip(asked, plans, strict=True):
            self._take(work, places, plan, revision)
        for work in wanting:
            self._leave_rest(work)
            assert work.target.compiled is not None
            self.in_flight.add(work.placed, work.target.compiled.resources)

    def _requests(self, work: Work) -> list[tuple[dict[int, Place], Request]]:
        compiled = work.target.compiled
        assert compiled is not None
        groups: dict[str, dict[int, Place]] = {}
        for one in islice(work.decision.place, self._placements):
            groups.setdefault(one.key.group, {})[one.key.index] = one
        return [
            (
                places,
                ask(
                    compiled.requests[group],
                    list(places),
                    {index: one.avoid for index, one in places.items() if one.avoid},
                    members(work.target, group),
                ),
            )
            for group, places in groups.items()
        ]

    def _take(self, work: Work, places: dict[int, Place], plan: Plan, revision: int) -> None:
        for placement in plan.placements:
            guard = self._node_guard(placement.node, revision)
            if guard is None:
                work.again = True
            else:
                work.placed.append(Placed(places[placement.index], placement, guard))
        for rejection in plan.rejections:
            work.rejected[plan.request.group, rejection.index] = rejection.reason
        metrics.REJECTED.inc(len(plan.rejections))

    def _leave_rest(self, work: Work) -> None:
        """What was more than one turn's share comes next, or is rejected like its siblings."""
        rejected = {group: reason for (group, _), reason in work.rejected.items()}
        for one in islice(work.decision.place, self._placements, None):
            reason = rejected.get(one.key.group)
            if reason is None:
                work.again = True
            else:
                work.rejected[one.key.group, one.key.index] = reason

    def _node_guard(self, node_id: str, revision: int) -> Guard | None:
        node = self._cache.node(node_id)
        if node is None or node.spec_revision > revision:
            return None
        return unchanged(keys.node_spec(node_id), node.spec_revision)


def members(target: Target, group: str) -> dict[str, int]:
    """How many of the group each node holds."""
    held: dict[str, int] = {}
    for attempt in target.view.attempts:
        if attempt.key.group == group and attempt.phase != FAILED and attempt.phase != STOPPED:
            held[attempt.node] = held.get(attempt.node, 0) + 1
    return held
