"""The API's description, complete enough that a fuzzer driven by it meets no answer that is not in it.

Bodies are read by controller.api.body rather than by FastAPI, and problems have a media type of their own; so both are
described here, and their schemas are added to what FastAPI finds out by itself.
"""

from __future__ import annotations

import copy
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from controller.api.auth import OPEN
from controller.api.watch import MEDIA_TYPE as NDJSON
from moorage.model import job_json_schema
from moorage.model.view import Problem, WatchEvent

COMPONENTS = "#/components/schemas/"
JOB_SPEC = "JobSpec"
ETAG = {
    "description": "The object's revision in quotes, for If-Match",
    "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
    "required": True,
}

EXAMPLE = {
    "groups": {
        "web": {
            "count": 3,
            "networks": "host",
            "ports": {"http": "auto"},
            "tasks": {
                "server": {
                    "container": {"image": "busybox:1", "command": ["httpd", "-f", "-p", "$MOOR_PORT_http"]},
                    "resources": {"cpu": "250m", "memory": "64Mi"},
                }
            },
        }
    }
}

Responses = dict[int | str, dict[str, Any]]


def tagged(*statuses: int, model: Any = None) -> Responses:
    """Successful answers that carry an ETag."""
    more = {"model": model} if model is not None else {}
    return {status: {"headers": {"ETag": ETAG}} | more for status in statuses or (200,)}


def stream(model: type[BaseModel]) -> Responses:
    """A list that can be watched."""
    name = WatchEvent[model].__name__  # type: ignore[valid-type]
    content = {NDJSON: {"schema": {"type": "string", "description": f"With `watch`: a {name} in each line"}}}
    return {200: {"content": content}}


def job_body() -> dict[str, Any]:
    media = {"schema": {"$ref": COMPONENTS + JOB_SPEC}, "examples": {"hello": {"value": EXAMPLE}}}
    return {"requestBody": {"required": True, "content": {"application/json": media}}}


def body(model: type[BaseModel]) -> dict[str, Any]:
    """A body read by `read_model`."""
    media = {"schema": model.model_json_schema()}
    return {"requestBody": {"required": True, "content": {"application/json": media}}}


def describe(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        app.openapi_schema = _complete(found)
    return app.openapi_schema


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    _, problems = models_json_schema([(Problem, "serialization")], ref_template=COMPONENTS + "{model}")
    schemas.update(problems["$defs"])
    schemas.update(_job_schemas())
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    for path, operations in document["paths"].items():
        if path in OPEN:
            for operation in operations.values():
                operation["security"] = []
    return document


def _job_schemas() -> dict[str, Any]:
    """The published schema of a job; its definitions get a prefix, so that they meet none of the views' names."""
    schema = copy.deepcopy(job_json_schema())
    definitions: dict[str, Any] = schema.pop("$defs", {})
    for key in ("$schema", "$id"):
        schema.pop(key, None)
    found = {JOB_SPEC: schema} | {_prefixed(name): definition for name, definition in definitions.items()}
    _redirect(found)
    # The name is in the URL already: it may be left out of the body.
    schema["required"] = [name for name in schema.get("required", []) if name != "name"]
    return found


def _prefixed(name: str) -> str:
    return f"{JOB_SPEC}.{name}"


def _redirect(node: Any) -> None:
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/$defs/"):
            node["$ref"] = COMPONENTS + _prefixed(reference.removeprefix("#/$defs/"))
        for value in node.values():
            _redirect(value)
    elif isinstance(node, list):
        for value in node:
            _redirect(value)
