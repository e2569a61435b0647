"""Whatever the cluster and the wishes: placements fit, and a rejection means that nothing fits, by brute force."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler import Affinity, Constraint, Plan, Request, Snapshot, Spread, explain, place
from scheduler.matching import predicate

DISKS = st.sampled_from(["ssd", "hdd", "nvme"])
PORTS = st.sampled_from([80, 8080, 20_000])


@dataclass(frozen=True)
class Node:
    id: str
    cpu: int
    memory: int
    disk: int
    attributes: dict[str, str]
    drivers: tuple[str, ...]
    schedulable: bool


@dataclass
class Usage:
    """The brute-force bookkeeping of one node."""

    cpu: int = 0
    memory: int = 0
    disk: int = 0
    ports: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Alloc:
    id: str
    node: int
    cpu: int
    memory: int
    ports: tuple[int, ...]


nodes = st.lists(
    st.builds(
        Node,
        id=st.just(""),
        cpu=st.integers(0, 8),
        memory=st.integers(0, 8),
        disk=st.integers(0, 4),
        attributes=st.dictionaries(st.just("label.disk"), DISKS),
        drivers=st.sampled_from([("docker",), ("docker", "libvirt"), ()]),
        schedulable=st.sampled_from([True, True, True, False]),
    ),
    max_size=6,
).map(lambda found: [replace(node, id=f"n{number}") for number, node in enumerate(found)])

allocs = st.lists(
    st.builds(
        Alloc,
        id=st.just(""),
        node=st.integers(0, 5),
        cpu=st.integers(0, 3),
        memory=st.integers(0, 3),
        ports=st.lists(PORTS, max_size=2, unique=True).map(tuple),
    ),
    max_size=6,
).map(lambda found: [replace(alloc, id=f"a{number}") for number, alloc in enumerate(found)])

constraints = st.builds(
    Constraint,
    attribute=st.sampled_from(["label.disk", "node.id"]),
    operator=st.sampled_from(["=", "!=", "exists", "in", "not_in", "regexp"]),
    value=st.sampled_from(["ssd", "hdd", "n1", "n2"]),
)

requests = st.lists(
    st.builds(
        Request,
        job_uid=st.sampled_from(["j1", "j2"]),
        group=st.just("web"),
        indexes=st.integers(0, 5).map(range),
        cpu_millis=st.integers(0, 4),
        memory_bytes=st.integers(0, 4),
        disk_bytes=st.integers(0, 2),
        constraints=st.lists(constraints, max_size=1),
        affinity=st.lists(
            st.builds(
                Affinity,
                attribute=st.just("label.disk"),
                operator=st.just("="),
                value=DISKS,
                weight=st.integers(-100, 100),
            ),
            max_size=1,
        ),
        spread=st.lists(
            st.builds(
                Spread,
                attribute=st.sampled_from(["node.id", "label.disk"]),
                targets=st.dictionaries(DISKS, st.integers(0, 50), max_size=2),
            ),
            max_size=2,
        ),
        distinct_hosts=st.booleans(),
        host_ports=st.dictionaries(st.sampled_from(["http", "admin"]), st.just(0) | PORTS, max_size=2).filter(
            lambda ports: len(fixed := [port for port in ports.values() if port]) == len(set(fixed))
        ),
        strategy=st.sampled_from(["best_fit", "spread", "least_fragmentation"]),
        avoid=st.dictionaries(st.integers(0, 4), st.lists(st.sampled_from(["n0", "n1"]), max_size=2), max_size=2),
        members=st.dictionaries(st.sampled_from(["n0", "n1", "n9"]), st.integers(0, 2), max_size=2),
    ),
    max_size=4,
)


def build(cluster: list[Node], held: list[Alloc]) -> Snapshot:
    snapshot = Snapshot()
    for alloc in held:
        snapshot.add_alloc(alloc.id, f"n{alloc.node}", alloc.cpu, alloc.memory, 0, alloc.ports)
    for node in cluster:
        snapshot.set_node(
            node.id, node.id, node.cpu, node.memory, node.disk, node.attributes, node.drivers, node.schedulable, ""
        )
    return snapshot


def usages(cluster: list[Node], held: list[Alloc]) -> dict[str, Usage]:
    usage = {node.id: Usage() for node in cluster}
    for alloc in held:
        if (used := usage.get(f"n{alloc.node}")) is not None:
            used.cpu += alloc.cpu
            used.memory += alloc.memory
            used.ports.update(alloc.ports)
    return usage


def can_take(node: Node, used: Usage, wish: Request, placed_here: int) -> bool:
    """One more slot of `wish`, judged one node and one condition at a time."""
    facts = {**node.attributes, "node.id": node.id}
    return (
        node.schedulable
        and set(wish.drivers) <= set(node.drivers)
        and all(predicate(constraint)(facts.get(constraint.attribute)) for constraint in wish.constraints)
        and not (wish.distinct_hosts and (wish.members.get(node.id) or placed_here))
        and not used.ports & {port for port in wish.host_ports.values() if port}
        and (not wish.cpu_millis or used.cpu + wish.cpu_millis <= node.cpu)
        and (not wish.memory_bytes or used.memory + wish.memory_bytes <= node.memory)
        and (not wish.disk_bytes or used.disk + wish.disk_bytes <= node.disk)
    )


@settings(max_examples=300, deadline=None)
@given(cluster=nodes, held=allocs, wishes=requests, seed=st.integers(0, 1 << 64))
def test_placements_fit_and_a_rejection_means_that_nothing_does(
    cluster: list[Node], held: list[Alloc], wishes: list[Request], seed: int
) -> None:
    usage = usages(cluster, held)
    by_id = {node.id: node for node in cluster}
    placed: dict[str, Counter[str]] = defaultdict(Counter)

    plans = place(build(cluster, held), wishes, seed)

    for wish, plan in zip(wishes, plans, strict=True):
        placed_here = placed[wish.job_uid]
        placements = {placement.index: placement for placement in plan.placements}
        rejections = {rejection.index: rejection for rejection in plan.rejections}
        assert sorted([*placements, *rejections]) == list(wish.indexes)
        for index in wish.indexes:
            fitting = {node.id for node in cluster if can_take(node, usage[node.id], wish, placed_here[node.id])}
            if index in rejections:
                assert not fitting
                assert nodes_counted(rejections[index].reason) == len(cluster)
                continue
            placement = placements[index]
            assert placement.node in fitting
            choices = fitting - set(wish.avoid.get(index, ()))
            assert placement.node in choices or not choices
            used, node = usage[placement.node], by_id[placement.node]
            assert set(placement.ports) == set(wish.host_ports)
            assert len(set(placement.ports.values())) == len(placement.ports)
            assert not used.ports & set(placement.ports.values())
            used.ports |= set(placement.ports.values())
            used.cpu += wish.cpu_millis
            used.memory += wish.memory_bytes
            used.disk += wish.disk_bytes
            assert not wish.cpu_millis or used.cpu <= node.cpu
            placed_here[placement.node] += 1


@settings(max_examples=150, deadline=None)
@given(
    cluster=nodes, held=allocs, wishes=requests, seed=st.integers(0, 1000), shuffle=st.randoms(use_true_random=False)
)
def test_the_plan_depends_neither_on_the_order_nor_on_the_history_of_the_snapshot(
    cluster: list[Node], held: list[Alloc], wishes: list[Request], seed: int, shuffle: random.Random
) -> None:
    plans = place(build(cluster, held), wishes, seed)

    other = build(shuffle.sample(cluster, len(cluster)), shuffle.sample(held, len(held)))
    other.set_node("passing", "passing", 9, 9, 9, {"label.disk": "ssd"}, ("docker",), True, "")
    other.add_alloc("passing", "passing", 1, 1, 1, (80,))
    place(other, wishes, seed)
    other.remove_node("passing")
    other.remove_alloc("passing")

    assert place(other.copy(), wishes, seed) == plans == place(build(cluster, held), wishes, seed)


@settings(max_examples=150, deadline=None)
@given(cluster=nodes, held=allocs, wishes=requests, seed=st.integers(0, 1000))
def test_explain_names_first_the_node_that_place_chooses(
    cluster: list[Node], held: list[Alloc], wishes: list[Request], seed: int
) -> None:
    snapshot = build(cluster, held)
    for wish in wishes:
        one = replace(wish, indexes=[0], avoid={0: wish.avoid.get(0, ())})
        (plan,) = place(snapshot, [one], seed)
        verdicts = explain(snapshot, one, seed)

        assert {verdict.node for verdict in verdicts} == {node.id for node in cluster}
        assert [verdict.node for verdict in verdicts if verdict.fits][:1] == chosen(plan)
        assert all(verdict.reason for verdict in verdicts)


def nodes_counted(reason: str) -> int:
    return sum(int(count) for count in re.findall(r"(?:^|; )(\d+)(?: nodes?)?: ", reason))


def chosen(plan: Plan) -> list[str]:
    return [placement.node for placement in plan.placements]


changes = st.lists(
    st.tuples(
        st.sampled_from(["node", "no node", "alloc", "no alloc", "copy"]),
        st.integers(0, 3),
        st.integers(0, 4),
        st.integers(0, 2),
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(changes=changes)
def test_after_any_changes_and_copies_a_snapshot_is_as_if_built_anew(
    changes: list[tuple[str, int, int, int]],
) -> None:
    snapshot = Snapshot()
    cluster: dict[int, Node] = {}
    held: dict[str, Alloc] = {}
    wish = Request("j", "web", range(4), 1, 1, 0, constraints=[Constraint("label.disk", "!=", "hdd")])
    wish = replace(wish, host_ports={"http": 80, "admin": 0})
    for kind, node, alloc, amount in changes:
        if kind == "node":
            disk = {"label.disk": ["ssd", "hdd", "nvme"][amount]}
            cluster[node] = Node(f"n{node}", 3 + amount, 5, 5, disk, ("docker",), alloc != 0)
            snapshot.set_node(f"n{node}", f"n{node}", 3 + amount, 5, 5, disk, ("docker",), alloc != 0, "")
        elif kind == "no node":
            cluster.pop(node, None)
            snapshot.remove_node(f"n{node}")
        elif kind == "alloc":
            held[f"a{alloc}"] = Alloc(f"a{alloc}", node, amount, 1, (80,) * (amount == 2))
            snapshot.add_alloc(f"a{alloc}", f"n{node}", amount, 1, 0, (80,) * (amount == 2))
        elif kind == "no alloc":
            held.pop(f"a{alloc}", None)
            snapshot.remove_alloc(f"a{alloc}")
        else:
            left = snapshot
            snapshot = snapshot.copy()
            left.add_alloc("left behind", "n0", 1, 1, 1, (80, 8080))
            left.set_node("n0", "n0", 1, 1, 1, {}, (), False, "left behind")
        assert place(snapshot, [wish], 7) == place(build(list(cluster.values()), list(held.values())), [wish], 7)
