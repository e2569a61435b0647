"""WS /v1/projects/{project}/allocations/{id}/logs: what a task says, from its node to the reader.

A binary message is a channel byte (1 stdout, 2 stderr) and data; a text message is `{"error": Problem}`, after which
nothing comes. Each hop waits for the next: while the reader does not read, nothing is fetched from the agent. What is
wrong from the start (no such allocation, the node lost) is the answer to the handshake.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Query, WebSocket, WebSocketDisconnect

from controller.api import allocations
from controller.api.deps import DNS_LABEL, ApiDeps, may_use, require_leading
from controller.api.problems import FORBIDDEN, LOGS_FAILED, NODE_UNREACHABLE, Refused, invalid
from controller.api.tokens import Peer
from controller.dispatcher.attach import AttachFailed
from moorage.wire import store_pb2
from moorage.wire.session_pb2 import AttachFrame, LogsRequest

if TYPE_CHECKING:
    from controller.cache.entries import AllocEntry

router = APIRouter()
FRAME = 64 * 1024
ERROR_CHANNEL = 3


@router.websocket(allocations.ALLOCATIONS + "/{id}/logs")
async def logs(
    socket: WebSocket,
    project: Annotated[str, Path(pattern=DNS_LABEL)],
    alloc_id: Annotated[str, Path(alias="id", pattern="^[0-9a-f]{1,16}$")],
    task: Annotated[str, Query(max_length=63)] = "",
    follow: bool = False,
    tail: Annotated[int, Query(ge=-1, le=2**31 - 1)] = -1,
    timestamps: bool = False,
    since_ms: Annotated[int, Query(ge=0, le=2**62)] = 0,
) -> None:
    deps: ApiDeps = socket.app.state.deps
    entry = await _allowed(deps, socket.scope["peer"], project, alloc_id)
    request = LogsRequest(
        alloc=entry.id,
        task=_task(deps, entry, task),
        follow=follow,
        tail=tail,
        timestamps=timestamps,
        since_ms=since_ms,
    )
    frames = _opened(deps, entry, request)
    await socket.accept()
    async with asyncio.TaskGroup() as group:
        pump = group.create_task(_pump(socket, frames), name="logs")
        reader = group.create_task(_until_gone(socket), name="logs-reader")
        await asyncio.wait((pump, reader), return_when=asyncio.FIRST_COMPLETED)
        pump.cancel()
        reader.cancel()


async def _allowed(deps: ApiDeps, peer: Peer, project: str, alloc_id: str) -> AllocEntry:
    """Raises Refused, which becomes the answer to the handshake."""
    if not may_use(peer, project):
        raise Refused(FORBIDDEN, f"This token is for project {peer.project!r}, not for {project!r}.")
    entry = await allocations.find(deps, project, alloc_id)
    require_leading(deps)
    node = deps.cache.node(entry.node)
    if node is None or node.state.phase != store_pb2.NodeState.READY:
        name = node.name if node is not None else entry.node
        raise Refused(NODE_UNREACHABLE, f"The logs are on node {name!r}, which is lost.")
    return entry


def _task(deps: ApiDeps, entry: AllocEntry, task: str) -> str:
    """The asked one; of a group with one task its name may be left out."""
    spec = deps.cache.group_spec(entry.job_uid, entry.version, entry.group)
    names = [one.name for one in spec.tasks] if spec is not None else []
    if task in names or (task and spec is None):
        return task
    if not task and len(names) == 1:
        return names[0]
    raise invalid("task", f"there is no task {task!r}" if task else "is needed", f"one of: {', '.join(names)}")


def _opened(deps: ApiDeps, entry: AllocEntry, request: LogsRequest) -> AsyncGenerator[AttachFrame, None]:
    try:
        return deps.dispatcher.open_logs(entry.node, request)
    except AttachFailed as error:
        raise Refused(NODE_UNREACHABLE, str(error)) from error


async def _pump(socket: WebSocket, frames: AsyncGenerator[AttachFrame, None]) -> None:
    try:
        async with aclosing(frames):
            async for frame in frames:
                for message in _messages(frame):
                    await socket.send_bytes(message)
                if frame.error or frame.channel == ERROR_CHANNEL:
                    raise AttachFailed(frame.error or frame.data.decode(errors="replace"))
                if frame.end:
                    break
    except WebSocketDisconnect:
        return
    except AttachFailed as error:
        await _complain(socket, Refused(LOGS_FAILED, str(error)))
    await socket.close()


def _messages(frame: AttachFrame) -> Iterator[bytes]:
    if frame.channel == ERROR_CHANNEL:
        return
    channel = bytes((frame.channel,))
    for start in range(0, len(frame.data), FRAME):
        yield channel + frame.data[start : start + FRAME]


async def _complain(socket: WebSocket, refused: Refused) -> None:
    await socket.send_text(f'{{"error":{refused.problem().model_dump_json()}}}')


async def _until_gone(socket: WebSocket) -> None:
    """Readers have nothing to say; what they send is dropped."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
