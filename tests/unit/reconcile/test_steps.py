"""What a write rests on is compared when it is made: whatever changed meanwhile, nothing happens by mistake."""

from __future__ import annotations

from controller.reconcile.steps import MAX_STEPS, Step, pack
from controller.store.protocol import MAX_OPERATIONS, Absent, Guard, Put, Unchanged
from moorage.wire.store_pb2 import NodeState
from tests.unit.reconcile.simulation import Simulation
from tests.unit.reconcile.test_convergence import Cluster


def running(count: int = 2) -> Cluster:
    cluster = Cluster(count, 1, 1)
    cluster.go_on(5)
    assert len(wanted(cluster.sim)) == count
    return cluster


def wanted(sim: Simulation) -> list[tuple[int, int]]:
    return sorted((key.index, key.attempt) for key, alloc in sim.allocs() if not alloc.stop)


def test_nothing_is_placed_for_a_spec_that_has_changed_meanwhile() -> None:
    cluster = Cluster(3, 1, 1)
    cluster.sim.hear()
    cluster.change(1, False)
    cluster.sim.turn()
    assert wanted(cluster.sim) == []
    cluster.sim.hear()
    cluster.sim.turn()
    assert wanted(cluster.sim) == [(0, 1)]


def test_nothing_is_placed_on_a_node_that_was_cordoned_meanwhile() -> None:
    cluster = Cluster(1, 1, 1)
    cluster.sim.hear()
    for name in ("a", "b", "c"):
        cluster.sim.drain(name, True)
    cluster.sim.turn()
    assert wanted(cluster.sim) == []


def test_a_lost_node_that_came_back_meanwhile_keeps_what_it_runs() -> None:
    cluster = running()
    nodes = {alloc.node for _, alloc in cluster.sim.allocs()}
    for name in nodes:
        cluster.lose(name)
    cluster.wait(31)
    cluster.sim.hear()
    for name in nodes:
        cluster.sim.node(name, NodeState.READY)
    cluster.sim.turn()
    assert wanted(cluster.sim) == [(0, 1), (1, 1)]


def test_a_forgotten_node_that_came_back_meanwhile_keeps_what_it_runs() -> None:
    cluster = running()
    [node, *_] = {alloc.node for _, alloc in cluster.sim.allocs()}
    cluster.lose(node)
    cluster.forget(node)
    cluster.sim.hear()
    cluster.sim.node(node)
    cluster.sim.turn()
    assert wanted(cluster.sim) == [(0, 1), (1, 1)]


def test_transactions_keep_to_the_limits_of_the_store() -> None:
    common = [Unchanged("job", 1)]

    def step(number: int, guards: int, writes: int) -> Step:
        own: list[Guard] = [Absent(f"{number}/{guard}") for guard in range(guards)]
        return Step(str(number), own, [Put(f"{number}/{write}", b"") for write in range(writes)])

    for guards, writes in ((1, 1), (4, 2), (2, 5)):
        packed = pack([step(number, guards, writes) for number in range(100)], common)
        assert [alloc for one in packed for alloc in one.allocs] == [str(number) for number in range(100)]
        for one in packed:
            assert len(one.allocs) <= MAX_STEPS
            assert len(one.guards) + 1 <= MAX_OPERATIONS, "the fence comes on top"
            assert len(one.operations) <= MAX_OPERATIONS
            assert one.guards[0] == common[0]


def test_a_guard_that_steps_share_is_compared_once() -> None:
    shared = Unchanged("node", 3)
    [packed] = pack([Step(name, [Absent(name), shared], [Put(name, b"")]) for name in "abc"], [])
    assert list(packed.guards).count(shared) == 1
