"""/v1/cluster, /v1/version, /v1/schemas, /v1/openapi.json: what this cluster is and how it is spoken to."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import APIRouter, Request

from controller.api import openapi, writing
from controller.api.deps import Admin, ApiDeps, Caller, Deps, not_leading, require_leading
from controller.api.problems import CONFLICT, NOT_LEADING, STORE_FULL, STORE_UNAVAILABLE, Refused, documented
from controller.dispatcher.restore import Conflict
from controller.leader import NotLeading
from moorage.model import job_json_schema
from moorage.model.view import ClusterView, VersionView
from moorage.wire import store_pb2

router = APIRouter(tags=["cluster"])
PROTOCOL = 1


@router.get("/v1/cluster", response_model=ClusterView, responses=documented())
async def get_cluster(deps: Deps, peer: Admin) -> ClusterView:
    return view(deps)


@router.post(
    "/v1/cluster/accept-restore",
    response_model=ClusterView,
    responses=documented(CONFLICT, NOT_LEADING, STORE_UNAVAILABLE, STORE_FULL),
)
async def accept_restore(deps: Deps, peer: Admin) -> ClusterView:
    """Take a restored store for the truth: a new generation begins, and agents follow it again."""
    require_leading(deps)
    try:
        await writing.patiently(deps, deps.dispatcher.accept_restore(peer.principal))
    except NotLeading:
        raise not_leading(deps) from None
    except Conflict as error:
        raise Refused(CONFLICT, f"The restore is not accepted: {error}.") from None
    return view(deps)


@router.get("/v1/version", response_model=VersionView, responses=documented())
async def get_version(deps: Deps, peer: Caller) -> VersionView:
    leader, cluster = deps.leader.known(), deps.cache.cluster()
    return VersionView(
        version=release(),
        protocol=PROTOCOL,
        cluster_id=cluster.id if cluster is not None else "",
        controller_id=deps.settings.controller_id,
        leader=deps.leader.is_leading(),
        leader_url=leader.api_url if leader is not None else "",
    )


@router.get("/v1/schemas/job", responses=documented())
async def get_job_schema(peer: Caller) -> dict[str, Any]:
    """JSON Schema of a job, for editors."""
    return job_json_schema()


@router.get("/v1/openapi.json", responses=documented())
async def get_openapi(peer: Caller, request: Request) -> dict[str, Any]:
    """This description."""
    return await asyncio.to_thread(openapi.describe, request.app)  # takes a fifth of a second, once


def view(deps: ApiDeps) -> ClusterView:
    cluster = deps.cache.cluster() or store_pb2.Cluster()
    leader = deps.leader.known() or store_pb2.LeaderInfo()
    nodes = list(deps.cache.nodes())
    return ClusterView(
        id=cluster.id,
        generation=cluster.generation,
        restore_suspected=cluster.restore_suspected,
        leader=leader.controller,
        leader_url=leader.api_url,
        revision=deps.cache.revision,
        nodes=len(nodes),
        nodes_ready=sum(node.state.phase == store_pb2.NodeState.READY for node in nodes),
        trouble=deps.trouble(),
    )


@lru_cache
def release() -> str:
    try:
        return version("moorage")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0+source"
