"""Whether anybody listens at an address, asked before a channel is made to it.

While a controller is away, all of its agents dial again and again. A gRPC channel that comes to nothing costs ten times
as much as a plain connection, and would take the very machine's time that a controller needs to come back.
"""

from __future__ import annotations

import asyncio


async def knock(address: str, timeout_s: float) -> None:
    """Returns where somebody answers at HOST:PORT. Raises OSError, TimeoutError."""
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(timeout_s):
        _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.close()
