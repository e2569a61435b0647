"""Where an allocation's containers live: network namespace and parent cgroup, made before the first process.

Both are named after the allocation, so that nothing about them needs a journal: what is there already is used again.
The real ones are in `agent.kernel`, the ones that only remember in `agent.fakes`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection
from typing import Protocol

from agent.drivers.protocol import Attachment
from moorage.wire.spec_pb2 import NetworkMode


class Attachments(Protocol):
    async def attach(self, alloc: str, network: NetworkMode.ValueType) -> Attachment:
        """May be repeated. Raises EngineAway where only the engine knows how it is done."""
        ...

    async def detach(self, alloc: str) -> None:
        """Give everything back; what is gone already is no error."""
        ...

    def cgroup_parent(self, alloc: str) -> str:
        """Of an allocation that has been attached."""
        ...

    async def held(self) -> list[str]:
        """Allocations that have something here."""
        ...

    async def socket(self, alloc: str, network: NetworkMode.ValueType) -> socket.socket:
        """A non-blocking TCP socket where the allocation lives."""
        ...

    def close(self) -> None: ...


async def remove_leftovers(attachments: Attachments, known: Collection[str]) -> None:
    """What a crash between the end of an allocation and the return of its namespace has left.

    `known` may grow while the list is made: what has come meanwhile is not touched.
    """
    held = await attachments.held()
    await asyncio.gather(*(attachments.detach(alloc) for alloc in held if alloc not in known))


def plain_socket() -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.setblocking(False)
    return opened
