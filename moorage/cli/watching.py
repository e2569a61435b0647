"""From the events of a watch to the things themselves: a copy that is complete whenever it is handed out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from moorage.model.view import View, WatchEvent

V = TypeVar("V", bound="View")


async def states(
    events: AsyncGenerator[WatchEvent[V], None], key: Callable[[V], str]
) -> AsyncGenerator[Mapping[str, V], None]:
    """All objects by key, from the first complete set on, each time that something changed.

    After a reset nothing is handed out until the set is complete again. The mapping is the same one each time. Closes
    `events` with itself.
    """
    objects: dict[str, V] = {}
    complete = False
    async with aclosing(events):
        async for event in events:
            if event.type == "reset":
                objects, complete = {}, False
            elif event.type == "put" and event.object is not None:
                objects[key(event.object)] = event.object
            elif event.type == "delete":
                objects.pop(event.name, None)
            elif event.type == "synced":
                complete = True
            if complete and event.type != "bookmark":
                yield objects
