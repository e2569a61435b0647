"""From pydantic's errors to ours: in the user's words, with line and suggestion, all of a document at once."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from moorage.model import unsupported
from moorage.model.errors import FieldError, SpecError, path_text, printable
from moorage.model.job import Job
from moorage.model.suggest import did_you_mean

if TYPE_CHECKING:
    from moorage.model.yamltree import Node

Location = tuple[str | int, ...]
_TEXT_KINDS = ("string_type", "string_sub_type")
_SILENT = ("default_factory_not_called",)
_MOST_ERRORS = 100

_MESSAGES = {
    "int_type": "must be a whole number, is {got}",
    "int_from_float": "must be a whole number, is {got}",
    "int_parsing_size": "must be a whole number within reason, is {got}",
    "bool_type": "must be true or false, is {got}",
    "dict_type": "must be a mapping (name: value), is {got}",
    "model_type": "must be a mapping (field: value), is {got}",
    "model_attributes_type": "must be a mapping (field: value), is {got}",
    "tuple_type": "must be a list, is {got}",
    "list_type": "must be a list, is {got}",
    "greater_than_equal": "must be at least {ge}, is {got}",
    "less_than_equal": "must be at most {le}, is {got}",
    "less_than": "must be less than {lt}, is {got}",
    "missing": "is missing",
    "string_unicode": "must be text, and holds half a character (a lone surrogate)",
    "too_long": "holds {actual_length} entries: at most {max_length}",
}


def parse_job(data: Any, *, tree: Node | None = None, source: str = "") -> Job:
    """Validate what a user sent, defaults filled in. Raises SpecError with all that is wrong."""
    try:
        return Job.model_validate(data)
    except ValidationError as error:
        raise SpecError(field_errors(error, data, tree, source)) from None


def field_errors(error: ValidationError, data: Any, tree: Node | None = None, source: str = "") -> list[FieldError]:
    found = (
        translated
        for details in error.errors(include_url=False)[:_MOST_ERRORS]
        for translated in _translate(details, data, tree, source)
    )
    return _in_order(found)


def _in_order(errors: Iterable[FieldError]) -> list[FieldError]:
    """By line, each thing said once."""
    return sorted(dict.fromkeys(errors), key=lambda e: e.line or 0)


def _translate(details: ErrorDetails, data: Any, tree: Node | None, source: str) -> Iterator[FieldError]:
    location = tuple(part for part in details["loc"] if part != "[key]")
    if details["type"] in _SILENT or _excused(details, location, data):
        return
    for at, message, suggestion in _said(details, location, tree):
        whole = (*location, *at)
        line = tree.line_of(whole) if tree is not None else None
        yield FieldError(printable(path_text(whole)), printable(message), printable(suggestion), line, source)


def _excused(details: ErrorDetails, location: Location, data: Any) -> bool:
    """A missing container beside a VM is not the author's mistake: the VM is what is not built yet."""
    if details["type"] != "missing" or location[-1:] != ("container",):
        return False
    for part in location[:-1]:
        data = data[part]
    return "vm" in data


def _said(details: ErrorDetails, location: Location, tree: Node | None) -> Iterator[tuple[Location, str, str]]:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "problems":
        yield from context["problems"]
    elif kind == "refused":
        yield (), context["message"], context["suggestion"]
    elif kind == "extra_forbidden":
        yield (), *_unknown(location)
    elif kind == "literal_error":
        yield (), *_choice(location, details["input"], str(context["expected"]))
    elif kind in _TEXT_KINDS:
        yield (), *_no_text(location, details["input"], tree)
    elif kind == "tuple_type" and isinstance(details["input"], str):
        words = ", ".join(details["input"].split())[:60]
        yield (), f"must be a list, is {_got(details['input'])}", f"write [{words}]"
    elif kind == "too_short":
        yield (), "must not be empty", ""
    else:
        template = _MESSAGES.get(kind)
        values = {**context, "got": _got(details["input"])}
        yield (), template.format(**values) if template else details["msg"], ""


def _unknown(location: Location) -> tuple[str, str]:
    later = unsupported.later_field(location)
    if later is not None:
        return f"{later} not yet supported", ""
    name, parent = str(location[-1]), location[:-1]
    known = (*_fields_at(parent), *unsupported.later_names(parent))
    return "unknown field", did_you_mean(name, known) or _belongs(name) or _listed(known)


def _listed(known: Sequence[str]) -> str:
    return f"known are {', '.join(known)}" if known else ""


def _choice(location: Location, given: Any, expected: str) -> tuple[str, str]:
    if unsupported.later_value(location, given):
        return f"{given} is not yet supported", f"supported: {expected}"
    choices = [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]
    guess = did_you_mean(given, choices) if isinstance(given, str) else ""
    return f"must be {expected}, is {_got(given)}", guess


def _no_text(location: Location, given: Any, tree: Node | None) -> tuple[str, str]:
    if isinstance(given, (dict, list)):
        return f"must be text, is {_got(given)}", ""
    written = tree.find(location).text if tree is not None else None
    if given is None:
        return "must be text, is empty", 'write "" if the empty text is meant'
    text = written if written is not None else str(given).lower() if isinstance(given, bool) else str(given)
    return f"must be text, is {_got(given)}", f'write "{text[:60]}" in quotes'


def _got(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, str):
        return f'the text "{value if len(value) <= 60 else value[:57] + "..."}"'
    return str(value)[:60]


def _fields_at(location: Location) -> tuple[str, ...]:
    """Names of the fields of the model at `location`, none where there is no model."""
    model: Any = Job
    for part in location:
        model = _below(model, part)
    return tuple(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else ()


def _below(annotation: Any, part: str | int) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return _bare(field.annotation) if field is not None else None
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is dict:
        return _bare(arguments[1])
    return _bare(arguments[0]) if typing.get_origin(annotation) is tuple else None


def _bare(annotation: Any) -> Any:
    """Without Annotated and Optional."""
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return _bare(next(a for a in typing.get_args(annotation) if a is not type(None)))
    return annotation


@lru_cache(maxsize=1)
def _places() -> dict[str, list[str]]:
    """Field name -> the paths at which it belongs, for names written one level too high or too low."""
    places: dict[str, list[str]] = {}

    def walk(model: Any, path: str) -> None:
        if isinstance(model, type) and issubclass(model, BaseModel):
            for name, field in model.model_fields.items():
                places.setdefault(name, []).append(path or "the job itself")
                walk(_bare(field.annotation), f"{path}.{name}" if path else name)
        elif typing.get_origin(model) is dict:
            walk(_bare(typing.get_args(model)[1]), f"{path}.*")

    walk(Job, "")
    return places


def _belongs(name: str) -> str:
    places = _places().get(name, [])
    return f"{name} belongs in {places[0]}" if len(places) == 1 else ""
