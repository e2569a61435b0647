"""From the cache's entries to the plain values that the diff decides on.

Read once per turn of a job, so it touches as little as possible: of a healthy allocation no message is decoded, and
while neither its record nor its status changes, its value is the one that was made at an earlier turn. Times that a
clock put into the future, an agent's or our own before it was set right, count from when this controller first saw
them, or a wrong clock would hold up a rollout, a retry or a replacement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from controller.cache import Cache
from controller.cache.entries import AllocEntry, JobEntry, NodeEntry, StatusEntry
from controller.reconcile.policy import Compiled, CompiledJobs
from controller.reconcile.values import Attempt, JobInput, NodeFact
from moorage.wire import keys
from moorage.wire.store_pb2 import (
    FAILED,
    HEALTHY,
    PENDING,
    PREPARING,
    RUNNING,
    STOPPED,
    UNHEALTHY,
    AllocStatus,
    NodeState,
)

_PHASES: Mapping[int, Literal["ready", "lost"]] = {NodeState.READY: "ready", NodeState.LOST: "lost"}


@dataclass(frozen=True, slots=True)
class Target:
    """A job as one turn sees it. `entry` None: records whose job is gone; they are stopped and then removed."""

    uid: str
    entry: JobEntry | None
    compiled: Compiled | None
    view: JobInput
    project: str
    name: str


Steady = tuple[AllocEntry, StatusEntry, Attempt]
"""An attempt with what it was made from."""

ATTEMPTS_PER_GENERATION = 100_000
"""Attempt numbers that one generation of the cluster may use: after a restore they start above all that were seen."""


class NotYetThere(Exception):
    """The job names a version that the cache does not hold."""


class Unreadable(Exception):
    """What the job wants cannot be understood by this release: the message says why. What runs goes on."""

    def __init__(self, entry: JobEntry, why: str) -> None:
        super().__init__(f"version {entry.version} cannot be read by this release, what runs goes on: {why}")
        self.entry = entry


class Skew:
    """What clocks say of an allocation or node, but never later than when it was first seen here."""

    def __init__(self, limit: int = 10_000) -> None:
        self._seen: dict[tuple[str, int], int] = {}
        self._limit = limit

    def past(self, whose: str, when_ms: int, now_ms: int) -> int:
        if when_ms <= now_ms and not self._seen:
            return when_ms
        known = self._seen.get((whose, when_ms))
        if known is not None:
            return known
        if when_ms <= now_ms:
            return when_ms
        if len(self._seen) >= self._limit:
            self._seen.clear()
        self._seen[whose, when_ms] = now_ms
        return now_ms


class Reader:
    def __init__(self, cache: Cache, compiled: CompiledJobs, keep_failed_ms: int) -> None:
        self._cache = cache
        self._compiled = compiled
        self._skew = Skew()
        self._keep_failed_ms = keep_failed_ms
        self._known: dict[str, tuple[NodeEntry, NodeFact]] = {}
        self._steady: dict[str, dict[str, Steady]] = {}  # by job and allocation
        self.resumed_ms = 0  # a lost node's time counts from here at the earliest: it had no chance to report before

    def read(self, uid: str, now_ms: int) -> Target | None:
        """None: nothing of that job is left. Raises NotYetThere, Unreadable."""
        cache = self._cache
        entry, allocs = cache.job_by_uid(uid), cache.allocs_of_job(uid)
        state = cache.job_state(uid)
        if entry is None and not allocs and state is None:
            return None
        if entry is None and cache.left_out(keys.JOBS):
            return None  # its job may be the one that cannot be read
        deleting = entry is None or entry.deleting
        compiled = None if entry is None or deleting else self._compile(entry)
        facts = self._facts(allocs, now_ms)
        view = JobInput(
            uid=uid,
            version=entry.version if entry else 0,
            groups=compiled.policies if compiled else {},
            attempts=self._attempts(uid, allocs, facts, now_ms),
            nodes=facts,
            floors=state.attempt_floors if state is not None else {},
            base=self._base(),
            deleting=deleting,
            keep_failed_ms=self._keep_failed_ms,
        )
        project, name = (entry.project, entry.name) if entry else _owner(allocs)
        return Target(uid, entry, compiled, view, project, name)

    def _compile(self, entry: JobEntry) -> Compiled:
        try:
            compiled = self._compiled.get(entry.uid, entry.version)
        except Exception as error:
            raise Unreadable(entry, repr(error)) from error
        if compiled is not None:
            return compiled
        if why := self._cache.why_unreadable(entry.uid, entry.version):
            raise Unreadable(entry, why)
        raise NotYetThere(entry.uid)

    def _base(self) -> int:
        cluster = self._cache.cluster()
        return ATTEMPTS_PER_GENERATION * (max(1, cluster.generation) - 1) if cluster is not None else 0

    def _facts(self, allocs: Iterable[AllocEntry], now_ms: int) -> dict[str, NodeFact]:
        nodes = (self._cache.node(node_id) for node_id in {entry.node for entry in allocs})
        return {node.id: self._fact(node, now_ms) for node in nodes if node is not None}

    def _fact(self, node: NodeEntry, now_ms: int) -> NodeFact:
        """Of a node that is not lost, whose time of loss does not matter, the one that was made before."""
        known = self._known.get(node.id)
        if known is not None and known[0] is node:
            return known[1]
        fact = self._new_fact(node, now_ms)
        if fact.phase != "lost":
            self._known[node.id] = node, fact
        return fact

    def _attempts(
        self, uid: str, allocs: Iterable[AllocEntry], nodes: Mapping[str, NodeFact], now_ms: int
    ) -> list[Attempt]:
        before, steady = self._steady.get(uid, {}), dict[str, Steady]()
        present = {node_id for node_id, node in nodes.items() if node.phase != "lost"}
        status_of = self._cache.status
        attempts: list[Attempt] = []
        for entry in allocs:
            alloc, status = entry.id, status_of(entry.id)
            known = before.get(alloc)
            if known is None or known[0] is not entry or known[1] is not status or entry.node not in present:
                attempt = self._attempt(entry, status, nodes, now_ms)
                attempts.append(attempt)
                if status is None or not _is_steady(attempt, now_ms) or entry.node not in present:
                    continue
                known = (entry, status, attempt)
            else:
                attempts.append(known[2])
            steady[alloc] = known
        self._steady[uid] = steady
        return attempts

    def forget(self, uid: str) -> None:
        self._steady.pop(uid, None)
        self._compiled.forget(uid)

    def _attempt(
        self, entry: AllocEntry, status: StatusEntry | None, nodes: Mapping[str, NodeFact], now_ms: int
    ) -> Attempt:
        alloc = entry.id
        attempt = Attempt(entry.key, alloc, entry.revision, entry.node, entry.version, entry.template_hash, entry.stop)
        if entry.plan and not self._cache.plan_committed(entry.plan):
            attempt.abandoned = entry.plan
        if status is not None:
            attempt.phase, attempt.health = status.phase, status.health
            if status.healthy_since_ms:
                attempt.healthy_since_ms = self._skew.past(alloc, status.healthy_since_ms, now_ms)
        if status is not None and (attempt.phase == FAILED or attempt.phase == STOPPED):
            news = status.decode()
            attempt.changed_ms = self._skew.past(alloc, news.changed_ms, now_ms)
            attempt.message = news.message
            self._record(attempt, entry, now_ms)
        elif (node := nodes.get(entry.node)) is None or node.phase == "lost":
            self._record(attempt, entry, now_ms)
        elif status is not None and (status.phase in (PENDING, PREPARING) or status.health == UNHEALTHY):
            attempt.message = trouble(status.decode())
        return attempt

    def _record(self, attempt: Attempt, entry: AllocEntry, now_ms: int) -> None:
        record = entry.decode()
        attempt.failures = record.failures
        attempt.created_ms = self._skew.past(entry.id, record.created_ms, now_ms)

    def _new_fact(self, node: NodeEntry, now_ms: int) -> NodeFact:
        lost_since_ms = self._skew.past(node.id, node.state.lost_since_ms, now_ms)
        return NodeFact(
            name=node.name,
            phase=_PHASES.get(node.state.phase, "unknown"),
            lost_since_ms=max(lost_since_ms, self.resumed_ms),
            draining=node.spec.drain,
            state_revision=node.state_revision,
        )


def _is_steady(attempt: Attempt, now_ms: int) -> bool:
    """Whether its value follows from its record and its status alone, whatever the time."""
    healthy = attempt.phase == RUNNING and attempt.health == HEALTHY
    return healthy and attempt.healthy_since_ms < now_ms and not attempt.abandoned


def trouble(status: AllocStatus) -> str:
    """What keeps an allocation from being healthy, in the node's words; not how far a download is, which says less
    than it costs to write down each time."""
    for task in status.tasks:
        if task.state == "pulling":
            return f"{task.name}: pulling its image"
        if task.message:
            return f"{task.name}: {task.message}"
    return status.message


def _owner(allocs: Iterable[AllocEntry]) -> tuple[str, str]:
    for entry in allocs:
        return entry.project, entry.job
    return "", ""
