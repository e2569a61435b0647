"""What all who write events share: ids in order of time, and the principal of what nobody asked for."""

from __future__ import annotations

CONTROLLER = "controller"
"""A node was lost, a task failed, a restore is suspected."""


def event_id(at_ms: int, salt: str) -> str:
    """`salt` tells events of one instant apart: eight characters of it count."""
    return f"{at_ms:013d}-{salt[:8]}"
