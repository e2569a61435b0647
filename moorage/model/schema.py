"""The JSON Schema of jobs, for editors: published as docs/schema/job.v1.json and at /v1/schemas/job.

Descriptions are the docstrings of models and fields. pydantic could collect them itself, but would read the sources at
every import; here they are read when a schema is asked for.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from moorage.model.job import Job


@lru_cache(maxsize=1)
def job_json_schema() -> dict[str, Any]:
    schema = Job.model_json_schema(mode="validation")
    for model in _models(Job):
        target = schema if model is Job else schema["$defs"].get(model.__name__)
        if target is not None:
            _describe(_mapping(target), model)
    _tidy(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:moorage:schema:job.v1",
        "title": "Moorage job, v1",
        **schema,
    }


def _mapping(schema: dict[str, Any]) -> dict[str, Any]:
    """The part of a schema that describes the mapping, where there is a short form beside it."""
    if "properties" in schema:
        return schema
    return next(part for part in schema["anyOf"] if "properties" in part)


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    if model.__doc__:
        schema["description"] = " ".join(inspect.cleandoc(model.__doc__).split())
    docs = _field_docs(model)
    defaults = model.model_construct().model_dump(mode="json", warnings=False)
    for name, field in schema["properties"].items():
        if name in docs:
            field["description"] = docs[name]
        if "default" in field:
            field["default"] = defaults[name]  # as users write it: 10s, and not 10000


def _field_docs(model: type[BaseModel]) -> dict[str, str]:
    """The text below each field, those of the bases included."""
    docs: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if issubclass(cls, BaseModel) and cls.__module__.startswith("moorage."):
            docs |= _own_docs(cls)
    return docs


def _own_docs(cls: type[BaseModel]) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            docs[field.target.id] = " ".join(str(text.value.value).split())
    return docs


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The model and all that it is made of, each once."""
    found: dict[type[BaseModel], None] = {}
    waiting: list[Any] = [model]
    while waiting:
        annotation = waiting.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if annotation not in found:
                found[annotation] = None
                waiting += [field.annotation for field in annotation.model_fields.values()]
        else:
            waiting += getattr(annotation, "__args__", ())
    return list(found)


def _tidy(schema: Any) -> None:
    """Drop pydantic's titles, which only repeat the names, and refuse keys of mappings that are no names."""
    if isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        if "patternProperties" in schema:
            schema["additionalProperties"] = False
        for value in schema.values():
            _tidy(value)
    elif isinstance(schema, list):
        for value in schema:
            _tidy(value)


def publish(path: Path) -> None:
    path.write_text(json.dumps(job_json_schema(), indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    publish(Path(__file__).parents[2] / "docs" / "schema" / "job.v1.json")
