"""Room and ports are kept for what was decided until it shows, or until it never will."""

from __future__ import annotations

from controller.cache import Cache
from controller.reconcile.planner import DOUBT_S, InFlight, Placed
from controller.reconcile.values import Place
from controller.store.memory import MemoryStore
from controller.store.protocol import Absent
from moorage.kit.clock import ManualClock
from moorage.wire.spec_pb2 import Resources
from scheduler import Placement
from tests.unit.cache.samples import key

PORT = 20_001


def placed() -> Placed:
    return Placed(Place(key()), Placement(0, "n1", {"http": PORT}, "best fit"), Absent("spec"))


def held(in_flight: InFlight) -> bool:
    return in_flight.snapshot().ports.rows(PORT) != []


async def test_a_commit_without_an_answer_keeps_its_port_until_it_must_have_shown() -> None:
    clock = ManualClock()
    cache = Cache(MemoryStore(clock), clock)
    in_flight = InFlight(cache)
    in_flight.add([placed()], {"web": Resources(cpu_millis=100)})
    assert held(in_flight)
    in_flight.doubt([placed()])
    await clock.advance(DOUBT_S - 1)
    assert held(in_flight), "another job must not get the same port of the same node"
    await clock.advance(2)
    assert not held(in_flight)
    assert len(in_flight) == 0


async def test_what_is_tried_again_is_in_doubt_no_more() -> None:
    clock = ManualClock()
    in_flight = InFlight(Cache(MemoryStore(clock), clock))
    in_flight.add([placed()], {"web": Resources()})
    in_flight.doubt([placed()])
    in_flight.add([placed()], {"web": Resources()})
    await clock.advance(2 * DOUBT_S)
    assert held(in_flight)
    in_flight.remove([placed()])
    assert not held(in_flight)
