"""Where things are in the store, and the identity of an allocation.

Every key has one writer (docs/architecture.md, "What is in the store"). Keys are plain text under one root; parts
never hold a slash, since names are DNS labels and ids are UUIDs or numbers.
"""

from __future__ import annotations

from hashlib import blake2s
from typing import NamedTuple

ROOT = "/moorage/"
CLUSTER = ROOT + "cluster"
LEADER = ROOT + "leader"


class Slot(NamedTuple):
    """A place in a group that is to be filled: its name, address and kept disk outlive one attempt."""

    job_uid: str
    group: str
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants here


class AllocKey(NamedTuple):
    """One attempt at filling a slot."""

    job_uid: str
    group: str
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants here
    attempt: int

    @property
    def slot(self) -> Slot:
        return Slot(self.job_uid, self.group, self.index)

    @property
    def key(self) -> str:
        return f"{ROOT}alloc/{self.job_uid}/{self.group}/{self.index}/{self.attempt}"

    @property
    def id(self) -> str:
        """16 hexadecimal digits, derived, so that nothing has to store or invent them."""
        return alloc_id(self.job_uid, self.group, self.index, self.attempt)


def alloc_id(job_uid: str, group: str, index: int, attempt: int) -> str:
    return blake2s(f"{job_uid}/{group}/{index}/{attempt}".encode(), digest_size=8).hexdigest()


def parse_alloc(key: str) -> AllocKey:
    """The inverse of `AllocKey.key`. Raises ValueError for any other key."""
    if not key.startswith(ALLOCS):
        raise ValueError(f"not an allocation's key: {key!r}")
    uid, group, index, attempt = key[len(ALLOCS) :].split("/")
    return AllocKey(uid, group, int(index), int(attempt))


JOBS = ROOT + "job/"
JOB_VERSIONS = ROOT + "jobver/"
JOB_STATES = ROOT + "jobstate/"
ALLOCS = ROOT + "alloc/"
STATUSES = ROOT + "status/"
NODES = ROOT + "node/"
PLANS = ROOT + "plan/"
REQUESTS = ROOT + "request/"
TOKENS = ROOT + "token/"
CONTROLLERS = ROOT + "controller/"
EVENTS = ROOT + "event/"
ARRIVALS = ROOT + "arrival/"


def job(project: str, name: str) -> str:
    return f"{JOBS}{project}/{name}"


def job_version(uid: str, version: int) -> str:
    return f"{JOB_VERSIONS}{uid}/{version}"


def job_state(uid: str) -> str:
    return f"{JOB_STATES}{uid}"


def job_allocs(uid: str) -> str:
    """Prefix of all allocations of a job."""
    return f"{ALLOCS}{uid}/"


def status(node: str, alloc: str) -> str:
    return f"{STATUSES}{node}/{alloc}"


def node_spec(node: str) -> str:
    return f"{NODES}{node}/spec"


def node_state(node: str) -> str:
    return f"{NODES}{node}/state"


def node_facts(node: str) -> str:
    return f"{NODES}{node}/facts"


def plan(plan_id: str) -> str:
    return f"{PLANS}{plan_id}"


def request(uid: str, request_id: str) -> str:
    return f"{REQUESTS}{uid}/{request_id}"


def token(token_id: str) -> str:
    return f"{TOKENS}{token_id}"


def controller(controller_id: str) -> str:
    return f"{CONTROLLERS}{controller_id}"


def arrival(arrival_id: str) -> str:
    return f"{ARRIVALS}{arrival_id}"


def event(event_id: str) -> str:
    """Event ids begin with their time, so that the store keeps them in order."""
    return f"{EVENTS}{event_id}"
