"""Troubles of the store: shown while they last, told once when they begin and once when they end."""

from __future__ import annotations

from controller.store.trouble import Troubles


def test_a_trouble_is_told_at_its_beginning_and_end_and_shown_in_between() -> None:
    troubles, told = Troubles(), []
    troubles.subscribe(lambda text, begins: told.append((text, begins)))
    etcd, quota = troubles.part(), troubles.part()
    etcd.say("")
    etcd.say("etcd has ended: killed")
    quota.say("the store is full: 3 MiB")
    quota.say("the store is full: 4 MiB")
    assert troubles.current() == ["etcd has ended: killed", "the store is full: 4 MiB"]
    etcd.say("")
    quota.say("")
    assert troubles.current() == []
    assert told == [
        ("etcd has ended: killed", True),
        ("the store is full: 3 MiB", True),
        ("etcd has ended: killed", False),
        ("the store is full: 4 MiB", False),
    ]
