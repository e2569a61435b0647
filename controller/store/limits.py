"""What etcd refuses in a transaction by default; both stores refuse it alike, before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence

from controller.store.protocol import MAX_OPERATIONS, Guard, Operation, Put

MAX_REQUEST_BYTES = 1536 * 1024


def check_transaction(guards: Sequence[Guard], operations: Sequence[Operation]) -> None:
    """Raises ValueError for a transaction that etcd would refuse whatever the store holds."""
    if len(guards) > MAX_OPERATIONS or len(operations) > MAX_OPERATIONS:
        raise ValueError(
            f"a transaction holds at most {MAX_OPERATIONS} guards and {MAX_OPERATIONS} operations, "
            f"not {len(guards)} and {len(operations)}"
        )
    if len({operation.key for operation in operations}) < len(operations):
        raise ValueError("a transaction writes each key at most once")
    size = sum(len(operation.value) + len(operation.key) for operation in operations if isinstance(operation, Put))
    if size > MAX_REQUEST_BYTES - 64 * 1024:
        raise ValueError(f"a transaction of {size} bytes is larger than the store takes ({MAX_REQUEST_BYTES})")
