"""Stored objects as the tests of cache and dispatcher need them."""

from __future__ import annotations

from controller.store.protocol import Put
from moorage.wire import keys
from moorage.wire.spec_pb2 import Resources
from moorage.wire.store_pb2 import (
    HEALTHY,
    RUNNING,
    Alloc,
    AllocStatus,
    Health,
    Job,
    NodeFacts,
    NodeState,
    Phase,
)

UID = "0b9b5e0e-5f4c-4e2b-9b1e-0d2f6f0f4a11"


def key(index: int = 0, attempt: int = 1, *, uid: str = UID, group: str = "web") -> keys.AllocKey:
    return keys.AllocKey(uid, group, index, attempt)


def put_alloc(
    alloc: keys.AllocKey,
    node: str,
    *,
    stop: bool = False,
    plan: str = "",
    version: int = 1,
    ports: dict[str, int] | None = None,
) -> Put:
    message = Alloc(
        project="default",
        job="hello",
        node=node,
        version=version,
        template_hash=b"h" * 16,
        plan=plan,
        stop=stop,
        stop_reason="scaled down" if stop else "",
        ports=ports or {},
        why="best fit of 2 nodes",
        created_ms=1_700_000_000_000,
        resources=Resources(cpu_millis=250, memory_bytes=64 << 20, disk_bytes=1 << 20),
    )
    return Put(alloc.key, message.SerializeToString())


def alloc_status(
    alloc: keys.AllocKey, phase: Phase.ValueType = RUNNING, health: Health.ValueType = HEALTHY, serial: int = 1
) -> AllocStatus:
    return AllocStatus(
        alloc=alloc.id,
        phase=phase,
        health=health,
        serial=serial,
        changed_ms=1_700_000_000_500,
        healthy_since_ms=1_700_000_000_400 if health == HEALTHY else 0,
        running_since_ms=1_700_000_000_300,
        version=1,
        job_uid=alloc.job_uid,
        group=alloc.group,
        index=alloc.index,
        attempt=alloc.attempt,
    )


def put_status(node: str, status: AllocStatus) -> Put:
    return Put(keys.status(node, status.alloc), status.SerializeToString())


def put_job(name: str = "hello", *, uid: str = UID, version: int = 1, project: str = "default") -> Put:
    return Put(keys.job(project, name), Job(uid=uid, version=version).SerializeToString())


def node_facts(name: str = "h1") -> NodeFacts:
    return NodeFacts(
        name=name,
        cpu_millis=4000,
        memory_bytes=8 << 30,
        disk_bytes=100 << 30,
        attributes={"os.arch": "amd64", "label.disk": "hdd"},
        drivers=["docker"],
    )


def put_node(node: str, name: str = "h1", *, phase: NodeState.Phase.ValueType = NodeState.READY) -> list[Put]:
    state = NodeState(phase=phase, epoch=1, ordinal=1, name=name)
    return [
        Put(keys.node_state(node), state.SerializeToString()),
        Put(keys.node_facts(node), node_facts(name).SerializeToString()),
    ]
