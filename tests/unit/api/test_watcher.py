"""What one watcher is told, and what it never queues."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from controller.api.watch import BATCH, Watcher
from controller.cache import Change
from moorage.model.view import EventView, View


class Things:
    """A feed of named numbers."""

    def __init__(self, **things: int) -> None:
        self.things = things
        self.viewed = 0

    def names(self) -> Iterable[str]:
        return list(self.things)

    def touched(self, change: Change) -> Iterable[str]:
        return (change.key,)

    def view(self, name: str) -> View | None:
        self.viewed += 1
        return EventView(at_ms=self.things[name], kind=name, message="") if name in self.things else None


def changed(*names: str) -> Sequence[Change]:
    return [Change("event", name, None, None) for name in names]


def told(watcher: Watcher, revision: int = 1) -> list[tuple[Any, ...]]:
    lines = [json.loads(line) for line in watcher.turn(revision).splitlines()]
    return [
        (x["type"], *((x["object"]["kind"], x["object"]["at_ms"]) if x["object"] else ()), *filter(None, [x["name"]]))
        for x in lines
    ]


def synced(feed: Things, backlog: int = 50) -> Watcher:
    watcher = Watcher(feed, backlog)
    while ("synced",) not in told(watcher):
        pass
    return watcher


def test_first_everything_then_synced() -> None:
    watcher = Watcher(Things(a=1, b=2), 50)
    assert told(watcher) == [("reset",)]
    assert told(watcher) == [("put", "a", 1), ("put", "b", 2), ("synced",)]
    assert told(watcher) == []


def test_nothing_at_all_is_synced_too() -> None:
    watcher = Watcher(Things(), 50)
    assert told(watcher) + told(watcher) == [("reset",), ("synced",)]


def test_an_object_that_changed_ten_times_is_told_once_as_it_is_now() -> None:
    feed = Things(a=1)
    watcher = synced(feed)
    for value in range(2, 12):
        feed.things["a"] = value
        watcher.changed(changed("a"))
    assert told(watcher) == [("put", "a", 11)]


def test_a_change_during_the_first_telling_is_not_lost() -> None:
    feed = Things(**{f"n{i}": i for i in range(BATCH + 5)})
    watcher = Watcher(feed, 50)
    told(watcher)
    told(watcher)
    feed.things["n0"] = 1000
    watcher.changed(changed("n0"))
    rest = told(watcher)
    assert ("put", "n0", 1000) in rest
    assert rest[-1] == ("synced",)


def test_what_goes_is_told_by_name_and_only_to_who_knew_it() -> None:
    feed = Things(a=1)
    watcher = synced(feed)
    del feed.things["a"]
    watcher.changed(changed("a", "never-seen"))
    assert told(watcher) == [("delete", "a")]
    watcher.changed(changed("a"))
    assert told(watcher) == []


def test_a_watcher_that_is_far_behind_is_reset_and_keeps_little() -> None:
    feed = Things(a=1)
    watcher = synced(feed, backlog=10)
    for number in range(1000):
        watcher.changed(changed(f"n{number}"))
    assert len(watcher._dirty) <= 10
    assert told(watcher) == [("reset",)]
    assert told(watcher) == [("put", "a", 1), ("synced",)]


def test_a_watcher_that_stalls_during_the_first_telling_is_bounded_as_well() -> None:
    feed = Things(**{f"n{i}": i for i in range(300)})
    watcher = Watcher(feed, 10)
    told(watcher)
    for number in range(1000):
        watcher.changed(changed(f"m{number}"))
    assert len(watcher._dirty) <= 310
    assert ("reset",) in told(watcher) + told(watcher)


async def test_silence_is_noticed() -> None:
    watcher = synced(Things())
    assert await watcher.wait(0.01) is False
    watcher.changed(changed("a"))
    assert await watcher.wait(0.01) is True
