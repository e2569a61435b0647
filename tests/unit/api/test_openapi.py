"""The committed description is the one that the code gives. After a change: `python -m tests.unit.api.test_openapi`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from controller.api import ApiDeps, create_app
from controller.api.openapi import describe
from controller.cache import Cache
from controller.store.memory import MemoryStore
from moorage.kit.clock import SystemClock
from tests.unit.api.world import ScriptedLeader, ScriptedSessions

PATH = Path(__file__).parents[3] / "docs" / "openapi.json"


def described() -> dict[str, Any]:
    store, clock = MemoryStore(), SystemClock()
    deps = ApiDeps(Cache(store, clock), store, ScriptedLeader(), ScriptedSessions(), clock)
    return describe(create_app(deps)) | {"info": {"title": "Moorage", "version": "v1"}}


def text() -> str:
    return json.dumps(described(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def test_the_committed_description_is_current() -> None:
    assert PATH.read_text() == text(), "run: python -m tests.unit.api.test_openapi"


def test_every_reference_leads_somewhere() -> None:
    document = described()
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= known


def test_every_operation_but_health_needs_a_token_and_says_how_it_refuses() -> None:
    for path, operations in described()["paths"].items():
        for operation in operations.values():
            if path in ("/healthz", "/readyz", "/metrics"):
                assert operation["security"] == []
                continue
            assert "security" not in operation, "the document's own holds"
            for status in ("401", "403", "422", "503"):
                assert "application/problem+json" in operation["responses"][status]["content"], (path, status)


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(references(value) for value in node))
    return set()


if __name__ == "__main__":
    PATH.write_text(text())
