"""What a plain scalar means, and where its meaning in YAML 1.1 would surprise."""

from __future__ import annotations

import re
from typing import Any

TAG = "tag:yaml.org,2002:"
MERGE = TAG + "merge"

_SCALARS = ("str", "int", "float", "bool", "null", "timestamp")
_TRUE = ("yes", "true", "on")
_PLAIN_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
_PLAIN_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})\.[0-9]{0,18}")


def taken(tag: str) -> bool:
    """Whether we take scalars of this tag at all."""
    return tag.removeprefix(TAG) in _SCALARS


def meaning(tag: str, text: str) -> Any:
    """The value; the text itself where `trap` has something to say."""
    kind = tag.removeprefix(TAG)
    if kind == "bool":
        return text.lower() in _TRUE
    if kind == "int" and _PLAIN_INT.fullmatch(text):
        return int(text)
    if kind == "float" and _PLAIN_FLOAT.fullmatch(text):
        return float(text)
    return None if kind == "null" else text


def word(tag: str) -> str:
    words = {"bool": "true or false", "int": "a number", "float": "a number", "null": "nothing", "timestamp": "a date"}
    return words.get(tag.removeprefix(TAG), "something other than text")


def trap(tag: str, text: str) -> str:
    """Scalars whose meaning in YAML 1.1 would surprise."""
    kind = tag.removeprefix(TAG)
    if kind == "int" and not _PLAIN_INT.fullmatch(text):
        return f"{text[:40]} is not a plain decimal number, and YAML would read another one"
    if kind == "float" and not _PLAIN_FLOAT.fullmatch(text):
        return f"{text[:40]} is not a plain decimal number, and YAML would read another one"
    return f"YAML reads {text[:40]} as a date" if kind == "timestamp" else ""
