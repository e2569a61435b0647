"""Pages of long lists, and how to go through tens of thousands of entries without holding up the event loop.

A page's `next` says after which entry to go on, not how many to skip: entries that come and go between two pages
neither repeat nor hide others. Its text is for this module alone.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import heapq
import json
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query, Response

from controller.api.problems import invalid
from moorage.model.view import ListView, View

T = TypeVar("T")
V = TypeVar("V", bound=View)

MAX_LIMIT = 500
SLICE = 2_000
"""Entries looked at between two turns of the event loop: about a millisecond."""

SortKey = tuple[str | int, ...]


class Page:
    """What the query asks for: at most `limit` entries, after `after`."""

    __slots__ = ("after", "limit")

    def __init__(self, limit: int, after: SortKey | None) -> None:
        self.limit = limit
        self.after = after


async def _page(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = MAX_LIMIT,
    next: Annotated[str | None, Query(max_length=1024, description="`next` of the page before")] = None,
) -> Page:
    return Page(limit, decode(next) if next is not None else None)


Paged = Annotated[Page, Depends(_page)]


def encode(key: SortKey) -> str:
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode()


def decode(text: str) -> SortKey:
    try:
        key = json.loads(base64.b64decode(text, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise _not_ours() from None
    if not isinstance(key, list) or not all(type(part) in (str, int) for part in key):
        raise _not_ours()
    return tuple(key)


class Cut(Generic[T]):
    """One page of entries and where the next begins, if there is one."""

    __slots__ = ("items", "next")

    def __init__(self, items: list[T], next: str | None) -> None:
        self.items = items
        self.next = next


async def cut(
    entries: Iterable[T], page: Page, key: Callable[[T], SortKey], keep: Callable[[T], bool] | None = None
) -> Cut[T]:
    """The page's entries in order of `key`, which must be unique. `keep` is asked for no more than the page needs."""
    heap = await _after(list(entries), page.after, key)
    found: list[tuple[SortKey, T]] = []
    looked_at = 0
    while heap and len(found) <= page.limit:
        position, entry = heapq.heappop(heap)
        if keep is None or keep(entry):
            found.append((position, entry))
        if (looked_at := looked_at + 1) % 100 == 0:
            await asyncio.sleep(0)
    more = len(found) > page.limit
    items = [entry for _, entry in found[: page.limit]]
    return Cut(items, encode(found[page.limit - 1][0]) if more else None)


async def _after(entries: list[T], after: SortKey | None, key: Callable[[T], SortKey]) -> list[tuple[SortKey, T]]:
    """A heap of what comes after. Keys are unique, so that entries themselves are never compared."""
    heap: list[tuple[SortKey, T]] = []
    for start in range(0, len(entries), SLICE):
        try:
            for entry in entries[start : start + SLICE]:
                position = key(entry)
                if after is None or position > after:
                    heap.append((position, entry))
        except TypeError:  # a page token of another list: text where there are numbers
            raise _not_ours() from None
        await asyncio.sleep(0)
    heapq.heapify(heap)
    return heap


async def rendered(cut: Cut[T], view: Callable[[T], V], revision: int) -> Response:
    """The page as a response, encoded piece by piece."""
    parts: list[bytes] = []
    for start in range(0, len(cut.items), 100):
        parts.extend(view(entry).model_dump_json().encode() for entry in cut.items[start : start + 100])
        await asyncio.sleep(0)
    tail: dict[str, Any] = ListView[View](items=[], revision=revision, next=cut.next).model_dump(exclude={"items"})
    rest = json.dumps(tail, separators=(",", ":")).encode()
    return Response(b'{"items":[' + b",".join(parts) + b"]," + rest[1:], media_type="application/json")


def _not_ours() -> Exception:
    return invalid("next", "is not the token of a next page", "pass on `next` as it was in the page before")
