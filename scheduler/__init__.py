"""Placement as pure functions over NumPy columns: no I/O, no asyncio, no clock."""

from scheduler.explain import explain
from scheduler.place import place
from scheduler.snapshot import Snapshot
from scheduler.types import Affinity, Constraint, NodeVerdict, Placement, Plan, Rejection, Request, Spread

__all__ = [
    "Affinity",
    "Constraint",
    "NodeVerdict",
    "Placement",
    "Plan",
    "Rejection",
    "Request",
    "Snapshot",
    "Spread",
    "explain",
    "place",
]
