"""Preconditions of writes: an object's ETag is its revision in quotes.

`If-Match: "42"` writes only over revision 42, `If-Match: *` only over something, `If-None-Match: *` only where nothing
is. A bare number is taken for a quoted one. Weak tags never match, since writes need the strong comparison.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header

from controller.api.problems import PRECONDITION_FAILED, Refused

_TAG = r'((W/)?"[!#-~]*"|[0-9]+)'
PATTERN = rf"^(\*|{_TAG}(,[ ]?{_TAG})*)$"
_TAGS = re.compile(r'(?P<weak>W/)?"(?P<quoted>[!#-~]*)"|(?P<bare>[0-9]+)')


def etag(revision: int) -> str:
    return f'"{revision}"'


@dataclass(frozen=True, slots=True)
class Condition:
    """A set of revisions, or any at all."""

    anything: bool
    tags: frozenset[str] = frozenset()

    def matches(self, revision: int | None) -> bool:
        """`revision` is None where the object does not exist."""
        return revision is not None and (self.anything or str(revision) in self.tags)


@dataclass(frozen=True, slots=True)
class Precondition:
    if_match: Condition | None = None
    if_none_match: Condition | None = None

    def check(self, what: str, revision: int | None) -> None:
        """Raises Refused (`precondition_failed`) that says the current revision."""
        now = f"has revision {revision} now" if revision is not None else "does not exist"
        if self.if_match is not None and not self.if_match.matches(revision):
            raise _failed(f"{what} {now}, which If-Match does not name.", revision)
        if self.if_none_match is not None and self.if_none_match.matches(revision):
            raise _failed(f"{what} {now}, which If-None-Match rules out.", revision)


def parse(text: str | None) -> Condition | None:
    if text is None:
        return None
    if text.strip() == "*":
        return Condition(True)
    found = _TAGS.finditer(text)
    return Condition(False, frozenset(tag["quoted"] or tag["bare"] or "" for tag in found if not tag["weak"]))


def precondition(
    if_match: Annotated[str | None, Header(pattern=PATTERN, max_length=400)] = None,
    if_none_match: Annotated[str | None, Header(pattern=PATTERN, max_length=400)] = None,
) -> Precondition:
    return Precondition(parse(if_match), parse(if_none_match))


Preconditions = Annotated[Precondition, Depends(precondition)]


def _failed(detail: str, revision: int | None) -> Refused:
    headers = {"ETag": etag(revision)} if revision is not None else None
    return Refused(PRECONDITION_FAILED, detail, hint="Read it again and decide anew.", headers=headers)
