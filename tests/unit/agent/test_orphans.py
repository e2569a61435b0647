"""What a set means for what is known: absence is not stop."""

from __future__ import annotations

from agent.desired import Circumstances, changes_at_ms, desired
from agent.journal import Row
from agent.orphans import Difference, merge, of_delta, of_set
from agent.state import Stage, State
from moorage.wire.spec_pb2 import Disconnect
from tests.unit.agent.build import NOW, assignment, group


def rows(*found: Row) -> dict[str, Row]:
    return {row.assignment.alloc: row for row in found}


def test_what_is_new_and_what_is_unchanged() -> None:
    known = Row(assignment(0))
    assert of_set(rows(known), [assignment(0), assignment(1)]) == Difference(new=[assignment(1)])


def test_what_is_not_mentioned_becomes_an_orphan_once() -> None:
    missed, orphan = Row(assignment(0)), Row(assignment(1), orphan_expires_ms=NOW)
    assert of_set(rows(missed, orphan), []) == Difference(orphaned=[missed])


def test_what_has_ended_and_is_not_mentioned_is_forgotten() -> None:
    over = Row(assignment(0), State(Stage.GONE))
    assert of_set(rows(over), []) == Difference(forgotten=[over])


def test_an_orphan_that_is_mentioned_is_one_no_more() -> None:
    orphan = Row(assignment(0), orphan_expires_ms=NOW)
    assert of_set(rows(orphan), [assignment(0)]) == Difference(readopted=[orphan])


def test_a_change_says_nothing_of_the_others() -> None:
    other, running, over = Row(assignment(0)), Row(assignment(1)), Row(assignment(2), State(Stage.ENDED))
    known = rows(other, running, over)
    difference = of_delta(known, [], [running.assignment.alloc, over.assignment.alloc, "unheard-of"])
    assert difference == Difference(orphaned=[running], forgotten=[over])


def test_a_stop_keeps_the_spec_it_comes_without() -> None:
    merged = merge(assignment(0), assignment(0, stop=True))
    assert merged.stop and merged.stop_reason == "scaled down"
    assert merged.spec == assignment(0).spec


def test_a_stop_is_for_good() -> None:
    told = merge(assignment(0), assignment(0, stop=True))
    assert merge(told, assignment(0)).stop


def test_a_spec_that_was_lost_comes_back() -> None:
    bare = assignment(0)
    bare.ClearField("spec")
    assert merge(bare, assignment(0)) == assignment(0)


def test_an_orphan_runs_for_all_of_its_grace() -> None:
    orphan = Row(assignment(0), orphan_expires_ms=NOW + 1)
    assert desired(orphan, Circumstances(), NOW).run
    assert changes_at_ms(orphan, Circumstances(), NOW) == NOW + 1
    assert not desired(orphan, Circumstances(), NOW + 1).run
    assert not desired(orphan, Circumstances(dropped=True), NOW).run


def test_what_has_been_superseded_ends_at_once() -> None:
    wish = desired(Row(assignment(0)), Circumstances(superseded_by=2), NOW)
    assert not wish.run and wish.at_once and wish.clear
    assert wish.reason == "superseded by attempt 2"


def test_alone_for_too_long_it_ends_where_the_job_says_so() -> None:
    spec = group()
    assert desired(Row(assignment(0, spec=spec)), Circumstances(alone_since_ms=0), NOW).run
    spec.disconnect.CopyFrom(Disconnect(stop_on_node_after_ms=-1))
    assert desired(Row(assignment(0, spec=spec)), Circumstances(alone_since_ms=0), NOW).run
    spec.disconnect.stop_on_node_after_ms = 30_000
    careful = Row(assignment(0, spec=spec))
    assert desired(careful, Circumstances(), NOW).run
    assert desired(careful, Circumstances(alone_since_ms=NOW - 29_999), NOW).run
    assert changes_at_ms(careful, Circumstances(alone_since_ms=NOW - 29_999), NOW) == NOW + 1
    wish = desired(careful, Circumstances(alone_since_ms=NOW - 30_000), NOW)
    assert not wish.run and wish.reason == "no controller was heard for 30 s"
