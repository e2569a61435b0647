"""What is answered with "no"."""

from __future__ import annotations

import pytest

from agent.guards import may_start, refuse_cluster, refuse_position
from moorage.wire.session_pb2 import Position


def at(generation: int, epoch: int, revision: int) -> Position:
    return Position(generation=generation, epoch=epoch, revision=revision)


@pytest.mark.parametrize(
    ("known", "may"),
    [
        ({2: False}, True),
        ({1: True, 2: False}, True),
        ({1: False, 2: False}, False),
        ({0: True, 1: False, 2: False}, False),
        ({2: False, 3: False}, False),
        ({2: False, 3: True}, False),
    ],
)
def test_attempt_2_starts_only_after_all_older_ones_and_never_after_a_newer(known: dict[int, bool], may: bool) -> None:
    assert may_start(2, known) is may


def test_a_node_keeps_to_its_cluster() -> None:
    assert refuse_cluster("", "one") is None
    assert refuse_cluster("one", "one") is None
    refusal = refuse_cluster("one", "two")
    assert refusal is not None and refusal.code == "wrong_cluster" and "one" in refusal.reason


@pytest.mark.parametrize(
    ("offered", "code"),
    [
        (at(2, 5, 100), None),
        (at(2, 6, 101), None),
        (at(3, 1, 1), None),  # a restore that a person accepted
        (at(1, 9, 999), "old_generation"),
        (at(2, 4, 999), "old_epoch"),
        (at(2, 6, 99), "old_revision"),  # each session raises the epoch: alone it proves nothing
    ],
)
def test_a_position_may_not_fall(offered: Position, code: str | None) -> None:
    refusal = refuse_position(at(2, 5, 100), offered)
    assert (refusal.code if refusal else None) == code


def test_a_node_without_a_past_takes_any_position() -> None:
    assert refuse_position(Position(), at(1, 1, 1)) is None
