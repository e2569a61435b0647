"""From an assignment to what a driver is told to start, and back from labels to an assignment.

The labels are what a lost journal is rebuilt from: everything that identifies the allocation, but not its spec, which
comes again with the next set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.drivers import labels
from agent.drivers.protocol import Launch, TaskId
from agent.expand import expand_all, group_variables, task_environment
from moorage.wire.session_pb2 import Assignment
from moorage.wire.spec_pb2 import NETWORK_HOST, TaskSpec


@dataclass(slots=True)
class Identity:
    """Who this node is. The cluster is "" until it has joined one; `address` is where its own ports are reached."""

    node_id: str
    node_name: str
    cluster_id: str = ""
    address: str = "127.0.0.1"


def variables(assignment: Assignment, identity: Identity) -> dict[str, str]:
    address = identity.address if assignment.spec.network == NETWORK_HOST else "127.0.0.1"
    return group_variables(assignment, node=identity.node_name, address=address)


def launch(assignment: Assignment, task: TaskSpec, run: int, cgroup_parent: str, identity: Identity) -> Launch:
    known = {**variables(assignment, identity), "MOOR_TASK": task.name}
    return Launch(
        id=TaskId(assignment.alloc, task.name, run),
        spec=task,
        env=task_environment(task.env, known),
        command=expand_all(task.container.command, known),
        entrypoint=expand_all(task.container.entrypoint, known),
        labels=_labels(assignment, task.name, run, identity),
        cgroup_parent=cgroup_parent,
        hostname=f"{assignment.job}-{assignment.group}-{assignment.index}"[-63:].lstrip("-"),
    )


def _labels(assignment: Assignment, task: str, run: int, identity: Identity) -> dict[str, str]:
    return {
        labels.CLUSTER: identity.cluster_id,
        labels.NODE: identity.node_id,
        labels.PROJECT: assignment.project,
        labels.JOB: assignment.job,
        labels.JOB_UID: assignment.job_uid,
        labels.GROUP: assignment.group,
        labels.INDEX: str(assignment.index),
        labels.ATTEMPT: str(assignment.attempt),
        labels.VERSION: str(assignment.version),
        labels.ALLOC: assignment.alloc,
        labels.TASK: task,
        labels.RUN: str(run),
    }


def from_labels(found: Mapping[str, str]) -> Assignment | None:
    """None where they are not all there: not a container that this agent started."""
    try:
        return Assignment(
            alloc=found[labels.ALLOC],
            project=found[labels.PROJECT],
            job=found[labels.JOB],
            job_uid=found[labels.JOB_UID],
            group=found[labels.GROUP],
            index=int(found[labels.INDEX]),
            attempt=int(found[labels.ATTEMPT]),
            version=int(found[labels.VERSION]),
        )
    except (KeyError, ValueError):
        return None
