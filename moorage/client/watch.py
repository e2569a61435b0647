"""Following a list: lines of the API's watch as events, across reconnects.

A new connection begins with a `reset`, after which everything is told again: whoever keeps a copy drops it then. The
first connection must succeed; later ones are tried for ever, since whoever watches wants to see the controller back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar, cast

from moorage.client.errors import ApiProblem, Unreachable
from moorage.client.transport import Params, Transport
from moorage.kit.backoff import Jittered
from moorage.model.view import View, WatchEvent

V = TypeVar("V", bound=View)

SILENCE_S = 35.0
"""The API sends at least a bookmark every ten seconds."""


async def watch(transport: Transport, path: str, params: Params, model: type[V]) -> AsyncGenerator[WatchEvent[V], None]:
    backoff = Jittered(transport.rng, base_s=0.2, cap_s=5.0)
    connected = False
    while True:
        try:
            async with aclosing(_once(transport, path, params, model)) as events:
                async for event in events:
                    connected = True
                    backoff.reset()
                    yield event
        except (Unreachable, ApiProblem) as error:
            if not connected or (isinstance(error, ApiProblem) and error.problem.status < 500):
                raise
        await asyncio.sleep(backoff.next_s())


async def _once(transport: Transport, path: str, params: Params, model: type[V]) -> AsyncGenerator[WatchEvent[V], None]:
    shape = cast(Any, WatchEvent)[model]
    async with transport.lines(path, {**params, "watch": True}, SILENCE_S) as lines:
        async for line in lines:
            yield shape.model_validate_json(line)
