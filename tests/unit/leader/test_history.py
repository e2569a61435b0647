"""judge(): which positions of agents contradict a store's history."""

from __future__ import annotations

import pytest

from controller.leader import judge
from moorage.wire.session_pb2 import Position
from moorage.wire.store_pb2 import Cluster, Term

STORE_REVISION = 500
CLUSTER = Cluster(
    id="c",
    generation=2,
    terms=[Term(id="t1", revision=100), Term(id="t2", revision=200), Term(id="t3", revision=300)],
)


@pytest.mark.parametrize(
    ("generation", "revision", "term", "complaint"),
    [
        pytest.param(0, 0, "", "", id="an agent that has seen nothing"),
        pytest.param(2, 450, "t3", "", id="within the present term"),
        pytest.param(2, 500, "t3", "", id="at the store's revision"),
        pytest.param(2, 150, "t1", "", id="within an earlier term"),
        pytest.param(2, 199, "t1", "", id="the last revision of an earlier term"),
        pytest.param(2, 50, "t0", "", id="a term so old that it is no longer listed"),
        pytest.param(1, 9999, "unknown", "", id="an earlier generation: accepted as restored"),
        pytest.param(3, 1, "t1", "generation 3", id="a later generation"),
        pytest.param(2, 501, "t3", "is at 500", id="beyond the store"),
        pytest.param(2, 200, "t1", "leadership t1", id="the older term went on where another one began here"),
        pytest.param(2, 299, "t1", "leadership t1", id="the older term went on, the store has grown past it since"),
        pytest.param(2, 450, "t2", "ended before revision 300", id="a middle term went on"),
        pytest.param(2, 450, "t9", "never had", id="a term that this store never had"),
        pytest.param(2, 100, "t9", "never had", id="an unknown term as old as the oldest that is kept"),
    ],
)
def test_a_position_is_judged_by_the_terms(generation: int, revision: int, term: str, complaint: str) -> None:
    seen = Position(generation=generation, epoch=1, revision=revision, term=term)
    verdict = judge(CLUSTER, [], STORE_REVISION, seen)
    assert complaint in verdict
    assert bool(verdict) == bool(complaint)


ARRIVALS = [("a1", 90), ("a2", 290), ("a3", 310)]


@pytest.mark.parametrize(
    ("revision", "arrival", "believed"),
    [
        pytest.param(305, "a2", True, id="the newest arrival by then"),
        pytest.param(310, "a3", True, id="at the very arrival"),
        pytest.param(309, "a2", True, id="just before the next one"),
        pytest.param(310, "a2", False, id="another controller arrived here at that revision"),
        pytest.param(400, "a2", False, id="and what was seen lies beyond it"),
        pytest.param(305, "a1", False, id="two have arrived since"),
        pytest.param(305, "a9", False, id="an arrival that this store never had"),
        pytest.param(350, "", True, id="said by a controller that marked no arrivals"),
        pytest.param(80, "a0", True, id="an arrival so old that its mark was removed"),
    ],
)
def test_a_position_is_judged_by_the_arrivals(revision: int, arrival: str, believed: bool) -> None:
    term = "t3" if revision >= 300 else "t0"
    seen = Position(generation=2, epoch=1, revision=revision, term=term, arrival=arrival)
    assert (judge(CLUSTER, ARRIVALS, STORE_REVISION, seen) == "") == believed


def test_a_store_without_any_term_has_had_no_leadership_to_speak_of() -> None:
    assert "never had" in judge(Cluster(generation=1), [], 10, Position(generation=1, revision=5, term="t1"))
