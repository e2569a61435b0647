"""A leadership as values, and the record of leaderships in `cluster`."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass

from controller.store.protocol import Absent, CreatedAt, KeyValue, Put, Unchanged
from moorage.wire import keys
from moorage.wire.store_pb2 import Cluster, Term

KEPT_TERMS = 256


class NotLeading(Exception):
    """This controller does not lead (any more): nothing was written."""


@dataclass(frozen=True, slots=True)
class LeadershipTerm:
    id: str
    fence: CreatedAt  # holds as long as this leadership's key does
    revision: int  # at which it began


def new_id(rng: random.Random) -> str:
    return f"{rng.getrandbits(64):016x}"


def recorded(found: KeyValue | None, term: LeadershipTerm, controller: str, rng: random.Random) -> Cluster:
    """The cluster with this term added; a new cluster, of generation 1, where there is none."""
    cluster = Cluster.FromString(found.value) if found else Cluster(id=_uuid(rng), generation=1)
    cluster.terms.append(Term(id=term.id, revision=term.revision, controller=controller))
    del cluster.terms[:-KEPT_TERMS]
    return cluster


def record(found: KeyValue | None, cluster: Cluster) -> tuple[Absent | Unchanged, Put]:
    """The guard and the write that put it in place."""
    guard = Unchanged(keys.CLUSTER, found.revision) if found else Absent(keys.CLUSTER)
    return guard, Put(keys.CLUSTER, cluster.SerializeToString())


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
