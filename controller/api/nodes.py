"""/v1/nodes"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from controller.api import paging, selectors, views, writing
from controller.api.body import read_model
from controller.api.deps import Admin, ApiDeps, Deps, require_leading
from controller.api.etags import Preconditions, etag
from controller.api.jobs import BODY_PROBLEMS, WRITE_PROBLEMS, Labels, Watch
from controller.api.openapi import body, stream, tagged
from controller.api.paging import Paged
from controller.api.problems import (
    CONFLICT,
    NODE_NOT_LOST,
    NODE_UNREACHABLE,
    NOT_FOUND,
    NOT_LEADING,
    PRECONDITION_FAILED,
    STORE_FULL,
    STORE_UNAVAILABLE,
    Refused,
    documented,
    not_found,
)
from controller.api.watch import WatchResponse
from controller.dispatcher.attach import AttachFailed
from controller.reconcile.news import few
from controller.store.protocol import Absent, Guard, Put, Unchanged
from moorage.model.view import ListView, NodeView, ResourcesView
from moorage.wire import keys, store_pb2

if TYPE_CHECKING:
    from controller.cache import Change
    from controller.cache.entries import NodeEntry

router = APIRouter(tags=["nodes"])
NODES = "/v1/nodes"
NODE = NODES + "/{node}"

LABEL_KEY = r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$"
NodeName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$", description="its id or its name")]
LabelKey = Annotated[str, Field(pattern=LABEL_KEY)]
LabelValue = Annotated[str, Field(pattern=LABEL_VALUE)]


class NodePatch(BaseModel):
    """What is left out stays. A label set to null is removed."""

    model_config = ConfigDict(extra="forbid", strict=True)

    cordoned: bool = False
    draining: bool = False
    labels: dict[LabelKey, LabelValue | None] = Field({}, max_length=64)


class OrphansDrop(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    allocations: list[Annotated[str, Field(pattern="^[0-9a-f]{16}$")]] = Field(min_length=1, max_length=10_000)


@router.get(NODES, response_model=ListView[NodeView], responses=stream(NodeView) | documented())
async def list_nodes(deps: Deps, peer: Admin, page: Paged, labels: Labels = None, watch: Watch = False) -> Response:
    """Nodes by name."""
    selector = selectors.parse(labels)
    if watch:
        return WatchResponse(deps, NodeFeed(deps, selector))
    revision = deps.cache.revision
    chosen = [node for node in deps.cache.nodes() if selector.matches(views.node_labels(node))]
    cut = await paging.cut(chosen, page, lambda node: (node.name, node.id))
    return await paging.rendered(cut, lambda node: view(deps, node), revision)


@router.get(NODE, response_model=NodeView, responses=tagged() | documented(NOT_FOUND))
async def get_node(deps: Deps, peer: Admin, node: NodeName) -> Response:
    return answer(view(deps, existing(deps, node)))


@router.patch(
    NODE,
    response_model=NodeView,
    responses=tagged() | documented(NOT_FOUND, *BODY_PROBLEMS, *WRITE_PROBLEMS),
    openapi_extra=body(NodePatch),
)
async def patch_node(
    deps: Deps, peer: Admin, node: NodeName, precondition: Preconditions, request: Request
) -> Response:
    """Cordon, drain, label."""
    patch = await read_model(request, NodePatch)
    node_id = existing(deps, node).id
    await write_spec(deps, node_id, patch, peer.principal, precondition)
    return answer(view(deps, existing(deps, node_id)))


@router.delete(
    NODE,
    status_code=202,
    response_model=NodeView,
    responses=documented(NOT_FOUND, NODE_NOT_LOST, CONFLICT, PRECONDITION_FAILED, STORE_UNAVAILABLE, STORE_FULL),
)
async def forget_node(deps: Deps, peer: Admin, node: NodeName, precondition: Preconditions) -> NodeView:
    """Forget a node that is lost, and with it what it ran. The leader carries it out."""
    entry = existing(deps, node)
    precondition.check(f"Node {entry.name!r}", entry.spec_revision)
    if entry.state.phase == store_pb2.NodeState.READY:
        raise Refused(
            NODE_NOT_LOST, f"Node {entry.name!r} is connected.", hint="Drain it and stop its agent; then forget it."
        )
    found = view(deps, entry)
    await writing.ask(deps, entry.id, "forget_node", entry.id, peer.principal)
    return found


@router.post(
    NODE + "/orphans/drop",
    status_code=202,
    response_model=NodeView,
    responses=documented(NOT_FOUND, NOT_LEADING, NODE_UNREACHABLE, STORE_UNAVAILABLE, STORE_FULL, *BODY_PROBLEMS),
    openapi_extra=body(OrphansDrop),
)
async def drop_orphans(deps: Deps, peer: Admin, node: NodeName, request: Request) -> NodeView:
    """Have a node end orphans now rather than after their grace."""
    wanted = await read_model(request, OrphansDrop)
    entry = existing(deps, node)
    require_leading(deps)
    try:
        deps.dispatcher.drop_orphans(entry.id, wanted.allocations)
    except AttachFailed as error:
        raise Refused(NODE_UNREACHABLE, str(error)) from error
    noted = deps.audit.note(
        peer.principal, f"node/{entry.name}", "orphans_dropped", f"orphans are to end: {few(wanted.allocations)}"
    )
    await writing.commit(deps, [], [], noted)
    return view(deps, entry)


async def write_spec(
    deps: ApiDeps, node_id: str, patch: NodePatch, principal: str, precondition: Preconditions
) -> None:
    """Merge a patch into the node's spec; a patch that changes nothing writes nothing."""
    key = keys.node_spec(node_id)
    for _ in range(writing.ATTEMPTS):
        kv = await writing.get(deps, key)
        precondition.check("The node", kv.revision if kv is not None else 0)
        old = store_pb2.NodeSpec.FromString(kv.value) if kv is not None else store_pb2.NodeSpec()
        new = patched(old, patch, principal)
        if new is None:
            return
        guard: Guard = Unchanged(key, kv.revision) if kv is not None else Absent(key)
        node = deps.cache.node(node_id)
        kind, message = spec_change(old, new)
        noted = deps.audit.note(principal, f"node/{node.name if node is not None else node_id}", kind, message)
        if (
            await writing.commit(deps, [guard], [Put(key, new.SerializeToString(deterministic=True))], noted)
            is not None
        ):
            return
    raise Refused(CONFLICT, "Others keep changing this node at the same time.")


def patched(old: store_pb2.NodeSpec, patch: NodePatch, principal: str) -> store_pb2.NodeSpec | None:
    """The new spec; None where it says what the old one says."""
    new = store_pb2.NodeSpec()
    new.CopyFrom(old)
    if "cordoned" in patch.model_fields_set:
        new.cordoned = patch.cordoned
    if "draining" in patch.model_fields_set:
        new.drain = patch.draining
    for name, value in patch.labels.items():
        new.labels.pop(name, None)
        if value is not None:
            new.labels[name] = value
    if new == old:
        return None
    new.principal = principal
    return new


def spec_change(old: store_pb2.NodeSpec, new: store_pb2.NodeSpec) -> tuple[str, str]:
    """Kind and message of the event that tells of it."""
    told = []
    if new.drain != old.drain:
        told.append(("drained", "is drained") if new.drain else ("undrained", "is drained no more"))
    if new.cordoned != old.cordoned:
        told.append(("cordoned", "is cordoned") if new.cordoned else ("uncordoned", "is cordoned no more"))
    changed = sorted(name for name in {*old.labels, *new.labels} if old.labels.get(name) != new.labels.get(name))
    if changed:
        told.append(("labelled", f"has other labels: {', '.join(changed)}"))
    return told[0][0], ", ".join(message for _, message in told)


class NodeFeed:
    def __init__(self, deps: ApiDeps, selector: selectors.Selector) -> None:
        self._deps = deps
        self._selector = selector

    def names(self) -> Iterable[str]:
        return [node.id for node in sorted(self._deps.cache.nodes(), key=lambda node: node.name)]

    def touched(self, change: Change) -> Iterable[str]:
        """Allocations come and go too often to tell a node's sums each time: they go along with its next change."""
        return (change.key[len(keys.NODES) :].partition("/")[0],) if change.kind == "node" else ()

    def view(self, name: str) -> NodeView | None:
        node = self._deps.cache.node(name)
        if node is None or not self._selector.matches(views.node_labels(node)):
            return None
        return view(self._deps, node)


def existing(deps: ApiDeps, name: str) -> NodeEntry:
    node = deps.cache.node(name) or deps.cache.node_by_name(name)
    if node is None:
        raise not_found("node", name, hint="`moor get nodes` lists them.")
    return node


def view(deps: ApiDeps, node: NodeEntry) -> NodeView:
    cpu_millis, memory_bytes, disk_bytes = deps.cache.snapshot.used(node.id)
    dispatcher = deps.dispatcher
    return views.node_view(
        node,
        ResourcesView(cpu_millis=cpu_millis, memory_bytes=memory_bytes, disk_bytes=disk_bytes),
        sum(not _ended(deps, entry.id) for entry in deps.cache.allocs_of_node(node.id)),
        deps.rates.of(node.id, dispatcher.usage(node.id)),
        dispatcher.orphans(node.id),
    )


def _ended(deps: ApiDeps, alloc_id: str) -> bool:
    status = deps.cache.status(alloc_id)
    return status is not None and status.terminal


def answer(view: NodeView) -> Response:
    return Response(view.model_dump_json(), headers={"ETag": etag(view.revision)}, media_type="application/json")
