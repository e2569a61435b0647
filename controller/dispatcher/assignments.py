"""What a node is told to run, and how that is put into bytes.

Of the attempts at a slot only the newest that was handed out may run; every older one is told to stop, whatever its
own record says (the agent's attempt guard does the same from its side). Absence is not stop: what has no readable spec
is still mentioned, so that the agent keeps it. An allocation of a plan of several transactions is handed out only when
the plan's mark is there, or its agent knows it already.

A group's spec is compiled and encoded once per job version; assignments and messages are put around these bytes by
hand, which costs a fifth of building messages and encoding them whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from controller.cache import AllocEntry, Cache
from moorage.wire.session_pb2 import Assignment, CompleteSet, ControllerMessage, Delta, Position

MAX_ASSIGNMENTS = 500
MAX_BYTES = 1 << 20

_SET = ControllerMessage.SET_FIELD_NUMBER
_DELTA = ControllerMessage.DELTA_FIELD_NUMBER
_SET_ASSIGNMENTS = CompleteSet.ASSIGNMENTS_FIELD_NUMBER
_DELTA_CHANGED = Delta.CHANGED_FIELD_NUMBER
_SPEC = Assignment.SPEC_FIELD_NUMBER


def handed_out(cache: Cache, entry: AllocEntry) -> bool:
    return cache.plan_committed(entry.plan) or cache.status(entry.id) is not None


def stop_reason(cache: Cache, entry: AllocEntry) -> str:
    """Why this allocation is to stop; empty where it is to run."""
    if entry.stop:
        return entry.decode().stop_reason or "stopped"
    status = cache.status(entry.id)
    if status is not None and status.terminal:
        return "ended"  # and never goes back, even where the node's journal was lost
    attempts = cache.attempts_of_slot(entry.slot)
    if any(other.attempt > entry.attempt and handed_out(cache, other) for other in attempts):
        return "superseded"
    return ""


def encode(cache: Cache, entry: AllocEntry) -> bytes:
    """An Assignment. One that is to run but whose spec cannot be read goes without: the agent keeps what it has."""
    reason = stop_reason(cache, entry)
    head = Assignment(
        alloc=entry.id,
        project=entry.project,
        job=entry.job,
        job_uid=entry.job_uid,
        group=entry.group,
        index=entry.index,
        attempt=entry.attempt,
        version=entry.version,
        stop=bool(reason),
        stop_reason=reason,
        ports=entry.ports,
    ).SerializeToString()
    spec = None if reason else cache.group_spec_bytes(entry.job_uid, entry.version, entry.group)
    return head if spec is None else head + field(_SPEC, spec)


def of_node(cache: Cache, node_id: str) -> list[bytes]:
    """The complete set: every allocation of the node that was handed out."""
    return [encode(cache, entry) for entry in cache.allocs_of_node(node_id) if handed_out(cache, entry)]


def set_messages(position: Position, assignments: Sequence[bytes]) -> Iterator[bytes]:
    """ControllerMessages with a CompleteSet in as many parts as it takes; at least one, the last says so."""
    parts = list(parts_of(assignments)) or [[]]
    for number, part in enumerate(parts, start=1):
        head = CompleteSet(position=position, last=number == len(parts)).SerializeToString()
        yield field(_SET, head + b"".join(field(_SET_ASSIGNMENTS, assignment) for assignment in part))


def delta_messages(position: Position, changed: Sequence[bytes], forgotten: Sequence[str]) -> Iterator[bytes]:
    """ControllerMessages with Deltas. Each part stands for itself, so each has the position."""
    for number, part in enumerate(list(parts_of(changed)) or [[]]):
        head = Delta(position=position, forgotten=forgotten if number == 0 else ()).SerializeToString()
        yield field(_DELTA, head + b"".join(field(_DELTA_CHANGED, assignment) for assignment in part))


def parts_of(assignments: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Cut so that no message is too many or too large."""
    part: list[bytes] = []
    size = 0
    for assignment in assignments:
        if part and (len(part) >= MAX_ASSIGNMENTS or size + len(assignment) > MAX_BYTES):
            yield part
            part, size = [], 0
        part.append(assignment)
        size += len(assignment)
    if part:
        yield part


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
