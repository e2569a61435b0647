from __future__ import annotations

from collections import Counter

import pytest

from scheduler import Affinity, Constraint, Snapshot, Spread, place
from scheduler.snapshot import AUTO_PORTS
from tests.unit.scheduler.world import GIB, MIB, add_node, cluster, names, placed, request


def test_the_fullest_node_that_still_has_room_is_the_best_fit() -> None:
    snapshot = cluster(3)
    snapshot.add_alloc("a", "id-h1", 3900, GIB, 0)
    snapshot.add_alloc("b", "id-h2", 2000, GIB, 0)

    (placement,) = placed(snapshot, request())

    assert placement.node == "id-h2"
    assert placement.why == "best fit of 2 nodes: 56 % of cpu, 13 % of memory used after"


def test_strategy_spread_takes_the_emptiest() -> None:
    snapshot = cluster(3)
    snapshot.add_alloc("a", "id-h1", 1000, GIB, 0)
    snapshot.add_alloc("b", "id-h2", 500, GIB, 0)

    assert names(placed(snapshot, request(strategy="spread"))) == ["h3"]


def test_least_fragmentation_keeps_what_is_left_in_proportion() -> None:
    snapshot = cluster(2)
    snapshot.add_alloc("a", "id-h1", 3000, GIB, 0)
    snapshot.add_alloc("b", "id-h2", 500, 4 * GIB, 0)
    memory_heavy = request(cpu_millis=100, memory_bytes=3 * GIB, strategy="least_fragmentation")

    assert names(placed(snapshot, memory_heavy)) == ["h1"]


def test_slots_of_one_group_do_not_pile_up_on_one_of_several_equal_nodes() -> None:
    assert Counter(names(placed(cluster(3), request(9)))) == {"h1": 3, "h2": 3, "h3": 3}


def test_groups_of_different_jobs_share_a_node_before_they_open_another() -> None:
    plans = place(cluster(3), [request(job_uid=f"job-{number}") for number in range(4)], 1)

    assert len({placement.node for plan in plans for placement in plan.placements}) == 1


def test_members_that_run_already_count_as_siblings() -> None:
    assert "h1" not in names(placed(cluster(3), request(4, members={"id-h1": 2, "gone": 5})))


def test_later_requests_see_what_earlier_ones_took_and_the_snapshot_stays_as_it_was() -> None:
    snapshot = cluster(1, cpu=1000)

    first, second = place(snapshot, [request(3), request(3, group="db")], 1)

    assert (len(first.placements), len(second.placements)) == (3, 1)
    assert [rejection.reason for rejection in second.rejections] == ["1 node: cpu short by 250m"] * 2
    assert [rejection.index for rejection in second.rejections] == [1, 2]
    assert snapshot.used("id-h1") == (0, 0, 0)


def test_affinity_outweighs_a_better_fit_and_a_negative_one_repels() -> None:
    snapshot = Snapshot()
    add_node(snapshot, "h1", attributes={"label.disk": "ssd"})
    add_node(snapshot, "h2", attributes={"label.disk": "hdd"})
    snapshot.add_alloc("a", "id-h2", 3000, 6 * GIB, 0)

    def one(weight: int) -> list[str]:
        return names(placed(snapshot, request(affinity=[Affinity("label.disk", "=", "ssd", weight)])))

    assert (one(50), one(-50), one(0)) == (["h1"], ["h2"], ["h2"])


def test_affinity_is_a_wish_and_other_nodes_are_taken_when_it_cannot_be_had() -> None:
    snapshot = cluster(1, cpu=500, attributes={"label.disk": "ssd"})
    add_node(snapshot, "h2")

    nodes = names(placed(snapshot, request(4, affinity=[Affinity("label.disk", "=", "ssd", 100)])))

    assert Counter(nodes) == {"h1": 2, "h2": 2}


def racks(*names_of_racks: str, per_rack: int = 2) -> Snapshot:
    snapshot = Snapshot()
    for rack in names_of_racks:
        for number in range(per_rack):
            add_node(snapshot, f"{rack}-{number}", attributes={"label.rack": rack})
    return snapshot


def by_rack(nodes: list[str]) -> dict[str, int]:
    return dict(Counter(node.partition("-")[0] for node in nodes))


def test_why_a_node_was_chosen_names_what_it_was_spread_over_in_words() -> None:
    snapshot = Snapshot()
    add_node(snapshot, "h1")

    (placement,) = placed(snapshot, request(1, spread=[Spread("node.id"), Spread("label.rack")]))

    assert placement.why.endswith("; 0 of the group on it; 0 of the group where label.rack is not set")


def test_an_even_spread_fills_each_domain_alike_whatever_the_number_of_nodes_in_it() -> None:
    snapshot = racks("r1", "r2", "r3")
    for number in range(6):
        add_node(snapshot, f"r1-more{number}", attributes={"label.rack": "r1"})

    placements = placed(snapshot, request(9, spread=[Spread("label.rack")]))

    assert by_rack(names(placements)) == {"r1": 3, "r2": 3, "r3": 3}
    assert placements[-1].why.endswith("2 of the group in label.rack " + names(placements)[-1].partition("-")[0])


def test_an_even_spread_makes_up_for_what_runs_already() -> None:
    wish = request(4, spread=[Spread("label.rack")], members={"id-r1-0": 2, "id-r1-1": 1})

    assert by_rack(names(placed(racks("r1", "r2", "r3"), wish))) == {"r2": 2, "r3": 2}


def test_a_spread_with_targets_is_in_proportion_at_every_step() -> None:
    snapshot = racks("r1", "r2", per_rack=3)
    wish = request(20, spread=[Spread("label.rack", {"r1": 60, "r2": 40})])

    nodes = names(placed(snapshot, wish))

    assert by_rack(nodes) == {"r1": 12, "r2": 8}
    for count in range(5, 20, 5):
        assert by_rack(nodes[:count]) == {"r1": count * 3 // 5, "r2": count * 2 // 5}


def test_what_targets_leave_over_is_shared_by_the_other_domains() -> None:
    wish = request(10, spread=[Spread("label.rack", {"r1": 60})])

    assert by_rack(names(placed(racks("r1", "r2", "r3", per_rack=3), wish))) == {"r1": 6, "r2": 2, "r3": 2}


def test_domains_without_a_share_and_nodes_without_the_attribute_come_last() -> None:
    snapshot = racks("r1", "r2", "r3", per_rack=1)
    add_node(snapshot, "bare")
    wish = request(2, cpu_millis=2100, spread=[Spread("label.rack", {"r1": 50, "r2": 50})])

    assert set(names(placed(snapshot, wish))) == {"r1-0", "r2-0"}
    assert set(names(placed(snapshot, request(4, cpu_millis=2100, spread=wish.spread)))) >= {"r3-0", "bare"}


def test_two_spreads_hold_together() -> None:
    nodes = names(placed(racks("r1", "r2", per_rack=3), request(6, spread=[Spread("label.rack"), Spread("node.id")])))

    assert by_rack(nodes) == {"r1": 3, "r2": 3}
    assert len(set(nodes)) == 6


def test_a_slot_goes_back_to_where_it_failed_only_when_nothing_else_is_left() -> None:
    snapshot = cluster(2, cpu=500)
    wish = request(4, avoid={0: ["id-h1"], 1: ["id-h1", "gone"]}, affinity=[Affinity("node.name", "=", "h1", 100)] * 3)

    assert names(placed(snapshot, wish)) == ["h2", "h2", "h1", "h1"]
    assert names(placed(cluster(1), request(avoid={0: ["id-h1"]}))) == ["h1"]


def test_distinct_hosts_puts_one_on_each_node_and_rejects_the_rest() -> None:
    (plan,) = place(cluster(3), [request(3, distinct_hosts=True, members={"id-h1": 1})], 1)

    assert set(names(plan.placements)) == {"h2", "h3"}
    assert [rejection.reason for rejection in plan.rejections] == [
        "3 nodes: runs one of this group already (distinct_hosts)"
    ]


def test_a_fixed_port_is_given_once_per_node() -> None:
    snapshot = cluster(3)
    snapshot.add_alloc("a", "id-h1", 100, MIB, 0, [8080])

    (plan,) = place(snapshot, [request(3, host_ports={"http": 8080})], 1)

    assert set(names(plan.placements)) == {"h2", "h3"}
    assert [dict(placement.ports) for placement in plan.placements] == [{"http": 8080}] * 2
    assert plan.rejections[0].reason == "3 nodes: port 8080 (http) is in use"


def test_automatic_ports_are_in_their_range_free_and_the_same_for_the_same_seed() -> None:
    snapshot = cluster(1, cpu=100_000)
    wish = request(100, host_ports={"http": 0, "admin": 0})

    ports = [port for placement in placed(snapshot, wish) for port in placement.ports.values()]
    again = [port for placement in placed(snapshot, wish) for port in placement.ports.values()]
    other = [port for placement in placed(snapshot, wish, seed=2) for port in placement.ports.values()]

    assert len(set(ports)) == 200
    assert all(port in AUTO_PORTS for port in ports)
    assert ports == again != other


def test_automatic_ports_end_when_the_range_is_used_up_and_a_named_one_counts() -> None:
    snapshot = cluster(1)
    snapshot.add_alloc("a", "id-h1", 100, MIB, 0, [port for port in AUTO_PORTS if port not in (20_005, 31_000)])

    (one,) = place(snapshot, [request(2, host_ports={"http": 0})], 1)
    assert {port for placement in one.placements for port in placement.ports.values()} == {20_005, 31_000}
    (two,) = place(snapshot, [request(1, host_ports={"admin": 0, "http": 31_000})], 1)
    assert dict(two.placements[0].ports) == {"admin": 20_005, "http": 31_000}
    (three,) = place(snapshot, [request(1, host_ports={"a": 0, "b": 0, "c": 0})], 1)
    assert three.rejections[0].reason == "1 node: fewer than 3 ports free between 20000 and 31999"


def test_the_seed_alone_breaks_ties_not_the_order_in_which_nodes_arrived() -> None:
    backwards = Snapshot()
    for number in range(9, 0, -1):
        add_node(backwards, f"h{number}")

    assert placed(cluster(9), request(5)) == placed(backwards, request(5))
    assert len({names(placed(cluster(9), request(), seed=seed))[0] for seed in range(40)}) > 3


@pytest.mark.parametrize("amount", [0, 1])
def test_a_node_that_is_overfull_still_takes_what_needs_none_of_that(amount: int) -> None:
    snapshot = cluster(1, disk=10)
    snapshot.add_alloc("a", "id-h1", 100, MIB, 20)

    (plan,) = place(snapshot, [request(disk_bytes=amount)], 1)

    assert len(plan.placements) == 1 - amount


def test_a_constraint_on_every_kind_of_attribute() -> None:
    snapshot = cluster(1, attributes={"os.arch": "arm64", "docker.version": "20.10.24+dfsg1"})
    add_node(snapshot, "h2", attributes={"os.arch": "amd64", "docker.version": "26.1.5"})

    def fits(attribute: str, operator: str, value: str) -> list[str]:
        constraint = Constraint(attribute, operator, value)  # type: ignore[arg-type]
        return names(placed(snapshot, request(constraints=[constraint])))

    assert fits("os.arch", "=", "amd64") == ["h2"]
    assert fits("docker.version", "version", ">= 26") == ["h2"]
    assert fits("node.name", "regexp", "1$") == ["h1"]
    assert fits("node.id", "!=", "id-h1") == ["h2"]


def test_pids_are_a_limit_and_not_scheduled() -> None:
    assert names(placed(cluster(1), request(3, pids=4_000_000))) == ["h1"] * 3


def test_a_request_for_no_slots_gives_an_empty_plan() -> None:
    (plan,) = place(Snapshot(), [request(0)], 1)

    assert (plan.placements, plan.rejections) == ([], [])
