"""Whatever happens, in whatever order, and wherever the leader is interrupted: in the end exactly what is wanted runs.

Hypothesis makes up histories of people, nodes and leaders. At each write the simulation checks that no slot has two
attempts that are wanted and no attempt number comes twice, and at each decision that nothing that serves is stopped
beyond the limits, nor a slot filled whose last attempt may still run. Then the world calms down, and must become what
the last spec says. Histories are lists rather than a rule machine's walks, because those rarely got past a few turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moorage.wire import keys
from moorage.wire.store_pb2 import FAILED, HEALTHY, STOPPED, NodeState
from tests.unit.reconcile.simulation import Simulation

NODES = ("a", "b", "c")


class Cluster:
    def __init__(self, count: int, parallel: int, unavailable: int) -> None:
        self.sim = Simulation()
        self.image = 1
        self.spec: dict[str, Any] = {}
        self.limits = {
            "update": {"max_parallel": parallel, "min_healthy": "10s"},
            "disruption": {"max_unavailable": unavailable},
        }
        for name in NODES:
            self.sim.node(name)
        self.change(count, False)

    def change(self, count: int, new_image: bool) -> None:
        head = self.sim.head()
        if head is not None and head.deleting:
            return  # the API refuses
        self.image += new_image
        container = {"image": f"shop:{self.image}"}
        group = {"count": count, "strategy": "spread", "tasks": {"server": {"container": container}}}
        self.spec = {**self.limits, "groups": {"web": group}}
        self.sim.apply(self.spec)

    def delete(self) -> None:
        if self.sim.head() is not None:
            self.sim.delete()

    def lose(self, name: str) -> None:
        if self.sim.phase(name) == NodeState.READY:
            self.sim.node(name, NodeState.LOST)

    def come_back(self, name: str) -> None:
        self.sim.node(name)

    def forget(self, name: str) -> None:
        if self.sim.phase(name) == NodeState.LOST:
            self.sim.forget(name)

    def drain(self, name: str, on: bool) -> None:
        if self.sim.phase(name) is not None:
            self.sim.drain(name, on)

    def act(self, which: int, fails: bool) -> None:
        allocs = self.sim.allocs()
        if allocs:
            self.sim.act(*allocs[which % len(allocs)], fails=fails)

    def all_act(self) -> None:
        for key, alloc in self.sim.allocs():
            self.sim.act(key, alloc)

    def go_on(self, rounds: int) -> None:
        """Everybody does what there is to do, for a while."""
        for _ in range(rounds):
            self.all_act()
            self.sim.hear()
            self.sim.turn()
            self.sim.clock.passes(6)

    def wait(self, seconds: int) -> None:
        self.sim.clock.passes(seconds)

    def hear(self, batches: int) -> None:
        self.sim.hear(batches)

    def turn(self, interrupted_after: int | None) -> None:
        self.sim.turn(interrupted_after)

    def calm_down(self) -> None:
        for name in NODES:
            self.sim.node(name)
            self.sim.drain(name, False)
        for _ in range(40):
            self.all_act()
            self.sim.hear()
            self.sim.turn()
            self.sim.clock.passes(700)
        self.sim.hear()
        last = self.sim.turn()
        assert last is None or not last.acts

    def is_as_wanted(self) -> None:
        head = self.sim.head()
        if head is None:
            assert [key for key in self.sim.data if key.startswith((keys.ALLOCS, keys.JOB_VERSIONS))] == []
            return
        assert not head.deleting
        running = {}
        for key, alloc in self.sim.allocs():
            status = self.sim.status(key, alloc.node)
            assert status is not None
            if status.phase in (STOPPED, FAILED):
                assert alloc.stop, f"{key} ended and was not replaced"
                continue
            assert not alloc.stop, f"{key} was told to stop and has not"
            assert status.health == HEALTHY
            assert alloc.version == head.version
            assert key.index not in running
            running[key.index] = key
        assert sorted(running) == list(range(self.spec["groups"]["web"]["count"]))


NODE = st.sampled_from(NODES)


def event(what: Callable[..., None], *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(what), *arguments)


EVENTS = st.one_of(
    event(Cluster.change, st.integers(0, 5), st.booleans()),
    event(Cluster.lose, NODE),
    event(Cluster.come_back, NODE),
    event(Cluster.drain, NODE, st.booleans()),
    event(Cluster.go_on, st.integers(1, 6)),
    event(Cluster.go_on, st.integers(1, 6)),
    event(Cluster.act, st.integers(0, 30), st.booleans()),
    event(Cluster.hear, st.integers(1, 4)),
    event(Cluster.turn, st.just(None)),
    event(Cluster.turn, st.integers(0, 3)),
    event(Cluster.wait, st.sampled_from([1, 6, 31, 700])),
    st.one_of(event(Cluster.forget, NODE), event(Cluster.delete)),
)


@given(
    count=st.integers(1, 5),
    parallel=st.integers(1, 2),
    unavailable=st.integers(1, 2),
    history=st.lists(EVENTS, min_size=25, max_size=60),
)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_every_history_ends_in_what_is_wanted(
    count: int, parallel: int, unavailable: int, history: list[tuple[Any, ...]]
) -> None:
    cluster = Cluster(count, parallel, unavailable)
    cluster.go_on(5)
    for what, *arguments in history:
        what(cluster, *arguments)
    cluster.calm_down()
    cluster.is_as_wanted()
