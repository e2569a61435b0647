"""What the API says about itself: Prometheus metrics by route template, and an access log at debug level.

Pure ASGI: a watch stream costs nothing per line here.
"""

from __future__ import annotations

import time
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moorage.kit.telemetry import LATENCY_BUCKETS

log = structlog.get_logger()

REQUESTS = Counter("moor_api_requests_total", "Answered requests", ("route", "method", "status"))
LATENCY = Histogram(
    "moor_api_latency_seconds",
    "From the request's head to the first byte of the answer",
    ("route", "method"),
    buckets=LATENCY_BUCKETS,
)
IN_FLIGHT = Gauge("moor_api_in_flight", "Requests being answered, watches and logs included")

NO_ROUTE = "none"
METHODS = frozenset(("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"))


class Observer:
    """ASGI middleware, the outermost: it sees refusals of all others."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        seen = _Seen(scope, send)
        with IN_FLIGHT.track_inprogress():
            try:
                await self._app(scope, receive, seen.send)
            finally:
                seen.record()


class _Seen:
    """One request: when its answer began, and with which status."""

    __slots__ = ("_began", "_first", "_forward", "_scope", "_status")

    def __init__(self, scope: Scope, forward: Send) -> None:
        self._scope = scope
        self._forward = forward
        self._began = time.perf_counter()
        self._first: float | None = None
        self._status = 500

    async def send(self, message: Message) -> None:
        if self._first is None:
            self._first = time.perf_counter()
            self._status = 101 if message["type"] == "websocket.accept" else message.get("status", 500)
        await self._forward(message)

    def record(self) -> None:
        route = getattr(self._scope.get("route"), "path", NO_ROUTE)
        given: str = self._scope.get("method", "WS")
        method = given if given in METHODS or given == "WS" else "other"
        seconds = (self._first or time.perf_counter()) - self._began
        REQUESTS.labels(route, method, str(self._status)).inc()
        LATENCY.labels(route, method).observe(seconds)
        peer: Any = self._scope.get("peer")
        log.debug(
            "request",
            method=given,
            path=self._scope["path"],
            status=self._status,
            ms=round(seconds * 1000, 2),
            principal=getattr(peer, "principal", ""),
        )
