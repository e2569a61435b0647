"""Who may hold a session: a pure decision over a Hello and what this controller knows.

The order matters. A controller that does not lead, or whose cache is behind, says where to go and judges nothing.
Then identity, then the cluster, and last the question of an old backup, which is asked *before* any epoch is raised:
a raised epoch would look newer to the agent than what it has seen, and it would believe the past.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from controller.cache import NodeEntry
from controller.leader.history import Arrivals
from moorage.wire.session_pb2 import Hello, Position, Redirect, Refused
from moorage.wire.store_pb2 import Cluster

PROTOCOL = 1
NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

Judge = Callable[[Cluster, Arrivals, int, Position], str]
"""Why a store at a revision cannot be the one that an agent has seen, or "" (controller.leader.history.judge)."""


class Peer(Protocol):
    """Who is at the other end: from a token now, from a certificate later."""

    @property
    def principal(self) -> str: ...

    @property
    def role(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Situation:
    """What this controller knows as the Hello arrives."""

    leading: bool
    caught_up: bool  # the cache shows this leadership: what it knows is of its time
    leader_address: str
    cluster: Cluster | None
    revision: int
    node: NodeEntry | None
    arrivals: Arrivals
    went_back: str  # how this process itself saw the store's history go back


@dataclass(frozen=True, slots=True)
class Suspected:
    """The store is older than what the agent has seen."""

    reason: str


@dataclass(frozen=True, slots=True)
class Admitted:
    epoch: int


Verdict = Redirect | Refused | Suspected | Admitted


def admit(hello: Hello, peer: Peer | None, situation: Situation, judge: Judge) -> Verdict:
    elsewhere = redirect(situation)
    if elsewhere is not None:
        return elsewhere
    cluster = situation.cluster
    if cluster is None:
        return Redirect(reason="the cluster is not set up yet")
    return _refusal(hello, peer, cluster) or _history(hello, cluster, situation, judge)


def redirect(situation: Situation) -> Redirect | None:
    if not situation.leading:
        return Redirect(address=situation.leader_address, reason="this controller does not lead")
    if not situation.caught_up:
        return Redirect(reason="this controller is still catching up with the store")
    return None


def _refusal(hello: Hello, peer: Peer | None, cluster: Cluster) -> Refused | None:
    if peer is None:
        return Refused(code="unauthenticated", reason="no valid token; give the agent one of role agent")
    if peer.role != "agent":
        return Refused(code="unauthenticated", reason=f"a token of role {peer.role} is not for agents")
    if hello.protocol != PROTOCOL:
        reason = f"the agent speaks protocol {hello.protocol}, this controller {PROTOCOL}: upgrade the older one"
        return Refused(code="protocol", reason=reason)
    if not NODE_ID.fullmatch(hello.node_id):
        return Refused(code="protocol", reason=f"{hello.node_id!r} is no node id")
    if hello.cluster_id and hello.cluster_id != cluster.id:
        reason = f"the agent belongs to cluster {hello.cluster_id}, this is {cluster.id}"
        return Refused(code="wrong_cluster", reason=reason)
    if cluster.restore_suspected:
        return suspected(cluster.restore_suspected)
    return None


def _history(hello: Hello, cluster: Cluster, situation: Situation, judge: Judge) -> Verdict:
    seen, state = hello.seen, situation.node.state if situation.node else None
    same_generation = seen.generation == cluster.generation
    known = situation.node is not None and situation.node.state_revision > 0
    stored_epoch = state.epoch if state else 0
    if known and same_generation and seen.epoch > stored_epoch:
        return Suspected(f"node {hello.node_id} has seen session {seen.epoch}, the store knows only {stored_epoch}")
    reason = situation.went_back or judge(cluster, situation.arrivals, situation.revision, seen)
    if reason:
        return Suspected(f"node {hello.node_id}: {reason}")
    # A node that was forgotten and comes back has seen more sessions than the store remembers.
    return Admitted(max(stored_epoch, seen.epoch if same_generation else 0) + 1)


def suspected(reason: str) -> Refused:
    hint = "if the restore was meant, run `moor cluster accept-restore`"
    return Refused(code="restore_suspected", reason=f"the store seems to be an old backup ({reason}); {hint}")
