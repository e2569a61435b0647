"""/v1/projects/{project}/allocations"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Query, Response

from controller.api import paging, selectors, views, writing
from controller.api.deps import DNS_LABEL, ApiDeps, Deps, Member, Name
from controller.api.jobs import Labels, Watch, selected
from controller.api.openapi import stream
from controller.api.paging import Paged
from controller.api.problems import (
    AMBIGUOUS_ID,
    NOT_FOUND,
    STORE_FULL,
    STORE_UNAVAILABLE,
    Refused,
    documented,
    not_found,
)
from controller.api.watch import WatchResponse
from moorage.model.view import AllocationView, ListView
from moorage.wire import keys, store_pb2

if TYPE_CHECKING:
    from controller.cache import Change
    from controller.cache.entries import AllocEntry, JobEntry

router = APIRouter(tags=["allocations"])
ALLOCATIONS = "/v1/projects/{project}/allocations"

AllocId = Annotated[str, Path(alias="id", pattern="^[0-9a-f]{1,16}$", description="or an unambiguous beginning of it")]


@router.get(ALLOCATIONS, response_model=ListView[AllocationView], responses=stream(AllocationView) | documented())
async def list_allocations(
    deps: Deps,
    peer: Member,
    project: Name,
    page: Paged,
    job: Annotated[str | None, Query(pattern=DNS_LABEL)] = None,
    labels: Labels = None,
    watch: Watch = False,
) -> Response:
    """Allocations of a project by job, group, index and attempt. `labels` are those of their jobs."""
    chosen = Choice(deps, project, job, selectors.parse(labels))
    if watch:
        return WatchResponse(deps, AllocationFeed(deps, chosen))
    revision = deps.cache.revision
    cut = await paging.cut(chosen.entries(), page, position)
    return await paging.rendered(cut, lambda entry: view(deps, entry), revision)


@router.get(ALLOCATIONS + "/{id}", response_model=AllocationView, responses=documented(NOT_FOUND, AMBIGUOUS_ID))
async def get_allocation(deps: Deps, peer: Member, project: Name, alloc_id: AllocId) -> AllocationView:
    return view(deps, await find(deps, project, alloc_id))


@router.post(
    ALLOCATIONS + "/{id}/stop",
    status_code=202,
    response_model=AllocationView,
    responses=documented(NOT_FOUND, AMBIGUOUS_ID, STORE_UNAVAILABLE, STORE_FULL),
)
async def stop_allocation(deps: Deps, peer: Member, project: Name, alloc_id: AllocId) -> AllocationView:
    """Stop this one attempt; the slot is filled again. The leader carries it out."""
    entry = await find(deps, project, alloc_id)
    await writing.ask(deps, entry.job_uid, "stop_alloc", entry.id, peer.principal)
    return view(deps, entry)


class Choice:
    """Which allocations a list or a watch is about."""

    def __init__(self, deps: ApiDeps, project: str, job: str | None, selector: selectors.Selector) -> None:
        self._deps = deps
        self._project = project
        self._job = job
        self._selector = selector

    def entries(self) -> Iterable[AllocEntry]:
        for job in self._jobs():
            yield from self._deps.cache.allocs_of_job(job.uid)

    def has(self, entry: AllocEntry) -> bool:
        """Asked for each change: cheap where there is no selector."""
        if entry.project != self._project or self._job not in (None, entry.job):
            return False
        if not self._selector:
            return True
        job = self._deps.cache.job_by_uid(entry.job_uid)
        return job is not None and selected(self._deps, job, self._selector)

    def _jobs(self) -> Iterable[JobEntry]:
        if self._job is not None:
            one = self._deps.cache.job(self._project, self._job)
            jobs = [one] if one is not None else []
        else:
            jobs = list(self._deps.cache.jobs(self._project))
        return [job for job in jobs if not self._selector or selected(self._deps, job, self._selector)]


class AllocationFeed:
    """Told again when the leader or the node says something new, or the node is lost or found."""

    def __init__(self, deps: ApiDeps, choice: Choice) -> None:
        self._deps = deps
        self._choice = choice

    def names(self) -> Iterable[str]:
        return [entry.id for entry in sorted(self._choice.entries(), key=position)]

    def touched(self, change: Change) -> Iterable[str]:
        if change.kind == "alloc":
            return (keys.parse_alloc(change.key).id,)
        if change.kind == "status":
            return (change.key.rpartition("/")[2],)
        if change.kind == "node" and change.key.endswith("/state") and _phase_changed(change):
            node_id = change.key[len(keys.NODES) :].partition("/")[0]
            return [entry.id for entry in self._deps.cache.allocs_of_node(node_id)]
        return ()

    def view(self, name: str) -> AllocationView | None:
        entry = self._deps.cache.alloc(name)
        return view(self._deps, entry) if entry is not None and self._choice.has(entry) else None


async def find(deps: ApiDeps, project: str, alloc_id: str) -> AllocEntry:
    """By id or an unambiguous beginning of it. Raises Refused: 404, 409."""
    exact = deps.cache.alloc(alloc_id)
    if exact is not None and exact.project == project:
        return exact
    found = await _beginning_with(Choice(deps, project, None, selectors.Selector()), alloc_id)
    if not found:
        raise not_found("allocation", alloc_id, hint=f"In project {project!r}; ended ones are forgotten in time.")
    if len(found) > 1:
        names = ", ".join(sorted(entry.id for entry in found)[:5])
        raise Refused(AMBIGUOUS_ID, f"{len(found)} allocations begin with {alloc_id!r}: {names} …")
    return found[0]


async def _beginning_with(choice: Choice, prefix: str) -> list[AllocEntry]:
    entries, found = list(choice.entries()), []
    for start in range(0, len(entries), paging.SLICE):
        found += [entry for entry in entries[start : start + paging.SLICE] if entry.id.startswith(prefix)]
        await asyncio.sleep(0)
    return found


def position(entry: AllocEntry) -> paging.SortKey:
    """Unique: of two jobs of the same name (deleted and applied again) the uid tells them apart."""
    return (entry.job, entry.group, entry.index, entry.attempt, entry.job_uid)


def view(deps: ApiDeps, entry: AllocEntry) -> AllocationView:
    cache = deps.cache
    return views.allocation_view(entry, cache.status(entry.id), cache.node(entry.node))


def _phase_changed(change: Change) -> bool:
    old, new = (store_pb2.NodeState.FromString(kv.value) if kv else None for kv in (change.old, change.new))
    return (old.phase if old else None) != (new.phase if new else None)
