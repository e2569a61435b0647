"""A build without the orphan grace: what a complete set does not mention goes at once."""

from agent.allocations import Allocations

whole = Allocations.take_set


async def take_set(self, position, assignments, orphan_grace_ms):  # type: ignore[no-untyped-def]
    await whole(self, position, assignments, 1)


Allocations.take_set = take_set  # type: ignore[method-assign]
