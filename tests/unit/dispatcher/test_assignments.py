"""What nodes are told, in bytes that are put together by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cache import Cache
from controller.dispatcher import assignments
from controller.store.memory import MemoryStore
from controller.store.protocol import Changes, KeyValue, Put
from moorage.kit.clock import ManualClock
from moorage.wire import keys
from moorage.wire.session_pb2 import Assignment, ControllerMessage, Position
from moorage.wire.spec_pb2 import GroupSpec, TaskSpec
from moorage.wire.store_pb2 import FAILED, PlanMark
from tests.integration.dispatcher_world import put_version
from tests.unit.cache.samples import alloc_status, key, put_alloc, put_status

POSITION = Position(generation=1, epoch=2, revision=3, term="t")


def cache_of(*puts: Put) -> Cache:
    cache = Cache(MemoryStore(), ManualClock())
    cache.apply(Changes([KeyValue(put.key, put.value, n, n) for n, put in enumerate(puts, start=5)], [], 100))
    return cache


def told(cache: Cache, alloc: keys.AllocKey) -> Assignment:
    entry = cache.alloc(alloc.id)
    assert entry is not None
    return Assignment.FromString(assignments.encode(cache, entry))


def test_an_assignment_by_hand_is_the_one_that_protobuf_would_have_made() -> None:
    cache = cache_of(put_version(), put_alloc(key(3), "n1", ports={"http": 20_001}))
    spec = cache.group_spec(key().job_uid, 1, "web")
    assert told(cache, key(3)) == Assignment(
        alloc=key(3).id,
        project="default",
        job="hello",
        job_uid=key().job_uid,
        group="web",
        index=3,
        attempt=1,
        version=1,
        ports={"http": 20_001},
        spec=spec,
    )


def test_a_spec_is_compiled_once_for_all_its_allocations() -> None:
    cache = cache_of(put_version(), put_alloc(key(0), "n1"), put_alloc(key(1), "n2"))
    first, second = (cache.group_spec_bytes(key().job_uid, 1, "web") for _ in range(2))
    assert first is second is not None


def test_what_has_no_readable_spec_is_mentioned_all_the_same() -> None:
    assignment = told(cache_of(put_alloc(key(0), "n1")), key(0))
    assert not assignment.stop and not assignment.HasField("spec")


def test_what_has_ended_is_never_run_again() -> None:
    cache = cache_of(put_version(), put_alloc(key(0), "n1"), put_status("n1", alloc_status(key(0), FAILED)))
    assert told(cache, key(0)).stop_reason == "ended"


def test_an_attempt_that_is_not_handed_out_yet_stops_nothing() -> None:
    newer = put_alloc(key(0, 2), "n1", plan="p")
    cache = cache_of(put_version(), put_alloc(key(0, 1), "n1"), newer)
    assert not told(cache, key(0, 1)).stop
    assert len(assignments.of_node(cache, "n1")) == 1
    mark = Put(keys.plan("p"), PlanMark().SerializeToString())
    cache = cache_of(put_version(), put_alloc(key(0, 1), "n1"), newer, mark)
    assert told(cache, key(0, 1)).stop_reason == "superseded"


def test_a_lost_mark_does_not_unsay_what_the_node_runs_already() -> None:
    cache = cache_of(put_version(), put_alloc(key(0), "n1", plan="p"), put_status("n1", alloc_status(key(0))))
    assert len(assignments.of_node(cache, "n1")) == 1


def test_an_empty_set_is_one_message() -> None:
    (message,) = assignments.set_messages(POSITION, [])
    decoded = ControllerMessage.FromString(message).set
    assert decoded.last and decoded.position == POSITION and not decoded.assignments


@pytest.mark.parametrize(("count", "size", "parts"), [(500, 10, 1), (501, 10, 2), (1200, 10, 3), (5, 400_000, 3)])
def test_a_large_set_comes_in_parts_and_the_last_says_so(count: int, size: int, parts: int) -> None:
    spec = GroupSpec(tasks=[TaskSpec(env={"PAD": "x" * size})])
    encoded = [Assignment(alloc=str(n), spec=spec).SerializeToString() for n in range(count)]
    messages = [ControllerMessage.FromString(m).set for m in assignments.set_messages(POSITION, encoded)]
    assert [message.last for message in messages] == [False] * (parts - 1) + [True]
    assert [a.alloc for message in messages for a in message.assignments] == [str(n) for n in range(count)]
    assert all(message.position == POSITION for message in messages)


def test_a_large_delta_comes_in_parts_and_forgets_once() -> None:
    encoded = [Assignment(alloc=str(n)).SerializeToString() for n in range(700)]
    first, second = (
        ControllerMessage.FromString(m).delta for m in assignments.delta_messages(POSITION, encoded, ["gone"])
    )
    assert (list(first.forgotten), list(second.forgotten)) == (["gone"], [])
    assert len(first.changed) + len(second.changed) == 700


@given(st.integers(min_value=1, max_value=2**20), st.binary(max_size=300))
def test_fields_are_what_a_decoder_expects(number: int, payload: bytes) -> None:
    encoded = assignments.field(number, payload)
    tag, rest = _varint(encoded)
    length, rest = _varint(rest)
    assert (tag >> 3, tag & 7, length, rest) == (number, 2, len(payload), payload)


def _varint(data: bytes) -> tuple[int, bytes]:
    value = shift = 0
    for position, byte in enumerate(data):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, data[position + 1 :]
    raise AssertionError("unfinished")
