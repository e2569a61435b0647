"""One agent's session on this side: what waits to be sent to it, and in which order it goes.

Nothing here waits for the agent but `send`, the session's one sender. Whatever happens marks something and wakes it.
The complete set is encoded in one piece at one revision of the cache, later changes go as deltas: the first after some
quiet leaves at once, what comes within a window after it leaves together, and an allocation that changed twice is
encoded once, as it is then. (A message costs both sides more than a handful of allocations in it.) Acknowledgements
are in no hurry, and the highest one stands for all before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

from controller.cache import Cache
from controller.dispatcher import assignments, metrics
from controller.dispatcher.statuses import Line
from moorage.kit.clock import Clock
from moorage.wire.session_pb2 import (
    AttachRequest,
    ControllerMessage,
    DropOrphans,
    Position,
    Redirect,
    Refused,
    StatusAck,
)

WINDOW_S = 0.05
"""Between two deltas of a session."""

ACK_S = 0.2
"""Acknowledgements wait for something else to go, and at most this long."""

ACKS, DELTAS = metrics.SENT.labels("ack"), metrics.SENT.labels("delta")

Write = Callable[[bytes], Awaitable[None]]


class Session:
    def __init__(self, node: str, name: str, position: Position, state_revision: int) -> None:
        self.node = node
        self.name = name
        self.position = position
        self.done_revision = 0  # up to here the agent has acted
        self.line = Line(node, position.epoch, state_revision, self.acknowledge, self.end_as_superseded)
        self.closing: ControllerMessage | None = None
        self._changed: dict[str, None] = {}
        self._forgotten: dict[str, None] = {}
        self._messages: list[bytes] = []
        self._acknowledged = 0
        self._ack_timer: asyncio.TimerHandle | None = None  # there while it has to be said
        self._wake = asyncio.Event()
        self.when_ending: Callable[[], object] = _nobody

    @property
    def epoch(self) -> int:
        return self.position.epoch

    # -- marking ---------------------------------------------------------------------------------------------------

    def changed(self, alloc: str) -> None:
        self._changed[alloc] = None
        self._wake.set()

    def forgotten(self, alloc: str) -> None:
        self._forgotten[alloc] = None
        self._wake.set()

    def acknowledge(self, serials: Sequence[int]) -> None:
        """All batches up to the highest of these are stored."""
        if self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(ACK_S, self._wake.set)
        self._acknowledged = max(self._acknowledged, *serials)

    def attach(self, request: AttachRequest) -> None:
        self._message("attach", ControllerMessage(attach=request))

    def drop_orphans(self, allocs: Sequence[str]) -> None:
        self._message("drop", ControllerMessage(drop=DropOrphans(allocs=allocs)))

    def end(self, message: Redirect | Refused) -> None:
        """The last thing that the agent hears. The first reason counts."""
        if self.closing is None:
            self.closing = goodbye(message)
            self._wake.set()
            self.when_ending()

    def end_as_superseded(self, reason: str) -> None:
        self.end(Refused(code="node_id_taken", reason=reason))

    def _message(self, kind: str, message: ControllerMessage) -> None:
        metrics.SENT.labels(kind).inc()
        self._messages.append(message.SerializeToString())
        self._wake.set()

    # -- sending ---------------------------------------------------------------------------------------------------

    async def send(self, cache: Cache, clock: Clock, may_send: Callable[[], bool], write: Write) -> None:
        """Until the session is to end, of which the agent is told last.

        `may_send` is asked before each message that makes an agent act: whether this controller still leads.
        """
        self._check(may_send)
        for message in self.complete_set(cache) if self.closing is None else ():
            await write(message)
        while self.closing is None:
            await self._wake.wait()
            self._wake.clear()
            self._check(may_send)
            busy = bool(self._changed or self._forgotten)
            for message in self.due(cache):
                await write(message)
            if busy:
                await clock.sleep(WINDOW_S)
        await write(self.closing.SerializeToString())

    def _check(self, may_send: Callable[[], bool]) -> None:
        if not may_send():
            self.end(Redirect(reason="this controller does not lead any more"))

    def complete_set(self, cache: Cache) -> Iterator[bytes]:
        """Encoded at once, so that all of it is of one revision; what was marked before is in it."""
        self._changed.clear()
        encoded = assignments.of_node(cache, self.node)
        metrics.ASSIGNMENTS.inc(len(encoded))
        metrics.SENT.labels("set").inc()
        return assignments.set_messages(self._at(cache), encoded)

    def due(self, cache: Cache) -> list[bytes]:
        """One turn of the sender: everything that waits, as messages."""
        if self.closing is not None:
            return []
        messages, self._messages = self._messages, []
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
            ACKS.inc()
            messages.append(ControllerMessage(ack=StatusAck(serial=self._acknowledged)).SerializeToString())
        if self._changed or self._forgotten:
            messages += self._deltas(cache)
        return messages

    def _deltas(self, cache: Cache) -> Iterator[bytes]:
        marked, self._changed = self._changed, {}
        forgotten, self._forgotten = self._forgotten, {}
        entries = (entry for alloc in marked if (entry := cache.alloc(alloc)) is not None)
        encoded = [assignments.encode(cache, entry) for entry in entries if assignments.handed_out(cache, entry)]
        if not encoded and not forgotten:
            return iter(())
        metrics.ASSIGNMENTS.inc(len(encoded))
        DELTAS.inc()
        return assignments.delta_messages(self._at(cache), encoded, list(forgotten))

    def _at(self, cache: Cache) -> Position:
        self.position.revision = cache.revision
        arrivals = cache.arrivals()
        self.position.arrival = arrivals[-1][0] if arrivals else ""
        return self.position


def _nobody() -> None:
    pass


def goodbye(message: Redirect | Refused) -> ControllerMessage:
    if isinstance(message, Redirect):
        return ControllerMessage(redirect=message)
    return ControllerMessage(refused=message)
