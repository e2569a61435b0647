"""An API of canned answers behind httpx, and views to answer with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from moorage.model.view import (
    AllocationView,
    EventView,
    GroupStatusView,
    JobStatusView,
    JobView,
    NodeView,
    Problem,
    ResourcesView,
    View,
)

JOBS = "/v1/projects/default/jobs"
ALLOCATIONS = "/v1/projects/default/allocations"


class Lines(httpx.AsyncByteStream):
    """What a watch tells, and then nothing more for ever; or, when it `ends`, the connection does."""

    def __init__(self, events: list[dict[str, Any]], ends: bool) -> None:
        self._events = events
        self._ends = ends

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in self._events:
            yield json.dumps(event).encode() + b"\n"
        if not self._ends:
            await asyncio.Event().wait()


@dataclass
class FakeApi:
    """`answers` by "METHOD path"; a list gives one answer after the other and then the last one for ever."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[httpx.Request] = field(default_factory=list)

    def on(self, call: str, *answers: View | Mapping[str, Any] | httpx.Response | Exception | Lines) -> FakeApi:
        self.answers[call] = list(answers)
        return self

    def on_list(self, path: str, views: list[Any], revision: int = 7) -> FakeApi:
        items = [view.model_dump(mode="json") for view in views]
        return self.on(f"GET {path}", {"items": items, "revision": revision, "next": None})

    def on_watch(self, path: str, *events: dict[str, Any], ends: bool = False) -> FakeApi:
        return self.on(f"WATCH {path}", Lines(list(events), ends))

    @property
    def calls(self) -> list[str]:
        return [f"{request.method} {request.url.path}" for request in self.asked]

    def body(self, call: str) -> Any:
        """Of the last request of that kind."""
        return json.loads(next(r for r in reversed(self.asked) if f"{r.method} {r.url.path}" == call).content.decode())

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        watched = request.url.params.get("watch") == "true"
        call = f"{'WATCH' if watched else request.method} {request.url.path}"
        answers = self.answers.get(call)
        if not answers:
            return problem(404, "not_found", f"There is no such thing: {call}.")
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        if isinstance(answer, Lines):
            return httpx.Response(200, stream=answer)
        data = answer.model_dump(mode="json") if isinstance(answer, View) else dict(answer)
        return httpx.Response(200, json=data)


def problem(status: int, code: str, detail: str, hint: str = "", errors: list[Any] | None = None) -> httpx.Response:
    view = Problem(title=detail, status=status, code=code, detail=detail, hint=hint, errors=errors or [])
    headers = {"content-type": "application/problem+json"}
    return httpx.Response(status, content=view.model_dump_json(), headers=headers)


def applied(view: JobView, action: str) -> httpx.Response:
    return httpx.Response(200, content=view.model_dump_json(), headers={"Moor-Action": action})


def put(view: View) -> dict[str, Any]:
    return {"type": "put", "object": view.model_dump(mode="json"), "revision": 1}


def gone(name: str) -> dict[str, Any]:
    return {"type": "delete", "name": name, "revision": 1}


RESET: dict[str, Any] = {"type": "reset", "revision": 1}
SYNCED: dict[str, Any] = {"type": "synced", "revision": 1}
BOOKMARK: dict[str, Any] = {"type": "bookmark", "revision": 1}


def group(name: str = "web", **values: int) -> GroupStatusView:
    counts = {"wanted": 3, "placed": 3, "running": 3, "healthy": 3, "updated": 3, "failed": 0}
    return GroupStatusView(name=name, **{**counts, **values})


def job(name: str = "hello", phase: Any = "running", **values: Any) -> JobView:
    groups = values.pop("groups", [group()])
    status = JobStatusView(
        phase=phase, message=values.pop("message", ""), groups=groups, events=values.pop("events", [])
    )
    shown = {"project": "default", "name": name, "uid": "u-1", "version": 2, "revision": 9}
    return JobView(**{**shown, "created_ms": 1, "changed_ms": 1, "spec": {"groups": {}}, "status": status, **values})


def alloc(id: str = "00000000000000aa", **values: Any) -> AllocationView:
    shown: dict[str, Any] = {
        "id": id,
        "project": "default",
        "job": "hello",
        "job_uid": "u-1",
        "group": "web",
        "index": 0,
        "attempt": 1,
        "name": "hello/web/0",
        "node": "n-1",
        "node_name": "h1",
        "version": 2,
        "phase": "running",
        "health": "healthy",
        "desired": "run",
        "created_ms": 1,
        "revision": 5,
    }
    return AllocationView(**{**shown, **values})


def node(name: str = "h1", **values: Any) -> NodeView:
    shown: dict[str, Any] = {
        "id": f"id-{name}",
        "name": name,
        "phase": "ready",
        "schedulable": True,
        "cordoned": False,
        "draining": False,
        "capacity": ResourcesView(cpu_millis=4000, memory_bytes=8 << 30, disk_bytes=100 << 30),
        "allocated": ResourcesView(cpu_millis=750, memory_bytes=192 << 20, disk_bytes=0),
        "allocations": 3,
        "revision": 4,
    }
    return NodeView(**{**shown, **values})


def event(message: str = "placed on h1", **values: Any) -> EventView:
    return EventView(**{"at_ms": 1, "kind": "placed", "message": message, "object": "job/hello", **values})
