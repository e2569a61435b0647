"""What the reconciler needs of the leader election."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from controller.store.protocol import Committed, CreatedAt, Guard, Operation


class Term(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def fence(self) -> CreatedAt: ...

    @property
    def revision(self) -> int: ...


class Leadership(Protocol):
    @property
    def term(self) -> Term | None: ...

    def subscribe(self, callback: Callable[[Term | None], None]) -> object: ...

    async def commit(self, guards: Sequence[Guard], operations: Sequence[Operation]) -> Committed:
        """Adds the fence. Raises NotLeading."""
        ...
