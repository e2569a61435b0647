"""Where instances may, should, and should not all run: constraints, affinity, spread.

All three speak about attributes of nodes: what the fingerprint found (os.arch, docker.version) and the labels that
people gave (label.disk).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from moorage.model.base import Base, Listed, Problem, is_stored, problems, refusal
from moorage.model.fields import Attribute, Level, Text
from moorage.model.suggest import did_you_mean

Operator = Literal[
    "=", "!=", "in", "not_in", "<", ">", "<=", ">=", "exists", "not_exists", "regexp", "version", "set_contains"
]

LEVELS = {"node": "node.id", "rack": "label.rack", "zone": "label.zone", "region": "label.region"}
"""The attribute that tells the places of a level apart."""

_LISTS = ("in", "not_in")
_EITHER = ("set_contains",)
_NOTHING = ("exists", "not_exists")
_ORDERED = ("<", ">", "<=", ">=")
_ORDERABLE = re.compile(r"-?[0-9]+(\.[0-9]+)*([-+.~][0-9A-Za-z.+~-]+)?")
_VERSION = re.compile(r"\s*(=|!=|<|>|<=|>=|~>)?\s*v?[0-9]+(\.[0-9]+)*([-+.~][0-9A-Za-z.+~-]+)?\s*")


def _read_value(value: Any) -> Any:
    """Whole numbers stand for their digits; other numbers do not, for 1.10 would become 1.1."""
    if isinstance(value, list):
        return tuple(_read_value(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, (str, tuple)):
        return value
    raise refusal("must be text or a list of texts", "write it in quotes")


Value = Annotated[
    Text | tuple[Text, ...],
    BeforeValidator(_read_value),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "integer"},
                {"type": "array", "items": {"type": ["string", "integer"]}},
            ]
        }
    ),
]


class Condition(Base):
    attribute: Attribute
    """What is looked at: os.arch, os.kernel, docker.version, label.disk …"""
    operator: Operator = "="
    """How it is compared."""
    value: Value = ""
    """What it is compared with: a list for in and not_in, nothing for exists and not_exists."""

    @model_validator(mode="after")
    def _meaningful(self, info: ValidationInfo) -> Any:
        if not is_stored(info) and (problem := _problem(self.operator, self.value)):
            raise problems([problem])
        return self


class Constraint(Condition):
    """Something that must hold for a node."""


class Affinity(Condition):
    """Something that counts for a node, or against it."""

    weight: int = Field(default=50, ge=-100, le=100)
    """How much: from -100 (avoid) to 100."""


class Spread(Base):
    """Instances are spread over the values of an attribute: evenly, or towards shares in percent."""

    attribute: Attribute
    """node.id for the level node, label.rack for rack …"""
    targets: dict[Text, Annotated[int, Field(ge=0, le=100)]] = Field(default_factory=dict)
    """Value -> percent of the instances; the rest is spread evenly over the other values."""

    @model_validator(mode="before")
    @classmethod
    def _from_level(cls, data: Any) -> Any:
        if not isinstance(data, str):
            return data
        if data not in LEVELS:
            raise refusal(
                f"{data!r} is not a level: node, rack, zone or region, or {{attribute: …}}", did_you_mean(data, LEVELS)
            )
        return {"attribute": LEVELS[data]}

    @model_validator(mode="after")
    def _at_most_all(self, info: ValidationInfo) -> Any:
        total = sum(self.targets.values())
        if total > 100 and not is_stored(info):
            raise problems([Problem(("targets",), f"must be at most 100 percent together, are {total}")])
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        mapping = handler.resolve_ref_schema(handler(core_schema))
        return {"anyOf": [{"enum": list(get_args(Level))}, mapping]}


Constraints = Listed[Constraint]
Affinities = Listed[Affinity]
Spreads = Listed[Spread]


def _problem(operator: str, value: str | tuple[str, ...]) -> Problem | None:
    listed = isinstance(value, tuple)
    if operator in _NOTHING:
        return Problem(("value",), f"{operator} takes no value") if value else None
    if not value:
        return Problem(("value",), f"{operator} needs a value")
    if operator in _LISTS:
        return None if listed else Problem(("value",), f"{operator} needs a list", f"write [{value}]")
    if listed:
        return None if operator in _EITHER else Problem(("value",), f"{operator} takes one value", "did you mean in?")
    return _text_problem(operator, str(value))


def _text_problem(operator: str, value: str) -> Problem | None:
    if operator in _ORDERED and not _ORDERABLE.fullmatch(value):
        return Problem(("value",), f"{operator} compares numbers and versions, and {value!r} is neither")
    if operator == "version" and not all(_VERSION.fullmatch(part) for part in value.split(",")):
        return Problem(("value",), f"{value!r} is not a version condition", "like >= 20.10, < 28")
    if operator == "regexp":
        return _regexp_problem(value)
    return None


def _regexp_problem(value: str) -> Problem | None:
    import re2  # only jobs that use one pay for it

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(value, options)
    except re2.error as error:
        text = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        return Problem(("value",), f"{value!r} is not a regular expression (RE2): {text}")
    return None
