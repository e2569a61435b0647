"""From a blocking reader to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from agent.drivers.pump import pumped


def nothing() -> None:
    pass


async def test_pieces_arrive_in_order_and_the_end_is_told() -> None:
    assert [n async for n in pumped(lambda: iter(range(100)), nothing, name="t", ahead=4)] == list(range(100))


async def test_a_failure_of_the_reader_arrives_after_what_it_read() -> None:
    def fails() -> Iterator[int]:
        yield 1
        raise OSError("the engine went")

    pieces = pumped(fails, nothing, name="t")
    assert await anext(pieces) == 1
    with pytest.raises(OSError, match="the engine went"):
        await anext(pieces)


async def test_the_reader_gets_only_so_far_ahead_of_a_slow_consumer() -> None:
    read: list[int] = []

    def counts() -> Iterator[int]:
        for n in range(1000):
            read.append(n)
            yield n

    async with aclosing(pumped(counts, nothing, name="t", ahead=5)) as pieces:
        await anext(pieces)
        await asyncio.sleep(0.1)
        assert len(read) <= 8


async def test_the_source_is_closed_at_once_when_the_consumer_goes() -> None:
    woken, released = threading.Event(), threading.Event()

    def waits() -> Iterator[int]:
        try:
            yield 1
            woken.wait(10)
        finally:
            released.set()

    async with aclosing(pumped(waits, woken.set, name="t")) as pieces:
        assert await anext(pieces) == 1
    assert woken.is_set()
    assert await asyncio.to_thread(released.wait, 2)


async def test_a_reader_that_waits_for_room_is_let_go_as_well() -> None:
    released = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            released.set()

    async with aclosing(pumped(endless, nothing, name="t", ahead=2)) as pieces:
        await anext(pieces)
    assert await asyncio.to_thread(released.wait, 2)
