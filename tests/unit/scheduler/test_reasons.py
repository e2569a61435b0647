from __future__ import annotations

from scheduler import Affinity, Constraint, Snapshot, Spread, explain
from tests.unit.scheduler.world import GIB, MIB, add_node, cluster, reason, request


def test_each_node_is_counted_once_and_most_nodes_come_first() -> None:
    snapshot = cluster(3, memory=100 * MIB)
    add_node(snapshot, "h4", why_not="cordoned", memory=GIB)
    for number in (1, 2, 3):
        snapshot.add_alloc(f"a{number}", f"id-h{number}", 0, 20 * MIB, 0)

    assert reason(snapshot, request(memory_bytes=100 * MIB)) == "3 nodes: memory short by 20 MiB; 1: cordoned"


def test_where_shortages_differ_the_least_of_them_is_told() -> None:
    snapshot = cluster(2, cpu=1000)
    snapshot.add_alloc("a", "id-h1", 500, 0, 0)
    snapshot.add_alloc("b", "id-h2", 900, 0, 0)

    assert reason(snapshot, request(cpu_millis=1000)) == "2 nodes: cpu short by at least 500m"


def test_all_that_is_short_on_a_node_is_told_together() -> None:
    snapshot = cluster(1, cpu=2000, memory=GIB, disk=GIB)
    snapshot.add_alloc("a", "id-h1", 1500, 512 * MIB, GIB)

    assert (
        reason(snapshot, request(cpu_millis=2000, memory_bytes=GIB, disk_bytes=MIB))
        == "1 node: cpu short by 1.5 cores, memory short by 512 MiB, disk short by 1 MiB"
    )


def test_what_would_not_even_fit_on_an_empty_node_is_told_as_such() -> None:
    snapshot = cluster(1, memory=8 * GIB)
    add_node(snapshot, "big", memory=24 * GIB)

    assert (
        reason(snapshot, request(memory_bytes=64 * GIB))
        == "2 nodes: memory of the whole node is at most 24 GiB, wanted 64 GiB"
    )


def test_an_unmet_constraint_is_named_in_the_users_words() -> None:
    snapshot = cluster(2, attributes={"label.disk": "hdd"})
    add_node(snapshot, "h3")

    assert (
        reason(snapshot, request(constraints=[Constraint("label.disk", "=", "ssd")]))
        == "2 nodes: label.disk is 'hdd', wanted = 'ssd'; 1: label.disk is not set, wanted = 'ssd'"
    )


def test_many_different_values_are_not_listed() -> None:
    wish = request(constraints=[Constraint("node.name", "in", ("a", "b"))])

    assert reason(cluster(20), wish) == "20 nodes: node.name differs, wanted in 'a', 'b'"


def test_a_missing_driver_is_named() -> None:
    assert reason(cluster(1, drivers=["libvirt"]), request()) == "1 node: no docker driver"


def test_no_nodes_at_all_is_said() -> None:
    assert reason(Snapshot(), request()) == "no node has joined yet"


def test_a_sentence_holds_a_few_reasons_and_counts_the_rest() -> None:
    snapshot = Snapshot()
    for number in range(9):
        add_node(snapshot, f"h{number}", why_not=f"reason {number}")

    assert reason(snapshot, request()) == (
        "1 node: reason 0; 1: reason 1; 1: reason 2; 1: reason 3; 1: reason 4; 1: reason 5; 3: other reasons"
    )


def test_explain_tells_every_nodes_score_in_parts_or_all_that_speaks_against_it() -> None:
    snapshot = Snapshot()
    add_node(snapshot, "h1", attributes={"label.disk": "ssd"})
    add_node(snapshot, "h2", attributes={"label.disk": "hdd"})
    add_node(snapshot, "h3", attributes={"label.disk": "tape"}, why_not="draining", cpu=1)
    wish = request(
        constraints=[Constraint("label.disk", "!=", "tape")],
        affinity=[Affinity("label.disk", "=", "ssd", 10)],
        spread=[Spread("node.id")],
        members={"id-h1": 1},
        avoid={0: ["id-h1"]},
    )

    first, second, third = explain(snapshot, wish, 1)

    assert (first.name, first.fits, first.score) == ("h2", True, 34 - 500)
    assert first.reason == "best_fit 34, affinity 0, siblings 0, spread over node.id -500"
    assert (second.name, second.score) == ("h1", 34 + 200 - 200 - 1500)
    assert second.reason.endswith("spread over node.id -1500, failed here before: last choice")
    assert (third.name, third.fits) == ("h3", False)
    assert third.reason == (
        "draining; label.disk is 'tape', wanted != 'tape'; cpu of the whole node is 1m, wanted 250m"
    )


def test_explain_without_nodes_has_nothing_to_say() -> None:
    assert explain(Snapshot(), request(), 1) == []
