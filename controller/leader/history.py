"""Tells an old backup of the store from the present, by what an agent has acted on.

Every position that an agent is given names the term (leadership) under which it was handed out, and `cluster` lists
the terms with the revisions at which they began. So the list divides the store's history into stretches, each under
one term, and a position (term, revision) is a point that this history either passed through or did not:

- a revision beyond the store's own was never reached here;
- an arrival (a mark that each process makes before it writes anything, controller.leader.arrival) that is not there,
  or behind which another stands at or before the revision, is of another history: on a backup, whatever is written
  comes after a new arrival;
- a term that is not listed never was here, unless it is so old that the list no longer reaches back to it;
- a revision at or after the beginning of the next term belongs, in this history, to that term: the one in which it was
  the older term's was another. This is what still shows after a restored store has grown beyond the agent's revision.

It holds because a dispatcher stamps a revision with a term only where its cache shows, at that very revision, the
leader key of that term, and with the newest arrival that it shows then (docs/adr/0002-terms-tell-an-old-backup.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from moorage.wire.session_pb2 import Position
from moorage.wire.store_pb2 import Cluster

Arrivals = Sequence[tuple[str, int]]
"""Ids and the revisions that made them, oldest first."""


def judge(cluster: Cluster, arrivals: Arrivals, store_revision: int, seen: Position) -> str:
    """Why what the agent has seen contradicts this store's history, in the user's words; "" where it does not."""
    if seen.generation > cluster.generation:
        return (
            f"the agent has seen generation {seen.generation} of this cluster, the store knows {cluster.generation}: "
            "the store is an older backup"
        )
    if seen.generation < cluster.generation:
        return ""
    if seen.revision > store_revision:
        return (
            f"the agent has acted on revision {seen.revision}, the store is at {store_revision}: "
            "the store is an older backup"
        )
    return _judge_arrival(arrivals, seen) or _judge_term(cluster, seen)


def _judge_arrival(arrivals: Arrivals, seen: Position) -> str:
    """The oldest arrivals are removed in time: one from before the oldest proves nothing."""
    if not seen.arrival or not arrivals or seen.revision < arrivals[0][1]:
        return ""
    # The newest that is not past what was seen must be the one that was seen.
    newest = max((one for one in arrivals if one[1] <= seen.revision), key=lambda one: one[1])
    if newest[0] == seen.arrival:
        return ""
    return (
        f"the agent has acted on revision {seen.revision}, before which, in this store, a controller arrived at "
        f"revision {newest[1]} of which the agent's history knows nothing: the store is an older backup that went on"
    )


def _judge_term(cluster: Cluster, seen: Position) -> str:
    if not seen.term:
        return ""
    terms = cluster.terms
    place = next((index for index, term in enumerate(terms) if term.id == seen.term), None)
    if place is None:
        return _unknown(cluster, seen)
    if place + 1 < len(terms) and seen.revision >= terms[place + 1].revision:
        return (
            f"the agent has acted on revision {seen.revision} of leadership {seen.term}, which in this store ended "
            f"before revision {terms[place + 1].revision}: the store is an older backup that went on by itself"
        )
    return ""


def _unknown(cluster: Cluster, seen: Position) -> str:
    """The oldest terms are dropped from the list: one from before its beginning proves nothing."""
    if cluster.terms and seen.revision < cluster.terms[0].revision:
        return ""
    return (
        f"the agent has acted on revision {seen.revision} of leadership {seen.term}, which this store has never had: "
        "the store is an older backup"
    )
