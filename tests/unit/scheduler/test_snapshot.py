from __future__ import annotations

import pytest

from scheduler import Constraint, Snapshot
from tests.unit.scheduler.world import GIB, add_node, cluster, names, placed, reason, request


def test_what_allocations_take_is_given_back_when_they_go() -> None:
    snapshot = cluster(1)

    snapshot.add_alloc("a", "id-h1", 1000, GIB, 2 * GIB, [8080])
    snapshot.add_alloc("b", "id-h1", 500, GIB, 0)
    assert snapshot.used("id-h1") == (1500, 2 * GIB, 2 * GIB)

    snapshot.remove_alloc("a")
    assert snapshot.used("id-h1") == (500, GIB, 0)
    assert placed(snapshot, request(host_ports={"http": 8080}))


def test_an_allocation_that_is_added_again_counts_once_with_its_last_amounts() -> None:
    snapshot = cluster(2)

    snapshot.add_alloc("a", "id-h1", 1000, GIB, 0, [8080])
    snapshot.add_alloc("a", "id-h2", 300, GIB, 0, [8081])

    assert snapshot.used("id-h1") == (0, 0, 0)
    assert snapshot.used("id-h2") == (300, GIB, 0)
    assert snapshot.allocs == 1


def test_removing_what_is_not_known_changes_nothing() -> None:
    snapshot = cluster(1)

    snapshot.remove_alloc("ghost")
    snapshot.remove_node("ghost")

    assert (snapshot.nodes, snapshot.allocs) == (1, 0)


def test_an_allocation_may_arrive_before_its_node_and_counts_once_that_has_come() -> None:
    snapshot = Snapshot()
    snapshot.add_alloc("a", "id-h1", 3900, 0, 0)
    assert reason(snapshot, request()) == "no node has joined yet"

    add_node(snapshot, "h1", cpu=4000)

    assert reason(snapshot, request(cpu_millis=200)) == "1 node: cpu short by 100m"


def test_a_node_that_went_and_came_back_still_holds_its_allocations() -> None:
    snapshot = cluster(1)
    snapshot.add_alloc("a", "id-h1", 3900, 0, 0)

    snapshot.remove_node("id-h1")
    assert reason(snapshot, request()) == "no node has joined yet"
    add_node(snapshot, "h1")

    assert snapshot.used("id-h1") == (3900, 0, 0)


def test_the_row_of_a_node_that_is_gone_is_used_again_and_remembers_nothing() -> None:
    snapshot = cluster(3, attributes={"label.disk": "ssd"})
    snapshot.add_alloc("a", "id-h2", 4000, GIB, 0, [8080])
    snapshot.remove_node("id-h2")
    snapshot.remove_alloc("a")

    add_node(snapshot, "h4")

    assert snapshot.nodes == 3
    assert len(snapshot.table) == 3
    assert snapshot.used("id-h4") == (0, 0, 0)
    only_h4 = request(host_ports={"http": 8080}, constraints=[Constraint("label.disk", "not_exists")])
    assert names(placed(snapshot, only_h4)) == ["h4"]


def test_a_changed_attribute_is_seen_by_the_next_placement() -> None:
    snapshot = cluster(2, attributes={"label.disk": "hdd"})
    wish = request(constraints=[Constraint("label.disk", "=", "ssd")])
    assert reason(snapshot, wish) == "2 nodes: label.disk is 'hdd', wanted = 'ssd'"

    add_node(snapshot, "h2", attributes={"label.disk": "ssd"})

    assert names(placed(snapshot, wish)) == ["h2"]


@pytest.mark.parametrize("writer", ["original", "copy"])
def test_a_copy_and_its_original_do_not_see_each_others_changes(writer: str) -> None:
    original = cluster(2, attributes={"label.disk": "hdd"})
    original.add_alloc("a", "id-h1", 1000, GIB, 0, [8080])
    copy = original.copy()
    written, other = (original, copy) if writer == "original" else (copy, original)

    written.remove_alloc("a")
    written.add_alloc("b", "id-h2", 500, GIB, 0, [8080, 20_000])
    add_node(written, "h1", attributes={"label.disk": "ssd"}, why_not="cordoned")
    add_node(written, "h3")
    written.remove_node("id-h2")

    assert (other.nodes, other.allocs) == (2, 1)
    assert other.used("id-h1") == (1000, GIB, 0)
    assert other.used("id-h2") == (0, 0, 0)
    assert names(placed(other, request(host_ports={"http": 8080}))) == ["h2"]
    assert placed(other, request(2, constraints=[Constraint("label.disk", "=", "hdd")]))
    assert (written.nodes, written.allocs) == (2, 1)
    assert names(placed(written, request(host_ports={"http": 8080}))) == ["h3"]


def test_growing_past_the_first_rows_keeps_what_was_there() -> None:
    snapshot = cluster(16)
    snapshot.add_alloc("a", "id-h16", 1000, GIB, 0)

    for number in range(17, 70):
        add_node(snapshot, f"h{number}")

    assert snapshot.nodes == 69
    assert snapshot.used("id-h16") == (1000, GIB, 0)


def test_a_port_held_twice_is_free_only_when_both_are_gone() -> None:
    snapshot = cluster(1)
    wish = request(host_ports={"http": 8080})
    for alloc in ("old", "new"):
        snapshot.add_alloc(alloc, "id-h1", 100, GIB, 0, [8080])

    snapshot.remove_alloc("old")
    assert reason(snapshot, wish) == "1 node: port 8080 (http) is in use"
    snapshot.remove_alloc("new")
    assert placed(snapshot, wish)
