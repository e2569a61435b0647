"""The few questions that must be answered with "no" rather than by doubling or stopping the world.

They are the agent's own: the controller asks itself similar ones, and neither side relies on the other's answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from moorage.wire.session_pb2 import Position


def may_start(attempt: int, known_attempts: Mapping[int, bool]) -> bool:
    """Whether this attempt at a slot may start on this node.

    `known_attempts`: every attempt at that slot known here -> whether it has ended and nothing of it is left. An
    attempt waits for all older ones to be gone, and never starts once a newer one is known.
    """
    return all(other == attempt or (other < attempt and gone) for other, gone in known_attempts.items())


@dataclass(frozen=True, slots=True)
class Refusal:
    """`code` is for programs and permanent, `reason` for people."""

    code: str
    reason: str


def refuse_cluster(known: str, offered: str) -> Refusal | None:
    """A node belongs to the first cluster it joined."""
    if not known or known == offered:
        return None
    return Refusal("wrong_cluster", f"this node belongs to cluster {known}, the controller to {offered}")


def refuse_position(seen: Position, offered: Position) -> Refusal | None:
    """Whether acting on `offered` would go back in the store's history.

    Within a generation neither epoch nor revision may fall: every session raises the epoch, so a backup that is
    dialled often enough would overtake an epoch that is looked at alone. A higher generation was accepted by a person.
    """
    if offered.generation != seen.generation:
        if offered.generation > seen.generation:
            return None
        return Refusal("old_generation", f"generation {offered.generation} is older than {seen.generation}")
    if offered.epoch < seen.epoch:
        return Refusal("old_epoch", f"session epoch {offered.epoch} is older than {seen.epoch}, seen already")
    if offered.revision < seen.revision:
        return Refusal(
            "old_revision",
            f"revision {offered.revision} is older than {seen.revision}, acted on already: an old backup, or a"
            " controller that lags behind its store",
        )
    return None
