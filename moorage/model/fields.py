"""The types of single fields: quantities, names, ports, and texts with rules of their own.

Each reads what people write, keeps a plain integer or text, and prints its canonical form. The JSON Schemas here are
what editors complete and check with.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from moorage.model import quantities as q
from moorage.model.base import at_least, check, not_yet, refusal
from moorage.model.suggest import did_you_mean

AUTO = 0
"""A port that is chosen at placement."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_ATTRIBUTE = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._/-]{0,126}[A-Za-z0-9_])?")
_PERCENT = re.compile(r"([1-9][0-9]?|100)%")
_SYSCTL = re.compile(r"[a-z0-9_]+([./][a-zA-Z0-9_-]+)+")
_MOST_TEXT = 32 * 1024


def _quantity(parse: Callable[[Any], int], word: str | None = None, stands_for: int = 0) -> BeforeValidator:
    def read(value: Any) -> int:
        if word is not None and value == word:
            return stands_for
        try:
            return parse(value)
        except q.QuantityError as error:
            extra = f", or the word {word}" if word else ""
            raise refusal(f"{error}{extra}", error.suggestion) from None

    return BeforeValidator(read)


def _quantity_schema(pattern: str, *, bare: str | None = None, word: str | None = None) -> WithJsonSchema:
    kinds: list[dict[str, Any]] = [{"type": "string", "pattern": pattern}]
    if bare:
        kinds.append({"type": bare, "minimum": 0})
    if word:
        kinds.append({"const": word})
    return WithJsonSchema(kinds[0] if len(kinds) == 1 else {"anyOf": kinds})


Cpu = Annotated[
    int,
    _quantity(q.parse_cpu),
    at_least(10, "10m, the least that a cgroup can be held to"),
    PlainSerializer(q.format_cpu, return_type=str),
    _quantity_schema(q.CPU_PATTERN, bare="number"),
]
Bytes = Annotated[
    int,
    _quantity(q.parse_bytes),
    PlainSerializer(q.format_bytes, return_type=str),
    _quantity_schema(q.BYTES_PATTERN, bare="integer"),
]
Memory = Annotated[Bytes, at_least(6 << 20, "6Mi, the least that the engine starts a container with")]
Duration = Annotated[
    int,
    _quantity(q.parse_duration),
    PlainSerializer(q.format_duration, return_type=str),
    _quantity_schema(q.DURATION_PATTERN),
]
PositiveDuration = Annotated[Duration, at_least(100, "100ms")]
DurationOrNever = Annotated[
    int,
    _quantity(q.parse_duration, "never", q.NEVER),
    PlainSerializer(q.format_duration, return_type=str),
    _quantity_schema(q.DURATION_PATTERN, word="never"),
]


def _read_port(value: Any) -> int:
    if value == "auto":
        return AUTO
    if isinstance(value, dict):
        raise not_yet("a port that is also published on the node is", "write the number alone, with networks: host")
    if isinstance(value, str) and value.isdecimal() and len(value) <= 5:
        raise refusal(f'must be a port number or auto, is the text "{value}"', f"write {value} without quotes")
    if isinstance(value, bool) or not isinstance(value, int):
        raise refusal("must be a port number or auto")
    if not 1 <= value <= 65535:
        raise refusal(f"must be a port number from 1 to 65535, is {value}")
    return value


Port = Annotated[
    int,
    BeforeValidator(_read_port),
    PlainSerializer(lambda port: port or "auto", return_type=int | str),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"const": "auto"}]}),
]


def _read_attempts(value: Any) -> int:
    if value == "unlimited":
        return q.UNLIMITED
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10_000:
        raise refusal("must be a whole number from 0 to 10000, or the word unlimited")
    return value


Attempts = Annotated[
    int,
    BeforeValidator(_read_attempts),
    PlainSerializer(lambda count: "unlimited" if count == q.UNLIMITED else count, return_type=int | str),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 10_000}, {"const": "unlimited"}]}),
]


def _read_share(value: Any) -> int | str:
    if isinstance(value, str) and _PERCENT.fullmatch(value):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10_000:
        guess = f"did you mean {value}%?" if isinstance(value, str) and value.isdecimal() else ""
        raise refusal("must be a whole number from 1, or a percentage from 1% to 100%", guess)
    return value


Share = Annotated[
    int | str,
    BeforeValidator(_read_share),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[0-9]{1,3}%$"}]}),
]


def share_of(share: int | str, count: int) -> int:
    """How many of `count` a Share means: at least one, percentages rounded down."""
    if isinstance(share, int):
        return share
    return max(1, count * int(share.removesuffix("%")) // 100)


def _check_name(value: str) -> None:
    if _LABEL.fullmatch(value):
        return
    if "/" in value:
        raise refusal(f"{_cut(value)} holds a slash: a name is one DNS label", _name_guess(value))
    rule = "a name is a DNS label: lower-case letters, digits and -, at most 63, first and last no -"
    raise refusal(f"{_cut(value) or 'an empty text'} is not a name: {rule}", _name_guess(value))


def _name_guess(value: str) -> str:
    guess = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:63].strip("-")
    return f"did you mean {guess}?" if guess else ""


Name = Annotated[str, check(_check_name), WithJsonSchema({"type": "string", "pattern": f"^{_LABEL.pattern}$"})]


def _check_text(value: str) -> None:
    if "\0" in value:
        raise refusal("holds a NUL character")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise refusal("holds half a character (a lone surrogate)")
    if len(value) > _MOST_TEXT:
        raise refusal(f"is {len(value)} characters long: at most {_MOST_TEXT}")


Text = Annotated[str, check(_check_text)]


def _check_env_name(value: str) -> None:
    if not _ENV_NAME.fullmatch(value):
        raise refusal(
            f"{_cut(value)} is not the name of an environment variable: letters, digits and _, no digit first"
        )
    if value.startswith("MOOR_"):
        raise refusal(f"{_cut(value)}: names that begin with MOOR_ are given by Moorage")


EnvName = Annotated[str, check(_check_env_name)]


def _read_env_value(value: Any) -> Any:
    if isinstance(value, dict):
        raise not_yet("a secret in env is")
    return value


EnvValue = Annotated[Text, BeforeValidator(_read_env_value), WithJsonSchema({"type": "string"})]


def matches(pattern: re.Pattern[str], what: str) -> Any:
    """A check that the whole text matches; `what` completes "… is not"."""

    def test(value: str) -> None:
        if not pattern.fullmatch(value):
            raise refusal(f"{_cut(value) or 'an empty text'} is not {what}")

    return check(test)


LabelKey = Annotated[str, matches(_LABEL_KEY, "a label's name: letters, digits, . _ / -, at most 63")]
LabelValue = Annotated[str, matches(_LABEL_VALUE, "a label's value: letters, digits, . _ -, at most 63")]
Attribute = Annotated[str, matches(_ATTRIBUTE, "an attribute of nodes, like os.arch or label.disk")]
SysctlName = Annotated[str, matches(_SYSCTL, "a sysctl, like net.core.somaxconn")]
AbsolutePath = Annotated[Text, matches(re.compile(r"/[^\0]*"), "an absolute path, like /srv")]

_SIGNALS = frozenset("TERM INT QUIT HUP KILL USR1 USR2 ALRM ABRT CONT STOP WINCH PIPE TSTP TTIN TTOU URG IO".split())


def _read_signal(value: Any) -> Any:
    name = value.removeprefix("SIG") if isinstance(value, str) else value
    if isinstance(name, str) and name not in _SIGNALS:
        raise refusal(f"{_cut(value)} is not the name of a signal, like TERM", did_you_mean(name.upper(), _SIGNALS))
    return name


Signal = Annotated[str, BeforeValidator(_read_signal)]
Level = Literal["node", "rack", "zone", "region"]


def _cut(text: str) -> str:
    return text if len(text) <= 64 else text[:61] + "..."
