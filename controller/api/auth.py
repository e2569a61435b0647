"""No call without a token: a wall in front of every route, so that none can be forgotten.

Health and metrics stay open for load balancers and Prometheus; they tell nothing of any tenant.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from controller.api.deps import ApiDeps
from controller.api.problems import FORBIDDEN, NOT_SYNCED, UNAUTHENTICATED, Refused
from controller.api.tokens import Peer, authenticate

OPEN = frozenset(("/healthz", "/readyz", "/metrics"))
HINT = "Send `Authorization: Bearer TOKEN`. `./dev up` writes a context with a token; `moor login` makes one."


class Wall:
    """ASGI middleware: puts the caller into the scope as `peer`, or answers 401, 403, 503."""

    def __init__(self, app: ASGIApp, deps: ApiDeps) -> None:
        self._app = app
        self._deps = deps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        try:
            scope["peer"] = self._admit(Headers(scope=scope).get("authorization", ""))
        except Refused as refused:
            await refuse(refused, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admit(self, header: str) -> Peer:
        scheme, _, text = header.partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise _unauthenticated("This call needs a token.")
        if not self._deps.cache.synced.is_set():
            raise Refused(NOT_SYNCED, "The controller is still reading the store, and knows no token yet.")
        peer = authenticate(self._deps.cache, text.strip())
        if peer is None:
            raise _unauthenticated("The token is not valid (any more).")
        if peer.role == "agent":
            raise Refused(FORBIDDEN, "An agent's token is for agents' sessions only.", hint="Use a token of a person.")
        return peer


async def refuse(refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
    """The problem as the answer to a request or to a WebSocket's handshake."""
    response = refused.response()
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(response)
    else:
        await response(scope, receive, send)


def _unauthenticated(detail: str) -> Refused:
    return Refused(UNAUTHENTICATED, detail, hint=HINT, headers={"WWW-Authenticate": 'Bearer realm="moorage"'})
