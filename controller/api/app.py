"""The API as one ASGI application: observer, wall, routes; every failure a problem.

Writes are guarded transactions on the store, reads come from the cache, and nothing is scheduled inside a request.
Every controller serves it; only what needs sessions with agents (logs, orphans, an accepted restore) needs the leader.
"""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from controller.api import allocations, cluster, events, health, jobs, logs, nodes
from controller.api.auth import Wall
from controller.api.deps import ApiDeps
from controller.api.observe import Observer
from controller.api.problems import INTERNAL_ERROR, INVALID_REQUEST, METHOD_NOT_ALLOWED, NOT_FOUND, Refused, invalid
from moorage.model.view import ProblemError

log = structlog.get_logger()

NOUNS = (jobs, allocations, logs, nodes, events, cluster, health)

DESCRIPTION = """\
Moorage's API. All calls need `Authorization: Bearer TOKEN`. Errors are RFC 9457 problem details whose `code` never
changes its meaning. An object's revision is its ETag; `If-Match` makes a write depend on it. Lists come in pages, and
with `watch=1` as a stream of lines: a reset, a put of each object, `synced`, then changes.
"""


def create_app(deps: ApiDeps) -> FastAPI:
    app = FastAPI(
        title="Moorage",
        version=cluster.release(),
        description=DESCRIPTION,
        openapi_url=None,  # served behind the wall, at /v1/openapi.json
        redirect_slashes=False,
    )
    app.state.deps = deps
    for noun in NOUNS:
        app.include_router(noun.router)
    app.add_middleware(Wall, deps=deps)
    app.add_middleware(Observer)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(WebSocketRequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _failed)
    return app


async def _refused(connection: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, Refused)
    response = error.response()
    if isinstance(connection, WebSocket):  # still in its handshake: later refusals are messages
        await connection.send_denial_response(response)
    return response


async def _invalid(connection: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError | WebSocketRequestValidationError)
    faults = list(dict.fromkeys(_fault(item["loc"], item["msg"]) for item in error.errors()))
    detail = "; ".join(f"{fault.path}: {fault.message}" for fault in faults)
    return await _refused(connection, Refused(INVALID_REQUEST, detail, errors=faults))


def _fault(location: tuple[str | int, ...], message: str) -> ProblemError:
    """("path", "name") -> name: people know the name, wherever it stood."""
    path = ".".join(str(part) for part in location[1:]) or str(location[0])
    if "pattern" in message and location[0] == "path":
        return ProblemError(path=path, message="is not a valid name", suggestion="a-z, 0-9 and - inside, at most 63")
    return ProblemError(path=path, message=message)


async def _http(connection: HTTPConnection, error: Exception) -> Response:
    """What routing refuses: no such path, no such method."""
    assert isinstance(error, HTTPException)
    path = connection.scope["path"]
    if error.status_code == 405:
        allowed = ", ".join(_methods(path))
        headers = {"Allow": allowed}
        refused = Refused(METHOD_NOT_ALLOWED, f"{path} takes {allowed}.", headers=headers)
    elif b"%2f" in connection.scope.get("raw_path", b"").lower():
        refused = invalid("name", "holds a slash, which no name may", "a-z, 0-9 and - inside, at most 63")
    else:
        refused = Refused(NOT_FOUND, f"There is no route {path}.", hint="All routes are in /v1/openapi.json.")
    return await _refused(connection, refused)


def _methods(path: str) -> list[str]:
    routes = [route for noun in NOUNS for route in noun.router.routes if isinstance(route, APIRoute)]
    return sorted({method for route in routes if route.path_regex.match(path) for method in route.methods or ()})


async def _failed(connection: HTTPConnection, error: Exception) -> Response:
    log.error("request failed", path=connection.scope["path"], error=repr(error), exc_info=error)
    return Refused(INTERNAL_ERROR, "The controller failed at this request; its log says more.").response()
