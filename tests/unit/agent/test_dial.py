"""Knocking at a controller's door."""

from __future__ import annotations

import asyncio
import socket

import pytest

from agent.dial import knock


@pytest.mark.parametrize(("host", "written"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
async def test_somebody_who_listens_is_found_and_one_who_went_is_missed(host: str, written: str) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), host, 0)
    port = server.sockets[0].getsockname()[1]
    await knock(f"{written}:{port}", 5)
    server.close()
    await server.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await knock(f"{written}:{port}", 5)


async def test_a_host_that_does_not_answer_is_not_waited_for_long() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = f"127.0.0.1:{full.getsockname()[1]}"
        waiting = [socket.create_connection(full.getsockname()) for _ in range(1)]
        with pytest.raises(TimeoutError):
            for _ in range(3):
                await knock(address, 0.1)
        for each in waiting:
            each.close()
