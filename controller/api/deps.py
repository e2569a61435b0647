"""What the API needs of the rest of the controller, and how a route gets at it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Protocol

from fastapi import Depends, Path
from fastapi.requests import HTTPConnection

from controller.api.audit import Audit
from controller.api.problems import FORBIDDEN, LEADER_HEADER, NOT_LEADING, Refused
from controller.api.tokens import Peer
from controller.api.usage import Rates
from controller.store.protocol import Store
from moorage.kit.clock import Clock
from moorage.wire.session_pb2 import AttachFrame, Heartbeat, LogsRequest, Orphan
from moorage.wire.store_pb2 import LeaderInfo

if TYPE_CHECKING:
    from controller.cache import Cache

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"


class Sessions(Protocol):
    """The dispatcher, as far as the API asks it: sessions are held by the leader."""

    def usage(self, node_id: str) -> Heartbeat | None: ...

    def orphans(self, node_id: str) -> list[Orphan]: ...

    def drop_orphans(self, node_id: str, alloc_ids: Sequence[str]) -> None:
        """Raises AttachFailed."""
        ...

    def open_logs(self, node_id: str, request: LogsRequest) -> AsyncGenerator[AttachFrame, None]:
        """Raises AttachFailed, at once and while it is read."""
        ...

    async def accept_restore(self, principal: str) -> int:
        """The new generation. Raises NotLeading, Conflict, StoreError."""
        ...


class Leadership(Protocol):
    def is_leading(self) -> bool: ...

    def known(self) -> LeaderInfo | None: ...


@dataclass(frozen=True, slots=True)
class ApiSettings:
    controller_id: str = ""
    store_patience_s: float = 3.0  # then a request is told that the store does not answer
    catch_up_s: float = 2.0  # how long a write waits for the cache, so that a read after it sees it
    bookmark_s: float = 10.0  # a watch that is silent for longer is dead
    watch_backlog: int = 5_000  # objects that a slow watcher may be behind by before it is reset


@dataclass(frozen=True, slots=True)
class ApiDeps:
    cache: Cache
    store: Store
    leader: Leadership
    dispatcher: Sessions
    clock: Clock
    settings: ApiSettings = field(default_factory=ApiSettings)
    rates: Rates = field(default_factory=Rates)
    arrived: asyncio.Event = field(default_factory=lambda: _set(asyncio.Event()))  # before that nothing is written
    trouble: Callable[[], list[str]] = list  # what is wrong with the store at present, in the user's words
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())
    audit: Audit = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "audit", Audit(self.clock, self.new_id))


def _set(event: asyncio.Event) -> asyncio.Event:
    event.set()
    return event


async def _deps(connection: HTTPConnection) -> ApiDeps:
    deps: ApiDeps = connection.app.state.deps
    return deps


async def _peer(connection: HTTPConnection) -> Peer:
    peer: Peer = connection.scope["peer"]
    return peer


Deps = Annotated[ApiDeps, Depends(_deps)]
Caller = Annotated[Peer, Depends(_peer)]
Name = Annotated[str, Path(pattern=DNS_LABEL, max_length=63)]


async def _member(project: Name, peer: Caller) -> Peer:
    if not may_use(peer, project):
        raise Refused(FORBIDDEN, f"This token is for project {peer.project!r}, not for {project!r}.")
    return peer


async def _admin(peer: Caller) -> Peer:
    if peer.role != "admin":
        raise Refused(FORBIDDEN, "This is for administrators of the cluster.", hint="Use a token of role admin.")
    return peer


Member = Annotated[Peer, Depends(_member)]
"""Whoever may use the project in the path."""

Admin = Annotated[Peer, Depends(_admin)]


def may_use(peer: Peer, project: str) -> bool:
    return peer.role == "admin" or peer.project == project


def require_leading(deps: ApiDeps) -> None:
    """Raises Refused (`not_leading`)."""
    if not deps.leader.is_leading():
        raise not_leading(deps)


def not_leading(deps: ApiDeps) -> Refused:
    """Names the leader's API, so that the client can ask there."""
    known = deps.leader.known()
    url = known.api_url if known is not None and not deps.leader.is_leading() else ""
    return Refused(
        NOT_LEADING,
        "Only the leading controller holds sessions with agents." if url else "No controller leads at the moment.",
        hint=f"Ask {url}" if url else "Try again in a moment.",
        headers={LEADER_HEADER: url} if url else None,
    )
