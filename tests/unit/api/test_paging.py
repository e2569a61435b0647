"""Pages."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api import paging
from controller.api.problems import Refused


def key(number: int) -> paging.SortKey:
    return ("n", number)


async def all_pages(numbers: list[int], limit: int) -> list[list[int]]:
    pages, after = [], None
    while True:
        cut = await paging.cut(numbers, paging.Page(limit, after), key)
        pages.append(cut.items)
        if cut.next is None:
            return pages
        after = paging.decode(cut.next)


@given(st.sets(st.integers(0, 200)), st.integers(1, 20))
def test_pages_hold_everything_once_and_in_order(numbers: set[int], limit: int) -> None:
    pages = asyncio.run(all_pages(list(numbers), limit))
    assert [number for page in pages for number in page] == sorted(numbers)
    assert all(len(page) == limit for page in pages[:-1])


async def test_what_comes_and_goes_between_two_pages_hides_nothing_else() -> None:
    first = await paging.cut([1, 3, 5, 7], paging.Page(2, None), key)
    assert (first.items, first.next is not None) == ([1, 3], True)
    second = await paging.cut([2, 5, 7, 9], paging.Page(5, paging.decode(str(first.next))), key)
    assert second.items == [5, 7, 9]


async def test_a_filter_is_asked_for_no_more_than_the_page_needs() -> None:
    asked: list[int] = []

    def even(number: int) -> bool:
        asked.append(number)
        return number % 2 == 0

    cut = await paging.cut(range(10_000), paging.Page(3, None), key, even)
    assert cut.items == [0, 2, 4]
    assert len(asked) == 7


async def test_a_long_list_lets_others_run_in_between() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await paging.cut(range(25_000), paging.Page(500, None), key)
    task.cancel()
    assert turns > 10


@pytest.mark.parametrize("text", ["", "x", "!!", "eyJhIjoxfQ==", "WzEuNV0=", "bnVsbA==", "ä"])
def test_a_token_that_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        paging.decode(text)
    assert refused.value.code.status == 422


async def test_the_token_of_another_list_is_refused() -> None:
    with pytest.raises(Refused):
        await paging.cut([1, 2], paging.Page(5, (1, "n")), key)
