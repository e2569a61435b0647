"""From changes of the cache to the sessions that they concern.

A new attempt at a slot also concerns the older ones, wherever they run: they are to stop. An allocation whose plan is
not committed yet is held back, and goes out with the plan's mark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controller.cache import AllocEntry, Cache, Change
from controller.dispatcher.assignments import handed_out
from controller.dispatcher.session import Session
from moorage.wire import keys
from moorage.wire.store_pb2 import Alloc


class Router:
    def __init__(self, cache: Cache, sessions: Mapping[str, Session]) -> None:
        self._cache = cache
        self._sessions = sessions
        self._held: dict[str, set[str]] = {}  # plan -> allocations that wait for its mark

    def route(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.kind == "alloc":
                self._alloc(change)
            elif change.kind == "status":
                self._status(change)
            elif change.kind == "plan" and change.new is not None:
                self._plan(change.key[len(keys.PLANS) :])

    def _alloc(self, change: Change) -> None:
        key = keys.parse_alloc(change.key)
        entry = self._cache.alloc(key.id)
        if change.new is None:
            self._gone(change, key)
        elif entry is None:
            return  # came and went within one batch
        elif handed_out(self._cache, entry):
            self._mark(entry, others=change.old is None)
        else:
            self._held.setdefault(entry.plan, set()).add(entry.id)

    def _gone(self, change: Change, key: keys.AllocKey) -> None:
        assert change.old is not None
        node = Alloc.FromString(change.old.value).node
        if (session := self._sessions.get(node)) is not None:
            session.forgotten(key.id)
        for other in self._cache.attempts_of_slot(key.slot):
            self._mark(other, others=False)

    def _status(self, change: Change) -> None:
        node, alloc = change.key[len(keys.STATUSES) :].split("/")
        session = self._sessions.get(node)
        status = self._cache.status(alloc)
        if session is not None and status is not None:
            session.line.passed(alloc, status.serial)

    def _plan(self, plan: str) -> None:
        for alloc in self._held.pop(plan, ()):
            if (entry := self._cache.alloc(alloc)) is not None:
                self._mark(entry, others=True)

    def _mark(self, entry: AllocEntry, *, others: bool) -> None:
        concerned = self._cache.attempts_of_slot(entry.slot) if others else (entry,)
        for each in concerned:
            if (session := self._sessions.get(each.node)) is not None:
                session.changed(each.id)
