"""/v1/events: what happened in the cluster, oldest first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Response

from controller.api import paging, views
from controller.api.deps import DNS_LABEL, ApiDeps, Caller, Deps, may_use
from controller.api.jobs import Watch
from controller.api.openapi import stream
from controller.api.paging import Paged
from controller.api.problems import FORBIDDEN, Refused, documented
from controller.api.tokens import Peer
from controller.api.watch import WatchResponse
from moorage.model.view import EventView, ListView
from moorage.wire import store_pb2

if TYPE_CHECKING:
    from controller.cache import Change

router = APIRouter(tags=["events"])
EVENTS = "/v1/events"


@router.get(EVENTS, response_model=ListView[EventView], responses=stream(EventView) | documented())
async def list_events(
    deps: Deps,
    peer: Caller,
    page: Paged,
    project: Annotated[str | None, Query(pattern=DNS_LABEL)] = None,
    object: Annotated[str | None, Query(max_length=130, description="job/hello, node/h1")] = None,
    watch: Watch = False,
) -> Response:
    """Events of the cluster; whoever has a token for a project sees that project's."""
    wanted = Wanted(_project(peer, project), object)
    if watch:
        return WatchResponse(deps, EventFeed(deps, wanted))
    revision = deps.cache.revision
    found = [(kv.key, event) for kv, event in deps.cache.events(wanted.project) if wanted.has(event)]
    cut = await paging.cut(found, page, lambda item: (item[0],))
    return await paging.rendered(cut, lambda item: views.event_view(item[1]), revision)


class Wanted:
    """Which events; None is no condition."""

    def __init__(self, project: str | None, object: str | None) -> None:
        self.project = project
        self._object = object

    def has(self, event: store_pb2.Event) -> bool:
        return self.project in (None, event.project) and self._object in (None, event.object)


class EventFeed:
    """An event is told again when it happened again; that one expired is not told."""

    def __init__(self, deps: ApiDeps, wanted: Wanted) -> None:
        self._deps = deps
        self._wanted = wanted

    def names(self) -> Iterable[str]:
        return [kv.key for kv, event in self._deps.cache.events(self._wanted.project) if self._wanted.has(event)]

    def touched(self, change: Change) -> Iterable[str]:
        return (change.key,) if change.kind == "event" and change.new is not None else ()

    def view(self, name: str) -> EventView | None:
        event = self._deps.cache.event(name)
        return views.event_view(event) if event is not None and self._wanted.has(event) else None


def _project(peer: Peer, asked: str | None) -> str | None:
    if asked is None:
        return None if peer.role == "admin" else peer.project
    if not may_use(peer, asked):
        raise Refused(FORBIDDEN, f"This token is for project {peer.project!r}, not for {asked!r}.")
    return asked
