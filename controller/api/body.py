"""Reading request bodies: JSON objects and nothing that JSON does not know, bounded in bytes and depth.

The bodies are not declared to FastAPI, because its reader takes any size, takes NaN, and fails on deep nesting.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from controller.api.problems import BAD_JSON, INVALID_REQUEST, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, Refused
from moorage.model.view import ProblemError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32

Model = TypeVar("Model", bound=BaseModel)


async def read_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises Refused: 400, 413, 415."""
    _check_media_type(request.headers.get("content-type", ""))
    return parse_object(await _read(request))


async def read_model(request: Request, model: type[Model]) -> Model:
    """The body as a small fixed shape. Raises Refused, 422 besides those of `read_object`."""
    data = await read_object(request)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise Refused(INVALID_REQUEST, "The body is not valid.", errors=field_errors(error)) from None


def field_errors(error: ValidationError) -> list[ProblemError]:
    return [
        ProblemError(path=".".join(str(part) for part in item["loc"]), message=item["msg"])
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def parse_object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body.decode("utf-8"), parse_constant=_constant, parse_float=_float, object_pairs_hook=_unique)
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError as error:
        raise Refused(BAD_JSON, f"The body is not UTF-8 (byte {error.start}).") from None
    except ValueError as error:
        raise Refused(BAD_JSON, f"The body is not JSON: {error}.") from None
    _check(data)
    if not isinstance(data, dict):
        raise Refused(INVALID_REQUEST, "The body must be a JSON object.")
    return data


async def _read(request: Request) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length[:20]) > MAX_BYTES:
        raise _too_large()
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BYTES:
            raise _too_large()
        chunks.append(chunk)
    return b"".join(chunks)


def _check_media_type(text: str) -> None:
    media_type, _, parameters = text.partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if media_type.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise Refused(
            UNSUPPORTED_MEDIA_TYPE,
            f"The body's type is {text or 'not said'!r}.",
            hint="Send `Content-Type: application/json` in UTF-8.",
        )


def _check(data: Any) -> None:
    """Depth, and strings that no encoding can hold (a lone surrogate, which JSON can escape). Without recursion."""
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.keys())
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            elif isinstance(value, str):
                _check_text(value)
        if not below:
            return
        level = below
    raise _too_deep()


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused(BAD_JSON, "The body holds half of a surrogate pair, which is no character.") from None


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number of JSON")


def _float(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text[:20]} is out of range")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} is given twice")
    return found


def _too_large() -> Refused:
    return Refused(TOO_LARGE, f"The body is larger than {MAX_BYTES >> 20} MiB.", headers={"Connection": "close"})


def _too_deep() -> Refused:
    return Refused(BAD_JSON, f"The body is nested deeper than {MAX_DEPTH} levels.")
