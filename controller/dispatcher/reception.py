"""From a Hello to a session: decide, write the new epoch, and only then hand out anything."""

from __future__ import annotations

import structlog

from controller.cache import Cache, NodeEntry
from controller.dispatcher import metrics
from controller.dispatcher.admission import Admitted, Judge, Peer, Situation, Suspected, admit, suspected
from controller.dispatcher.leadership import Leadership
from controller.dispatcher.nodes import Nodes
from controller.dispatcher.restore import Conflict, suspect
from controller.dispatcher.session import Session
from controller.leader import NotLeading
from controller.store.protocol import StoreError
from moorage.wire import keys
from moorage.wire.session_pb2 import Hello, Position, Redirect, Refused

log = structlog.get_logger()

TRIES = 5


class Reception:
    def __init__(self, cache: Cache, leader: Leadership, nodes: Nodes, judge: Judge) -> None:
        self._cache = cache
        self._leader = leader
        self._nodes = nodes
        self._judge = judge
        self.highest_generation = 0
        """That an agent has seen: a new one must be above, or agents could not tell the two apart."""

    async def receive(self, hello: Hello, peer: Peer | None) -> Session | Redirect | Refused:
        try:
            answer = await self._receive(hello, peer)
        except NotLeading:
            answer = Redirect(reason="this controller does not lead any more")
        except (StoreError, TimeoutError, Conflict) as error:
            answer = Redirect(reason=f"the store does not answer: {error}")
        finally:
            self._nodes.shown(hello.node_id)
        metrics.HELLOS.labels(_label(answer)).inc()
        return answer

    def stands(self) -> bool:
        """Whether this controller leads and its cache shows that very leadership.

        Only then may a revision be handed out with the term's name: controller.leader.history relies on it.
        """
        term, leader = self._leader.term, self._cache.get(keys.LEADER)
        if term is None or leader is None or not self._cache.synced.is_set():
            return False
        return leader.created == term.fence.revision and self._leader.is_leading()

    def situation(self, node_id: str) -> Situation:
        known = self._leader.known()
        leading = self._leader.is_leading()
        return Situation(
            leading=leading,
            caught_up=self.stands(),
            leader_address=known.agent_address if known is not None and not leading else "",
            cluster=self._cache.cluster(),
            revision=self._cache.revision,
            node=self._cache.node(node_id),
            arrivals=self._cache.arrivals(),
            went_back=self._cache.went_back,
        )

    async def _receive(self, hello: Hello, peer: Peer | None) -> Session | Redirect | Refused:
        for _ in range(TRIES):
            self.highest_generation = max(self.highest_generation, hello.seen.generation)
            verdict = admit(hello, peer, self.situation(hello.node_id), self._judge)
            if isinstance(verdict, Suspected):
                await suspect(self._cache, self._leader, verdict.reason)
                return suspected(verdict.reason)
            if not isinstance(verdict, Admitted):
                return verdict
            session = await self._begin(hello, verdict.epoch)
            if session is not None:
                return session
        return Redirect(reason="the node's state kept changing, try again")

    async def _begin(self, hello: Hello, epoch: int) -> Session | None:
        """None where another session of the node was faster: decide again."""
        term, cluster = self._leader.term, self._cache.cluster()
        if term is None or cluster is None:
            return None
        node = self._cache.node(hello.node_id) or NodeEntry(hello.node_id)
        committed = await self._nodes.begin_session(node, epoch, term.id, hello.facts)
        await self._cache.passed(committed.revision)
        if not committed.ok:
            return None
        position = Position(generation=cluster.generation, epoch=epoch, revision=committed.revision, term=term.id)
        name = (self._cache.node(hello.node_id) or node).name
        log.info("session begins", node=hello.node_id, name=name, epoch=epoch, agent=hello.agent_version)
        return Session(hello.node_id, name, position, committed.revision)


def _label(answer: Session | Redirect | Refused) -> str:
    if isinstance(answer, Session):
        return "welcome"
    return "redirect" if isinstance(answer, Redirect) else answer.code
