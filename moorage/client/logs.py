"""Logs over a WebSocket: messages of a channel byte and data; while nobody reads here, nothing is fetched there."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import urlencode

from moorage.client.errors import ApiProblem, Unreachable, refusal
from moorage.client.transport import reason
from moorage.model.view import Problem

STDOUT, STDERR = 1, 2
MAX_MESSAGE = 1 << 20


async def follow(url: str, token: str, path: str, params: dict[str, str]) -> AsyncGenerator[tuple[int, bytes], None]:
    """(channel, data) until the end. Raises ApiProblem, Unreachable."""
    there = url
    while True:
        try:
            async with aclosing(_once(there, token, path, params)) as items:
                async for item in items:
                    yield item
            return
        except ApiProblem as error:
            leader = error.leader_url.rstrip("/")
            if not leader or there != url or leader == url.rstrip("/"):
                raise
            there = leader


async def _once(url: str, token: str, path: str, params: dict[str, str]) -> AsyncGenerator[tuple[int, bytes], None]:
    # Imported here: most commands never read logs, and this takes 50 ms.
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosedError, InvalidHandshake, InvalidStatus

    address = f"{url.rstrip('/').replace('http', 'ws', 1)}{path}?{urlencode(params)}"
    headers = {"Authorization": f"Bearer {token}"}
    try:
        # Uncompressed: the controller's processor is scarcer than the way to it.
        bounds: dict[str, Any] = {"max_size": MAX_MESSAGE, "max_queue": 4, "compression": None, "proxy": None}
        bounds["close_timeout"] = 1  # what is under way to a reader who left is of no use
        connection = connect(address, additional_headers=headers, **bounds)
        async with connection as socket:
            async for message in socket:
                if isinstance(message, str):
                    raise ApiProblem(Problem.model_validate(json.loads(message)["error"]))
                yield message[0], message[1:]
    except InvalidStatus as error:
        response = error.response
        found = {name.lower(): value for name, value in response.headers.raw_items()}
        raise refusal(response.status_code, found, bytes(response.body or b"")) from None
    except (OSError, TimeoutError, ConnectionClosedError, InvalidHandshake) as error:
        raise Unreachable(url, reason(error)) from error
