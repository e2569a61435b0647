"""What the dispatcher asks of leadership: whether this controller leads, writes under its fence, who else may lead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from controller.leader import LeadershipTerm
from controller.store.protocol import Committed, Guard, Operation
from moorage.wire.store_pb2 import LeaderInfo


class Leadership(Protocol):
    @property
    def term(self) -> LeadershipTerm | None: ...

    def is_leading(self) -> bool: ...

    def known(self) -> LeaderInfo | None:
        """Whoever leads now, if that is known."""
        ...

    def subscribe(self, callback: Callable[[LeadershipTerm | None], None]) -> object: ...

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Operation]) -> Committed:
        """Raises NotLeading, StoreError."""
        ...
