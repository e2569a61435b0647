"""What a job wants, less what is: the heart of the product, as one pure function.

A slot is (job, group, index), and its newest attempt counts. Slots within the count are walked in order:

- never filled, or ended: filled by the next attempt; after an end by itself only when its backoff is over;
- stopping: waits for the end, since the slot's name, address and ports are the old attempt's until then;
- on a lost node: kept until `disconnect.replace_after`, then superseded in the transaction that replaces it;
- alive: kept, unless its template changed or its node drains.

What must go but serves nobody (pending, unhealthy) goes at once. What serves goes while the group can afford it: a
drain as long as fewer than `max_unavailable` slots are unavailable, a changed template as long as fewer than
`max_parallel` are unavailable or not yet healthy for `min_healthy`. So neither ever adds to an outage.

Attempt numbers are never used twice while the job lives, because an allocation's id derives from them and agents
remember ids: the newest record of a slot is kept, or, when an index beyond the count is collected, the group's floor
is raised in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from controller.reconcile.slots import Life, available, ended_by_itself, life, retry, streak
from controller.reconcile.values import Attempt, Decision, Failure, GroupPolicy, JobInput, Place, Stop
from moorage.wire.keys import AllocKey
from moorage.wire.store_pb2 import FAILED, HEALTHY, RUNNING, GroupState, Waiting

MAX_WAITING = 50
"""Waiting slots that a group's state names; its counts tell of the rest."""

AVOIDED = 5
"""Nodes that are avoided for having failed a slot."""

Slots = dict[int, list[Attempt]]


def diff(view: JobInput, now_ms: int) -> Decision:
    """What to do for this job at this moment. Repeating it before the world has changed decides the same again."""
    decision = Decision()
    by_group = _slots(view)
    if view.deleting:
        _delete(view, by_group, decision)
        return decision
    calm = {node_id for node_id, node in view.nodes.items() if node.phase != "lost" and not node.draining}
    for name, policy in view.groups.items():
        _Group(view, name, policy, by_group.pop(name, {}), calm, now_ms, decision).turn()
    for slots in by_group.values():
        for attempts in slots.values():
            _retire(view, attempts, "group removed", decision)
    return decision


def _slots(view: JobInput) -> dict[str, Slots]:
    """Attempts by group and index, the newest last."""
    groups: dict[str, Slots] = {}
    for attempt in view.attempts:
        groups.setdefault(attempt.key.group, {}).setdefault(attempt.key.index, []).append(attempt)
    for slots in groups.values():
        for attempts in slots.values():
            if len(attempts) > 1:
                attempts.sort(key=lambda a: a.key.attempt)
    return groups


def _delete(view: JobInput, by_group: dict[str, Slots], decision: Decision) -> None:
    left = 0
    for name, slots in by_group.items():
        state = GroupState(group=name)
        for attempt in _all(slots):
            alive = life(attempt, view.nodes)
            if alive is Life.ENDED:
                continue
            left += 1
            if not attempt.stop:
                decision.stop.append(Stop(attempt, "deleted"))
            if alive is Life.LOST:
                _waits(state, attempt.key.index, _lost_reason(view, attempt, "its allocation ends"))
        decision.groups.append(state)
    decision.finished = left == 0


def _all(slots: Slots) -> Iterator[Attempt]:
    for attempts in slots.values():
        yield from attempts


def _retire(view: JobInput, attempts: list[Attempt], reason: str, decision: Decision) -> None:
    """Of a slot that is not wanted: stop what is not stopped, collect the records when all of it has ended."""
    lives = [life(attempt, view.nodes) for attempt in attempts]
    if all(alive is Life.ENDED for alive in lives):
        decision.collect.extend(attempts)
        _raise_floor(view, attempts[-1].key, decision)
        return
    for attempt, alive in zip(attempts, lives, strict=True):
        if alive is not Life.ENDED and not attempt.stop:
            decision.stop.append(Stop(attempt, reason))


def _raise_floor(view: JobInput, collected: AllocKey, decision: Decision) -> None:
    group, number = collected.group, collected.attempt
    if number > max(view.floors.get(group, 0), decision.floors.get(group, 0)):
        decision.floors[group] = number


def _lost_reason(view: JobInput, attempt: Attempt, what: str) -> str:
    name = view.nodes[attempt.node].name
    return f"node {name} is lost; {what} when it reports, or by `moor node forget {name}`"


def _waits(state: GroupState, index: int, reason: str, until_ms: int = 0) -> None:
    if len(state.waiting) < MAX_WAITING:
        state.waiting.append(Waiting(index=index, reason=reason, until_ms=until_ms))


@dataclass(slots=True)
class _Group:
    """One group's walk over its slots. `serving` are those that would be missed."""

    view: JobInput
    name: str
    policy: GroupPolicy
    slots: Slots
    calm: set[str]  # nodes that neither drain nor are lost
    now_ms: int
    decision: Decision
    state: GroupState = field(init=False)
    serving: int = 0
    settling: int = 0  # of the serving: too fresh a replacement for the next one to follow
    settled_ms: int | None = None  # when the next of them will have settled
    drained: list[Attempt] = field(default_factory=list)  # serving, but on a draining node
    outdated: list[Attempt] = field(default_factory=list)  # serving, but by an old template

    def turn(self) -> None:
        self.state = GroupState(group=self.name, wanted=self.policy.count)
        self.decision.groups.append(self.state)
        steady = 0
        for index in range(self.policy.count):
            attempts = self.slots.pop(index, None)
            if attempts is None:
                self._place(index, None)
                continue
            if self._steady(attempts[-1]):
                steady += 1
            else:
                self._newest(attempts[-1], attempts)
            if len(attempts) > 1:
                self._older(attempts[:-1])
        self._count_steady(steady)
        for attempts in self.slots.values():
            _retire(self.view, attempts, "scaled down", self.decision)
        self._drain()
        self._roll()

    def _steady(self, attempt: Attempt) -> bool:
        """As it should be: nearly all of a big job are, so these are told in one look and only counted."""
        policy = self.policy
        return (
            attempt.phase == RUNNING
            and attempt.health == HEALTHY
            and attempt.node in self.calm
            and attempt.version == self.view.version
            and attempt.template_hash == policy.template_hash
            and attempt.healthy_since_ms + policy.min_healthy_ms <= self.now_ms
            and not attempt.stop
            and not attempt.abandoned
        )

    def _count_steady(self, steady: int) -> None:
        self.serving += steady
        self.state.placed += steady
        self.state.running += steady
        self.state.healthy += steady
        self.state.updated += steady

    def _newest(self, attempt: Attempt, attempts: list[Attempt]) -> None:
        match life(attempt, self.view.nodes):
            case Life.ALIVE:
                self._alive(attempt)
            case Life.STOPPING:
                _waits(self.state, attempt.key.index, f"stopping on node {self.view.nodes[attempt.node].name}")
            case Life.LOST:
                self._lost(attempt)
            case Life.ENDED:
                self._ended(attempt, attempts)

    def _older(self, attempts: list[Attempt]) -> None:
        """Superseded ones: collected when ended, but the last failed one is kept for a while to be looked at."""
        kept = False
        for attempt in reversed(attempts):
            if life(attempt, self.view.nodes) is not Life.ENDED:
                if not attempt.stop:
                    self.decision.stop.append(Stop(attempt, "superseded"))
            elif attempt.phase == FAILED and not kept and attempt.node in self.view.nodes:
                kept = True
                self._collect_at(attempt, attempt.changed_ms + self.view.keep_failed_ms)
            else:
                self.decision.collect.append(attempt)

    def _collect_at(self, attempt: Attempt, due_ms: int) -> None:
        if due_ms <= self.now_ms:
            self.decision.collect.append(attempt)
        else:
            self.decision.again_at(due_ms)

    def _place(
        self,
        index: int,
        old: Attempt | None,
        *,
        failures: int = 0,
        avoid: tuple[str, ...] = (),
        lost: bool = False,
        because: str = "",
    ) -> None:
        floor = max(self.view.floors.get(self.name, 0), self.view.base)
        number = max(floor, old.key.attempt if old else 0) + 1
        key = AllocKey(self.view.uid, self.name, index, number)
        self.decision.place.append(Place(key, failures, avoid, old, lost, because))

    def _alive(self, attempt: Attempt) -> None:
        current = attempt.template_hash == self.policy.template_hash
        draining = self.view.nodes[attempt.node].draining
        self._count(attempt, current)
        if not available(attempt):
            self._troubled(attempt)
            if draining or not current:
                self._stop(attempt, "drained" if draining else "updated")
                return
        else:
            self.serving += 1
            if draining:
                self.drained.append(attempt)
            if not current:
                self.outdated.append(attempt)
            else:
                self._settle(attempt)
        if current and attempt.version != self.view.version:
            self.decision.update.append(attempt)

    def _count(self, attempt: Attempt, current: bool) -> None:
        self.state.placed += 1
        self.state.running += attempt.phase == RUNNING
        self.state.healthy += available(attempt)
        self.state.updated += current

    def _troubled(self, attempt: Attempt) -> None:
        if attempt.message and len(self.state.troubled) < MAX_WAITING:
            self.state.troubled.append(Waiting(index=attempt.key.index, reason=attempt.message))

    def _settle(self, attempt: Attempt) -> None:
        settled_ms = attempt.healthy_since_ms + self.policy.min_healthy_ms
        if settled_ms > self.now_ms:
            self.settling += 1
            self.settled_ms = min(settled_ms, self.settled_ms or settled_ms)

    def _lost(self, attempt: Attempt) -> None:
        node, after = self.view.nodes[attempt.node], self.policy.replace_after_ms
        if after is None:
            why = "disconnect.replace_after is never: it goes on"
            _waits(self.state, attempt.key.index, _lost_reason(self.view, attempt, why))
        elif (due := node.lost_since_ms + after) > self.now_ms:
            reason = f"node {node.name} is lost; replaced {after / 1000:g} s after that unless it comes back"
            _waits(self.state, attempt.key.index, reason, due)
            self.decision.again_at(due)
        else:
            because = f"superseded: node {node.name} is lost"
            self._place(attempt.key.index, attempt, lost=True, failures=attempt.failures, because=because)

    def _ended(self, attempt: Attempt, attempts: list[Attempt]) -> None:
        index, policy = attempt.key.index, self.policy.reschedule
        if attempt.template_hash != self.policy.template_hash:
            self._place(index, attempt, because="superseded: updated")
            return
        if not ended_by_itself(attempt):
            self._place(index, attempt, failures=streak(attempt, policy), because=self._gone(attempt))
            return
        verdict = retry(attempt, policy)
        self.state.failed += streak(attempt, policy)
        self.decision.failures.append(Failure(attempt, verdict.reason))
        if verdict.due_ms is not None and verdict.due_ms <= self.now_ms:
            avoid = self._failed_on(attempts)
            failures = streak(attempt, policy)
            self._place(index, attempt, failures=failures, avoid=avoid, because="superseded: it ended by itself")
            return
        _waits(self.state, index, verdict.reason, verdict.due_ms or 0)
        if verdict.due_ms is not None:
            self.decision.again_at(verdict.due_ms)

    def _gone(self, attempt: Attempt) -> str:
        return "superseded: its plan was given up" if attempt.abandoned else "superseded: its node was forgotten"

    def _failed_on(self, attempts: list[Attempt]) -> tuple[str, ...]:
        nodes = [a.node for a in reversed(attempts) if a.phase == FAILED]
        return tuple(dict.fromkeys(nodes))[:AVOIDED]

    def _stop(self, attempt: Attempt, reason: str) -> None:
        self.decision.stop.append(Stop(attempt, reason))

    def _drain(self) -> None:
        for attempt in self.drained:
            if self.policy.count - self.serving >= self.policy.max_unavailable:
                return
            self.serving -= 1
            self._stop(attempt, "drained")

    def _roll(self) -> None:
        stopped = {id(stop.attempt) for stop in self.decision.stop}
        for attempt in self.outdated:
            if self.policy.count - self.serving + self.settling >= self.policy.max_parallel:
                if self.settled_ms is not None:
                    self.decision.again_at(self.settled_ms)
                return
            if id(attempt) not in stopped:
                self.serving -= 1
                self._stop(attempt, "updated")
