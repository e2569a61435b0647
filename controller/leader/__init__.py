"""Leadership among controllers: a key on a lease, fenced writes, and the record of terms."""

from controller.leader.history import judge
from controller.leader.leader import Leader
from controller.leader.term import LeadershipTerm, NotLeading

__all__ = ["Leader", "LeadershipTerm", "NotLeading", "judge"]
