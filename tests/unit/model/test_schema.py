"""The published JSON Schema: it is the model's, it knows the short forms, and it describes itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from moorage.model import job_json_schema
from tests.unit.model.samples import spoiled

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "docs" / "schema" / "job.v1.json"


def accepts(text: str) -> bool:
    return jsonschema_rs.validator_for(job_json_schema()).is_valid(yaml.safe_load(text))


def test_what_is_published_is_what_the_model_says() -> None:
    assert json.loads(PUBLISHED.read_text()) == job_json_schema(), "run: python -m moorage.model.schema"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_satisfy_it(path: Path) -> None:
    assert accepts(path.read_text())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cpu: 250m", "cpu: 1.5"),
        ("memory: 64Mi", "memory: 67108864"),
        ("count: 3", "spread: [node, {attribute: label.rack, targets: {a: 60}}]"),
        ("count: 3", "reschedule: {attempts: unlimited}"),
        ("count: 3", "disconnect: {stop_on_node_after: never}"),
        ("count: 3", "update: {max_parallel: 25%}"),
        ("{http: auto}", "{http: 8080}"),
    ],
)
def test_short_forms_and_quantities_are_valid(old: str, new: str) -> None:
    assert accepts(spoiled(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("count: 3", "cuont: 3"),
        ("count: 3", "count: -1"),
        ("cpu: 250m", "cpu: 250Mi"),
        ("memory: 64Mi", "memory: 64MB"),
        ("count: 3", "shutdown_delay: 5"),
        ("count: 3", "spread: [hosts]"),
        ("name: hello", "name: a/b"),
        ("web:", "we/b:"),
        ("{http: auto}", "{http: 70000}"),
        ("networks: host", "networks: [front]"),
        ("name: hello", "name: hello\ntype: batch"),
    ],
)
def test_an_editor_marks_what_we_refuse(old: str, new: str) -> None:
    assert not accepts(spoiled(old, new))


def test_fields_carry_their_descriptions_and_defaults() -> None:
    definitions = job_json_schema()["$defs"]
    health = definitions["Health"]["properties"]
    assert health["start"]["description"] == "Grace after the start, before failures count."
    assert health["start"]["default"] == "10s"
    assert definitions["Restart"]["properties"]["max_delay"]["description"] == "The longest wait."
    assert definitions["Task"]["description"] == "A container of a group."


def test_every_field_is_described_by_itself_or_by_its_model() -> None:
    schema = job_json_schema()
    models = {"Job": schema, **{name: _mapping(definition) for name, definition in schema["$defs"].items()}}
    undescribed = {
        f"{name}.{field}"
        for name, model in models.items()
        for field, about in model["properties"].items()
        if "description" not in about and not _described(about, schema["$defs"])
    }
    assert undescribed == set()


def _described(about: dict[str, Any], definitions: dict[str, Any]) -> bool:
    reference = about.get("$ref") or about.get("anyOf", [{}])[0].get("$ref", "")
    return "description" in definitions.get(reference.rpartition("/")[2], {})


def _mapping(definition: dict[str, Any]) -> dict[str, Any]:
    return dict(definition["anyOf"][1]) if "anyOf" in definition else definition
