"""One method per route. `project` of a call overrides that of the client."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

import httpx

from moorage.client import logs
from moorage.client.transport import Params, Transport
from moorage.client.watch import watch
from moorage.model.view import (
    AllocationView,
    ClusterView,
    EventView,
    ExplainView,
    JobVersionView,
    JobView,
    ListView,
    NodeView,
    PlanView,
    VersionView,
    View,
    WatchEvent,
)

V = TypeVar("V", bound=View)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a PUT came to."""

    job: JobView
    action: Literal["created", "updated", "unchanged"]


class Listed(list[V]):
    """All pages of a list; `revision` is that of the last page: where a watch goes on from."""

    revision: int = 0


class Client:
    """Raises ApiProblem where the API refuses, Unreachable where nobody answers. Close it or use `async with`."""

    def __init__(
        self,
        url: str,
        token: str,
        project: str = "default",
        *,
        timeout_s: float = 10.0,
        rng: random.Random | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.project = project
        self._http = Transport(url, token, timeout_s=timeout_s, rng=rng or random.Random(), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.close()

    # -- jobs ------------------------------------------------------------------------------------------------------

    async def put_job(
        self,
        spec: Mapping[str, Any],
        *,
        project: str | None = None,
        if_match: int | None = None,
        if_absent: bool = False,
    ) -> Applied:
        """`spec` is the Job as in the YAML. `if_match`: only over this revision; `if_absent`: only where none is."""
        path = self._job(str(spec["name"]), project)
        headers = _condition(if_match) | ({"If-None-Match": "*"} if if_absent else {})
        response = await self._http.send("PUT", path, json=dict(spec), headers=headers)
        action: Any = response.headers.get("moor-action", "updated")
        return Applied(JobView.model_validate_json(response.content), action)

    async def get_job(self, name: str, *, project: str | None = None) -> JobView:
        return await self._get(self._job(name, project), JobView)

    async def list_jobs(self, *, project: str | None = None, labels: str | None = None) -> Listed[JobView]:
        return await self._list(self._in_project("jobs", project), JobView, {"labels": labels})

    def watch_jobs(
        self, *, project: str | None = None, labels: str | None = None
    ) -> AsyncGenerator[WatchEvent[JobView], None]:
        return watch(self._http, self._in_project("jobs", project), {"labels": labels}, JobView)

    async def delete_job(self, name: str, *, project: str | None = None, if_match: int | None = None) -> JobView:
        response = await self._http.send("DELETE", self._job(name, project), headers=_condition(if_match))
        return JobView.model_validate_json(response.content)

    async def plan_job(self, spec: Mapping[str, Any], *, project: str | None = None) -> PlanView:
        path = self._job(str(spec["name"]), project) + "/plan"
        return PlanView.model_validate_json((await self._http.send("POST", path, json=dict(spec))).content)

    async def scale_job(
        self, name: str, group: str, count: int, *, project: str | None = None, if_match: int | None = None
    ) -> JobView:
        path, body = self._job(name, project) + "/scale", {"group": group, "count": count}
        response = await self._http.send("POST", path, json=body, headers=_condition(if_match))
        return JobView.model_validate_json(response.content)

    async def explain_job(self, name: str, *, project: str | None = None) -> ExplainView:
        return await self._get(self._job(name, project) + "/explain", ExplainView)

    async def list_versions(self, name: str, *, project: str | None = None) -> Listed[JobVersionView]:
        return await self._list(self._job(name, project) + "/versions", JobVersionView)

    async def get_version(self, name: str, version: int, *, project: str | None = None) -> JobVersionView:
        return await self._get(f"{self._job(name, project)}/versions/{version}", JobVersionView)

    # -- allocations -----------------------------------------------------------------------------------------------

    async def list_allocations(
        self, *, project: str | None = None, job: str | None = None, labels: str | None = None
    ) -> Listed[AllocationView]:
        path = self._in_project("allocations", project)
        return await self._list(path, AllocationView, {"job": job, "labels": labels})

    def watch_allocations(
        self, *, project: str | None = None, job: str | None = None, labels: str | None = None
    ) -> AsyncGenerator[WatchEvent[AllocationView], None]:
        path = self._in_project("allocations", project)
        return watch(self._http, path, {"job": job, "labels": labels}, AllocationView)

    async def get_allocation(self, alloc: str, *, project: str | None = None) -> AllocationView:
        """`alloc` may be an unambiguous beginning of the id."""
        return await self._get(self._allocation(alloc, project), AllocationView)

    async def stop_allocation(self, alloc: str, *, project: str | None = None) -> AllocationView:
        response = await self._http.send("POST", self._allocation(alloc, project) + "/stop")
        return AllocationView.model_validate_json(response.content)

    def logs(
        self,
        alloc: str,
        *,
        project: str | None = None,
        task: str = "",
        follow: bool = False,
        tail: int = -1,
        timestamps: bool = False,
        since_ms: int = 0,
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        """(1 stdout | 2 stderr, data) …"""
        params = {
            "task": task,
            "follow": str(follow).lower(),
            "tail": str(tail),
            "timestamps": str(timestamps).lower(),
            "since_ms": str(since_ms),
        }
        return logs.follow(self._http.url, self._http.token, self._allocation(alloc, project) + "/logs", params)

    # -- nodes -----------------------------------------------------------------------------------------------------

    async def list_nodes(self, *, labels: str | None = None) -> Listed[NodeView]:
        return await self._list("/v1/nodes", NodeView, {"labels": labels})

    def watch_nodes(self, *, labels: str | None = None) -> AsyncGenerator[WatchEvent[NodeView], None]:
        return watch(self._http, "/v1/nodes", {"labels": labels}, NodeView)

    async def get_node(self, node: str) -> NodeView:
        """`node` is an id or a name, here and below."""
        return await self._get(_node(node), NodeView)

    async def patch_node(
        self,
        node: str,
        *,
        cordoned: bool | None = None,
        draining: bool | None = None,
        labels: Mapping[str, str | None] | None = None,
        if_match: int | None = None,
    ) -> NodeView:
        """What is None stays as it is; a label of None is removed."""
        wanted = {"cordoned": cordoned, "draining": draining, "labels": dict(labels) if labels is not None else None}
        body = {name: value for name, value in wanted.items() if value is not None}
        response = await self._http.send("PATCH", _node(node), json=body, headers=_condition(if_match))
        return NodeView.model_validate_json(response.content)

    async def forget_node(self, node: str) -> NodeView:
        return NodeView.model_validate_json((await self._http.send("DELETE", _node(node))).content)

    async def drop_orphans(self, node: str, allocations: Sequence[str]) -> NodeView:
        body = {"allocations": list(allocations)}
        return NodeView.model_validate_json(
            (await self._http.send("POST", _node(node) + "/orphans/drop", json=body)).content
        )

    # -- events, cluster -------------------------------------------------------------------------------------------

    async def list_events(self, *, project: str | None = None, object: str | None = None) -> Listed[EventView]:
        """Of all projects where `project` is None and the token is an administrator's."""
        return await self._list("/v1/events", EventView, {"project": project, "object": object})

    def watch_events(
        self, *, project: str | None = None, object: str | None = None
    ) -> AsyncGenerator[WatchEvent[EventView], None]:
        return watch(self._http, "/v1/events", {"project": project, "object": object}, EventView)

    async def version(self) -> VersionView:
        return await self._get("/v1/version", VersionView)

    async def cluster(self) -> ClusterView:
        return await self._get("/v1/cluster", ClusterView)

    async def accept_restore(self) -> ClusterView:
        response = await self._http.send("POST", "/v1/cluster/accept-restore")
        return ClusterView.model_validate_json(response.content)

    async def job_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = (await self._http.read("/v1/schemas/job")).json()
        return schema

    # -- beneath ---------------------------------------------------------------------------------------------------

    async def _get(self, path: str, model: type[V]) -> V:
        return model.model_validate_json((await self._http.read(path)).content)

    async def _list(self, path: str, model: type[V], params: Params | None = None) -> Listed[V]:
        items: Listed[V] = Listed()
        following: str | None = None
        while True:
            response = await self._http.read(path, {**(params or {}), "next": following})
            page = ListView[model].model_validate_json(response.content)  # type: ignore[valid-type]
            items.extend(page.items)
            items.revision = page.revision
            if (following := page.next) is None:
                return items

    def _in_project(self, kind: str, project: str | None) -> str:
        return f"/v1/projects/{quote(project or self.project, safe='')}/{kind}"

    def _job(self, name: str, project: str | None) -> str:
        return f"{self._in_project('jobs', project)}/{quote(name, safe='')}"

    def _allocation(self, alloc: str, project: str | None) -> str:
        return f"{self._in_project('allocations', project)}/{quote(alloc, safe='')}"


def _node(node: str) -> str:
    return f"/v1/nodes/{quote(node, safe='')}"


def _condition(if_match: int | None) -> dict[str, str]:
    return {"If-Match": f'"{if_match}"'} if if_match is not None else {}
