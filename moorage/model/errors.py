"""What is wrong with a document, said so that its author can mend it: where, what, and what was probably meant.

Kept free of pydantic and YAML: whoever only reports errors does not pay for importing either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_MOST_TEXT = 400
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class FieldError:
    """`path` is as in the YAML (`groups.web.count`), empty for the whole document; `line` counts from 1."""

    path: str
    message: str
    suggestion: str = ""
    line: int | None = None
    source: str = ""

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        text = ": ".join(part for part in (place.strip(":"), self.path, self.message) if part)
        return f"{text} ({self.suggestion})" if self.suggestion else text


class SpecError(ValueError):
    """All that is wrong with what was submitted; nothing of it was accepted."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


def printable(text: str) -> str:
    """Bounded, and without halves of surrogate pairs, which JSON may hold and no answer could carry back."""
    text = text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 3] + "..."
    return text.encode(errors="backslashreplace").decode()


def path_text(location: Sequence[str | int]) -> str:
    """`("constraints", 0, "value")` -> `constraints[0].value`; keys that hold dots are quoted in brackets."""
    text = ""
    for part in location:
        part = f"{part[:61]}..." if isinstance(part, str) and len(part) > 64 else part
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text
