"""What all models share: frozen, strict, unknown fields refused, and how a validator says what is wrong.

Validators raise what `refusal`, `not_yet` or `problems` make; moorage.model.validation turns it, like pydantic's own
errors, into FieldErrors. Checks of meaning (a limit below its request) are skipped for what is read back from the
store: a later release may check more, and must still read what an earlier one accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Strict, ValidationInfo
from pydantic_core import PydanticCustomError

from moorage.model.errors import printable

T = TypeVar("T")

STORED = "stored"
"""The validation context of what comes from the store."""

Listed = Annotated[tuple[T, ...], Strict(False)]
"""A list in the YAML; the items stay strict."""


class Base(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True)


class Problem(NamedTuple):
    """`at` leads from the model that found it to the field that is wrong."""

    at: tuple[str | int, ...]
    message: str
    suggestion: str = ""


def refusal(message: str, suggestion: str = "") -> PydanticCustomError:
    return PydanticCustomError(
        "refused", "{message}", {"message": printable(message), "suggestion": printable(suggestion)}
    )


def not_yet(what: str, suggestion: str = "") -> PydanticCustomError:
    return refusal(f"{what} not yet supported", suggestion)


def problems(found: Sequence[Problem]) -> PydanticCustomError:
    return PydanticCustomError("problems", "several problems", {"problems": list(found)})


def is_stored(info: ValidationInfo) -> bool:
    return info.context == STORED


def check(test: Callable[[Any], None]) -> AfterValidator:
    """A check of meaning: raises for what is refused, and is skipped for what comes from the store."""

    def run(value: Any, info: ValidationInfo) -> Any:
        if not is_stored(info):
            test(value)
        return value

    return AfterValidator(run)


def only(default: object, what: str) -> AfterValidator:
    """A field of the language that is not built yet: nothing but its default is accepted."""

    def test(value: object) -> None:
        if value != default:
            raise not_yet(what)

    return check(test)


def at_least(least: int, text: str) -> AfterValidator:
    def test(value: int) -> None:
        if 0 <= value < least:
            raise refusal(f"must be at least {text}")

    return check(test)
