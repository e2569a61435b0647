"""The sessions of all agents, and what the rest of the controller asks of them.

A session begins with a Hello (`reception`), is told its node's allocations (`session`, `assignments`, `router`), and
brings statuses (`statuses`), facts, heartbeats and orphans. It ends by itself, because the node began another one or
went silent (`liveness`), because a restore is suspected or was accepted, or because this controller leads no more.
Heartbeats, usage and orphans are kept here in memory: they are nobody's truth but the node's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

import structlog
from google.protobuf.message import DecodeError

from controller.cache import Cache, Change
from controller.dispatcher import metrics
from controller.dispatcher.admission import Peer
from controller.dispatcher.attach import AttachFailed, Streams
from controller.dispatcher.leadership import Leadership
from controller.dispatcher.liveness import Liveness
from controller.dispatcher.nodes import Nodes
from controller.dispatcher.reception import Reception
from controller.dispatcher.restore import accept_restore
from controller.dispatcher.router import Router
from controller.dispatcher.service import Service
from controller.dispatcher.session import Session
from controller.dispatcher.statuses import StatusWriter
from controller.dispatcher.statuses import judge as judge_status
from controller.leader import LeadershipTerm, NotLeading, judge
from controller.store.protocol import Store, StoreError
from moorage.kit.clock import Clock
from moorage.kit.settings import Timings
from moorage.kit.tasks import Owner, forever
from moorage.wire import keys
from moorage.wire.session_pb2 import (
    AgentMessage,
    AttachFrame,
    Heartbeat,
    Hello,
    LogsRequest,
    Orphan,
    Redirect,
    Refused,
    StatusBatch,
    Welcome,
)
from moorage.wire.store_pb2 import Cluster, NodeFacts, NodeState

log = structlog.get_logger()


class Dispatcher:
    def __init__(
        self,
        cache: Cache,
        store: Store,
        leader: Leadership,
        clock: Clock,
        settings: Timings,
        authenticate: Callable[[str], Peer | None],
    ) -> None:
        self.authenticate = authenticate
        self.cache = cache
        self.clock = clock
        self.sessions: dict[str, Session] = {}
        self.streams = Streams()
        self._statuses = StatusWriter(clock, leader.commit, store.get)
        self._owner = Owner("dispatcher")
        self._service = Service(self)
        self._leader = leader
        self._settings = settings
        self._nodes = Nodes(cache, leader, clock)
        self._reception = Reception(cache, leader, self._nodes, judge)
        self._router = Router(cache, self.sessions)
        self._liveness = Liveness(clock, settings.lost_after)
        self._beats: dict[str, bytes] = {}  # encoded: decoding all of a fleet's usage would be for nobody
        self._orphans: dict[str, list[Orphan]] = {}
        self._generation: tuple[int, str] | None = None
        self._unsubscribe = cache.subscribe(self._changed)
        leader.subscribe(self._led)

    async def serve(self, address: str) -> int:
        """Returns the port. Raises RuntimeError where the address cannot be bound."""
        port = await self._service.serve(address)
        self._owner.start(self._statuses.run(), "statuses")
        self._owner.start(forever(self.look_after_nodes, name="liveness"), "liveness")
        return port

    async def close(self) -> None:
        """Sessions are told to try again; what was not written is sent again by its agent."""
        self._unsubscribe()
        self.end_all(Redirect(reason="this controller is shutting down"))
        await self._service.close()
        await self._statuses.close()
        await self._owner.close()

    # -- for the rest of the controller ----------------------------------------------------------------------------

    def usage(self, node_id: str) -> Heartbeat | None:
        """The node's newest heartbeat."""
        beat = self._beats.get(node_id)
        try:
            return AgentMessage.FromString(beat).heartbeat if beat is not None else None
        except DecodeError:
            return None

    def orphans(self, node_id: str) -> list[Orphan]:
        return list(self._orphans.get(node_id, ()))

    def drop_orphans(self, node_id: str, alloc_ids: Sequence[str]) -> None:
        """Their grace is over now. Raises AttachFailed where the node holds no session."""
        self._session(node_id).drop_orphans(alloc_ids)

    def open_logs(self, node_id: str, request: LogsRequest) -> AsyncGenerator[AttachFrame, None]:
        """Frames as the node's agent sends them; to be closed by the reader. Raises AttachFailed."""
        session = self._session(node_id)
        return self.streams.read(node_id, session.name, request, session.attach)

    async def accept_restore(self, principal: str) -> int:
        """The store as it is counts from now on; returns the new generation. Raises StoreError, NotLeading …"""
        return await accept_restore(self.cache, self._leader, principal, self._reception.highest_generation)

    # -- of a session ----------------------------------------------------------------------------------------------

    async def hello(self, hello: Hello, peer: Peer | None) -> Session | Redirect | Refused:
        answer = await self._reception.receive(hello, peer)
        if not isinstance(answer, Session):
            log.info("hello not answered by a session", node=hello.node_id, reason=answer.reason)
            return answer
        older = self.sessions.get(answer.node)
        if older is not None and older.epoch > answer.epoch:
            return Refused(code="node_id_taken", reason=f"session {older.epoch} of this node was faster")
        if older is not None:
            self._end(older, Refused(code="node_id_taken", reason="another session of this node began"))
        self.sessions[answer.node] = answer
        metrics.SESSIONS.set(len(self.sessions))
        self._liveness.heard(answer.node)
        return answer

    def welcome(self, session: Session) -> Welcome:
        cluster = self.cache.cluster() or Cluster()
        return Welcome(
            cluster_id=cluster.id,
            position=session.position,
            heartbeat_ms=int(self._settings.heartbeat * 1000),
            lost_after_ms=int(self._settings.lost_after * 1000),
            orphan_grace_ms=int(self._settings.orphan_grace * 1000),
            node_name=session.name,
        )

    def may_send(self) -> bool:
        cluster = self.cache.cluster()
        return self._reception.stands() and cluster is not None and not cluster.restore_suspected

    def heartbeat(self, session: Session, encoded: bytes) -> None:
        self._liveness.heard(session.node)
        self._beats[session.node] = encoded

    async def message(self, session: Session, message: AgentMessage) -> None:
        """Anything but a heartbeat."""
        self._liveness.heard(session.node)
        match message.WhichOneof("message"):
            case "statuses":
                self._take_statuses(session, message.statuses)
            case "done":
                session.done_revision = message.done.revision
            case "orphans":
                self._orphans[session.node] = list(message.orphans.orphans)
            case "facts":
                await self._take_facts(session, message.facts)
            case "refused":
                refused = message.refused
                log.error("an agent refuses its set", node=session.node, code=refused.code, reason=refused.reason)
                session.end(Redirect(reason=f"the set was refused: {refused.reason}"))
            case kind:
                session.end(Refused(code="protocol", reason=f"unexpected message: {kind}"))

    def ended(self, session: Session) -> None:
        """Its stream is gone."""
        self._statuses.drop(session.line)
        if self.sessions.get(session.node) is session:
            del self.sessions[session.node]
        metrics.SESSIONS.set(len(self.sessions))
        log.info("session ended", node=session.node, name=session.name, epoch=session.epoch)

    def _take_statuses(self, session: Session, batch: StatusBatch) -> None:
        if not batch.statuses:  # asks whether anybody listens
            return session.acknowledge([batch.serial])
        line = session.line
        for status in batch.statuses:
            entry, stored = self.cache.alloc(status.alloc), self.cache.status(status.alloc)
            outcome = judge_status(status, session.node, entry, stored, line.floors.get(status.alloc))
            metrics.STATUSES.labels(outcome).inc()
            if outcome == "accepted":
                line.accept(status)
            elif outcome == "unknown":
                session.forgotten(status.alloc)
            elif outcome == "foreign":
                log.warning("a status of another node's allocation", node=session.node, allocation=status.alloc)
        line.batches.append((batch.serial, self.clock.monotonic()))
        if line.pending:
            self._statuses.add(line)
        elif not line.busy:
            line.batches.clear()
            session.acknowledge([batch.serial])

    async def _take_facts(self, session: Session, facts: NodeFacts) -> None:
        try:
            committed = await self._nodes.write_facts(session.node, session.line.state_revision, facts)
        except (StoreError, NotLeading) as error:
            log.warning("facts were not stored", node=session.node, error=str(error))
            return
        if committed is not None and not committed.ok:
            session.end_as_superseded("another session of this node began")

    def _session(self, node_id: str) -> Session:
        session = self.sessions.get(node_id)
        if session is None:
            node = self.cache.node(node_id)
            raise AttachFailed(f"node {node.name if node else node_id} is not connected")
        return session

    # -- what happens ----------------------------------------------------------------------------------------------

    async def look_after_nodes(self) -> None:
        """One turn: nodes that have gone silent are lost, and must say hello again."""
        await self.clock.sleep(self._liveness.tick_s)
        term = self._leader.term
        if term is None or not self.may_send():
            return
        silent = self._liveness.look(self.cache.nodes())
        if not silent:
            return
        for node_id in await self._nodes.declare_lost(silent, self._settings.lost_after, term.id):
            metrics.LOST.inc()
            log.warning("node lost", node=node_id, silent_s=self._settings.lost_after)
            if (session := self.sessions.get(node_id)) is not None:
                self._end(session, Redirect(reason="no heartbeat for too long, say hello again"))

    def end_all(self, message: Redirect | Refused) -> None:
        for session in list(self.sessions.values()):
            self._end(session, message)

    def _end(self, session: Session, message: Redirect | Refused) -> None:
        self._statuses.drop(session.line)
        session.end(message)

    def _led(self, term: LeadershipTerm | None) -> None:
        self._liveness.begin()
        if term is None:
            known = self._leader.known()
            address = known.agent_address if known is not None else ""
            self.end_all(Redirect(address=address, reason="this controller does not lead any more"))

    def _changed(self, changes: Sequence[Change]) -> None:
        self._router.route(changes)
        for change in changes:
            if change.kind == "cluster":
                self._cluster_changed()
            elif change.kind == "node":
                self._node_changed(change.key[len(keys.NODES) :].partition("/")[0])

    def _cluster_changed(self) -> None:
        """A suspicion ends all sessions, and so does its end: every agent is to see the new generation."""
        cluster = self.cache.cluster() or Cluster()
        before, self._generation = self._generation, (cluster.generation, cluster.restore_suspected)
        if before is None or before == self._generation:
            return
        if cluster.generation > before[0]:
            self.cache.went_back = ""  # and was accepted
        self._liveness.begin()
        if cluster.restore_suspected:
            self.end_all(Refused(code="restore_suspected", reason=cluster.restore_suspected))
        else:
            self.end_all(Redirect(reason=f"generation {cluster.generation} of the cluster begins"))

    def _node_changed(self, node_id: str) -> None:
        """A node that was forgotten leaves nothing behind here, and one that is lost must say hello again.

        The latter also where nobody was told that the loss was written.
        """
        node, session = self.cache.node(node_id), self.sessions.get(node_id)
        if node is None:
            self._liveness.forget(node_id)
            self._beats.pop(node_id, None)
            self._orphans.pop(node_id, None)
            if session is not None:
                self._end(session, Redirect(reason="the node was forgotten"))
        elif session is not None and node.state.phase == NodeState.LOST and node.state.epoch == session.epoch:
            self._end(session, Redirect(reason="no heartbeat for too long, say hello again"))
