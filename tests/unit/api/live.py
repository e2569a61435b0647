"""The app behind a real HTTP server on loopback: streams and WebSockets need one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import uvicorn

from moorage.client import Client
from tests.unit.api.world import FAST, World, world


class Server(uvicorn.Server):
    """Leaves the signals to the test runner."""

    def capture_signals(self) -> Any:
        return nullcontext()


async def until(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something that tells nobody when it happens."""
    for _ in range(int(seconds * 100)):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {seconds} s")


@asynccontextmanager
async def served(app: Any, port: int = 0) -> AsyncIterator[str]:
    config = uvicorn.Config(
        app, "127.0.0.1", port, log_config=None, lifespan="off", ws="websockets-sansio", timeout_graceful_shutdown=1
    )
    server = Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def live(settings: Any = FAST) -> AsyncIterator[tuple[World, Client]]:
    async with world(settings) as w, served(w.app) as url, Client(url, w.admin) as client:
        yield w, client
