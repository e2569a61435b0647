"""Who may hold a session, as a table of situations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from controller.cache import NodeEntry
from controller.dispatcher.admission import Admitted, Situation, Suspected, Verdict, admit
from controller.leader import judge
from moorage.wire.session_pb2 import Hello, Position, Redirect, Refused
from moorage.wire.store_pb2 import Cluster, NodeState, Term


@dataclass(frozen=True)
class Peer:
    principal: str = "agents"
    role: str = "agent"


CLUSTER = Cluster(
    id="c",
    generation=2,
    terms=[Term(id="t1", revision=10, controller="a"), Term(id="t2", revision=50, controller="a")],
)
NODE = NodeEntry("n1", state=NodeState(epoch=4), state_revision=60)
LEADS = Situation(
    leading=True,
    caught_up=True,
    leader_address="",
    cluster=CLUSTER,
    revision=100,
    node=NODE,
    arrivals=[("a1", 9), ("a2", 49)],
    went_back="",
)


def hello(generation: int = 2, epoch: int = 4, revision: int = 90, term: str = "t2", arrival: str = "") -> Hello:
    seen = Position(generation=generation, epoch=epoch, revision=revision, term=term, arrival=arrival)
    return Hello(cluster_id="c", node_id="n1", protocol=1, seen=seen)


def decide(said: Hello, situation: Situation = LEADS, peer: Peer | None = Peer()) -> Verdict:
    return admit(said, peer, situation, judge)


def test_what_agrees_with_the_store_is_admitted_under_the_next_epoch() -> None:
    assert decide(hello()) == Admitted(5)


def test_a_follower_says_where_the_leader_is_and_judges_nothing() -> None:
    follower = replace(LEADS, leading=False, caught_up=False, leader_address="10.0.0.2:7071", revision=1)
    verdict = decide(hello(), follower, peer=None)
    assert isinstance(verdict, Redirect) and verdict.address == "10.0.0.2:7071"


def test_a_leader_whose_cache_is_behind_says_try_again() -> None:
    verdict = decide(hello(), replace(LEADS, caught_up=False, revision=1))
    assert isinstance(verdict, Redirect) and verdict.address == "" and "catching up" in verdict.reason


@pytest.mark.parametrize(
    ("generation", "epoch", "revision", "term", "why"),
    [
        (3, 1, 1, "t9", "generation 3"),
        (2, 5, 90, "t2", "session 5"),
        (2, 4, 101, "t2", "revision 101"),
        (2, 4, 60, "t1", "ended before revision 50"),
        (2, 4, 60, "t9", "never had"),
    ],
)
def test_what_contradicts_the_stores_history_is_an_old_backup(
    generation: int, epoch: int, revision: int, term: str, why: str
) -> None:
    verdict = decide(hello(generation, epoch, revision, term))
    assert isinstance(verdict, Suspected) and why in verdict.reason


@pytest.mark.parametrize(
    ("generation", "epoch", "revision", "term", "next_epoch"),
    [
        (2, 4, 48, "t1", 5),  # the last that the predecessor can have handed out
        (1, 9, 999, "t0", 5),  # of a generation that a person gave up
        (0, 0, 0, "", 5),  # lost its journal
        (2, 3, 20, "t1", 5),
    ],
)
def test_what_can_have_been_seen_is_admitted(
    generation: int, epoch: int, revision: int, term: str, next_epoch: int
) -> None:
    assert decide(hello(generation, epoch, revision, term)) == Admitted(next_epoch)


def test_what_was_handed_out_past_the_arrival_of_a_controller_by_one_that_did_not_see_it_is_an_old_backup() -> None:
    assert decide(hello(2, 4, 48, "t1", "a1")) == Admitted(5)
    verdict = decide(hello(2, 4, 49, "t1", "a1"))
    assert isinstance(verdict, Suspected) and "a controller arrived at revision 49" in verdict.reason


def test_a_history_that_was_seen_to_go_back_is_trusted_by_nobody() -> None:
    verdict = decide(hello(0, 0, 0, ""), replace(LEADS, went_back="the store went back from revision 9 to 5"))
    assert isinstance(verdict, Suspected) and "from revision 9 to 5" in verdict.reason


def test_a_node_that_is_unknown_gets_an_epoch_above_what_it_has_seen() -> None:
    assert decide(hello(epoch=7), replace(LEADS, node=None)) == Admitted(8)


def test_nothing_is_judged_for_somebody_without_identity() -> None:
    for peer in (None, Peer(role="admin")):
        verdict = decide(hello(revision=10_000), LEADS, peer)
        assert isinstance(verdict, Refused) and verdict.code == "unauthenticated"


def test_while_a_restore_is_suspected_all_are_refused() -> None:
    cluster = Cluster()
    cluster.CopyFrom(CLUSTER)
    cluster.restore_suspected = "node n7 has seen more"
    verdict = decide(hello(), replace(LEADS, cluster=cluster))
    assert isinstance(verdict, Refused) and verdict.code == "restore_suspected" and "n7" in verdict.reason
