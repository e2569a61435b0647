"""Statuses on their way to the controller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.journal import Journal
from agent.outbox import WINDOW_S, Outbox
from moorage.kit.clock import ManualClock
from moorage.wire.store_pb2 import AllocStatus


def status(alloc: str, serial: int) -> AllocStatus:
    return AllocStatus(alloc=alloc, serial=serial)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def outbox(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Outbox]:
    journal = Journal(tmp_path / "journal.db")
    yield Outbox(journal, clock)
    await journal.close()


async def test_one_that_comes_alone_leaves_at_once(outbox: Outbox) -> None:
    outbox.put(status("a", 1))
    batch = await asyncio.wait_for(outbox.next_batch(), 1)
    assert list(batch.statuses) == [status("a", 1)]


async def test_those_that_follow_leave_together_and_only_the_newest_of_each(outbox: Outbox, clock: ManualClock) -> None:
    outbox.put(status("a", 1))
    await outbox.next_batch()
    outbox.put(status("b", 1))
    following = asyncio.create_task(outbox.next_batch())
    await asyncio.sleep(0)
    outbox.put(status("c", 1))
    outbox.put(status("b", 2))
    await clock.advance(WINDOW_S / 2)
    assert not following.done()
    await clock.advance(WINDOW_S / 2)
    assert list((await following).statuses) == [status("b", 2), status("c", 1)]


async def test_what_was_not_acknowledged_is_sent_again(outbox: Outbox, clock: ManualClock) -> None:
    outbox.put(status("a", 1))
    first = await outbox.next_batch()
    await clock.advance(1)
    outbox.put(status("b", 1))
    await outbox.next_batch()
    outbox.acknowledged(first.serial)
    outbox.resend()
    await clock.advance(1)
    assert list((await outbox.next_batch()).statuses) == [status("b", 1)]


async def test_something_newer_takes_the_place_of_what_was_not_acknowledged(outbox: Outbox, clock: ManualClock) -> None:
    outbox.put(status("a", 1))
    await outbox.next_batch()
    outbox.put(status("a", 2))
    outbox.resend()
    await clock.advance(1)
    assert list((await outbox.next_batch()).statuses) == [status("a", 2)]
    assert len(outbox) == 1


async def test_what_has_been_forgotten_is_not_sent(outbox: Outbox, clock: ManualClock) -> None:
    outbox.put(status("a", 1))
    await outbox.next_batch()
    outbox.put(status("b", 1))
    outbox.forget("a")
    outbox.forget("b")
    outbox.resend()
    assert len(outbox) == 0


async def test_within_a_session_only_what_waits_for_long_is_sent_again(outbox: Outbox, clock: ManualClock) -> None:
    outbox.put(status("a", 1))
    await outbox.next_batch()
    outbox.resend(older_than_s=10)
    assert len(outbox._pending) == 0
    await clock.advance(10)
    outbox.resend(older_than_s=10)
    assert len(outbox._pending) == 1
