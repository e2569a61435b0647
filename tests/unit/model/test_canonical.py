"""The stored form: every default filled in, one form for equal jobs, read back as the same job."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from moorage.model import (
    NEVER,
    UNLIMITED,
    Job,
    JobVersion,
    SpecError,
    canonical_json,
    decode_version,
    encode_version,
    job_dict,
    job_json_schema,
    load_documents,
    parse_job,
    read_job,
    share_of,
    template_hash,
    template_hashes,
)
from moorage.wire.compile import compile_group, compile_resources
from tests.unit.model.jobs import jobs
from tests.unit.model.samples import HELLO, job, spoiled

EDITOR = jsonschema_rs.validator_for(job_json_schema())

slow_to_make = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@slow_to_make
@given(jobs)
def test_any_job_is_read_back_as_it_was_stored(data: dict[str, Any]) -> None:
    made = parse_job(data)
    stored = canonical_json(made)
    assert read_job(stored) == made
    assert canonical_json(read_job(stored)) == stored
    assert parse_job(json.loads(stored)) == made
    assert load_documents(yaml.safe_dump(json.loads(stored)))[0].model == made


@slow_to_make
@given(jobs)
def test_any_job_compiles_alike_before_and_after_it_was_stored(data: dict[str, Any]) -> None:
    made = parse_job(data)
    version = JobVersion(made, template_hashes(made), "someone", 12)
    stored = decode_version(encode_version(version))
    assert stored == version
    for group, spec in made.groups.items():
        compiled = compile_group(version, group)
        assert compile_group(stored, group) == compiled
        assert {task.name for task in compiled.tasks} == set(spec.tasks)
        assert compile_resources(made, group).cpu_millis == sum(t.resources.cpu for t in spec.tasks.values())


@slow_to_make
@given(jobs)
def test_editors_accept_what_we_accept(data: dict[str, Any]) -> None:
    EDITOR.validate(data | {"kind": "Job"})
    EDITOR.validate(job_dict(parse_job(data)))


def test_defaults_are_filled_in() -> None:
    task = job().groups["web"].tasks["server"]
    assert (task.resources.cpu, task.resources.cpu_limit) == (250, 250)
    assert (task.resources.memory, task.resources.memory_limit) == (64 << 20, 64 << 20)
    group = job_dict(job())["groups"]["web"]
    assert group["restart"] == {
        "attempts": 3,
        "interval": "5m",
        "delay": "1s",
        "backoff": "exponential",
        "max_delay": "1m",
        "mode": "replace",
    }
    assert group["reschedule"]["attempts"] == "unlimited"
    assert group["disconnect"] == {"replace_after": "30s", "stop_on_node_after": "never"}
    assert group["ports"] == {"http": "auto"}


def test_in_python_quantities_are_integers() -> None:
    group = job().groups["web"]
    assert group.ports == {"http": 0}
    assert group.restart.interval == 300_000
    assert group.reschedule.attempts == UNLIMITED
    assert group.disconnect.stop_on_node_after == NEVER


def test_equal_jobs_written_differently_are_stored_alike() -> None:
    reordered = yaml.safe_dump(yaml.safe_load(HELLO)).replace("250m", "0.25").replace("64Mi", "65536Ki")
    assert reordered != HELLO
    assert canonical_json(job(reordered)) == canonical_json(job())


def test_levels_of_spread_are_attributes() -> None:
    spread = job(spoiled("count: 3", "spread: [node, rack, {attribute: label.disk}]")).groups["web"].spread
    assert [s.attribute for s in spread] == ["node.id", "label.rack", "label.disk"]


def test_conditions_of_the_job_come_before_those_of_the_group() -> None:
    made = job(
        spoiled("count: 3", "constraints: [{attribute: b, operator: exists}]")
        + "constraints: [{attribute: a, value: 1}]\n"
    )
    assert [(c.attribute, c.value) for c in made.constraints_of("web")] == [("a", "1"), ("b", "")]


def test_a_group_s_update_replaces_the_job_s() -> None:
    made = job(spoiled("count: 3", "update: {max_parallel: 2}") + "update: {max_parallel: 3}\n")
    assert (made.update_of("web").max_parallel, made.update.max_parallel) == (2, 3)


@pytest.mark.parametrize(
    ("share", "count", "is_"), [(3, 10, 3), ("25%", 10, 2), ("1%", 10, 1), ("100%", 10, 10), ("50%", 0, 1)]
)
def test_a_percentage_is_rounded_down_but_at_least_one(share: int | str, count: int, is_: int) -> None:
    assert share_of(share, count) == is_


def test_fields_of_a_later_release_are_left_out_when_read_back() -> None:
    stored = json.loads(canonical_json(job()))
    stored["later"] = {"a": 1}
    stored["groups"]["web"]["tasks"]["server"]["container"]["later"] = [1]
    assert read_job(json.dumps(stored).encode()) == job()


def test_checks_of_meaning_do_not_apply_to_what_is_stored() -> None:
    """A later release may check more than the one that accepted it."""
    stored = json.loads(canonical_json(job()))
    stored["name"] = "Odd_Name"
    stored["groups"]["web"]["ports"] = {}
    assert read_job(json.dumps(stored).encode()).name == "Odd_Name"
    with pytest.raises(SpecError):
        parse_job(stored)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"spec": {}, "template_hashes": {"a": "zz"}}'])
def test_what_is_no_stored_version_is_refused(data: bytes) -> None:
    with pytest.raises(SpecError):
        decode_version(data)


def changed(old: str, new: str) -> Job:
    return job(spoiled(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("busybox:1", "busybox:2"),
        ("[httpd, -f]", "[httpd]"),
        ("{http: auto}", "{http: 8080}"),
        ("memory: 64Mi", "memory: 65Mi"),
        ("cpu: 250m", "cpu: 250m, cpu_limit: 1"),
        ("health:", "env: {A: b}\n        health:"),
        ("container: {", "container: {user: root, "),
    ],
)
def test_what_an_instance_is_made_from_changes_the_template(old: str, new: str) -> None:
    assert template_hash(changed(old, new), "web") != template_hash(job(), "web")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("count: 3", "count: 4"),
        ("name: hello", "name: hello\nlabels: {a: b}"),
        ("name: hello", "name: hello\npriority: 7"),
        ("name: hello", "name: hello\nupdate: {max_parallel: 9}"),
        ("name: hello", "name: hello\nconstraints: [{attribute: a, operator: exists}]"),
        ("count: 3", "restart: {attempts: 9}"),
        ("count: 3", "spread: [node]"),
        ("count: 3", "disconnect: {replace_after: 9s}"),
        ("{http: {port: http}}", "{tcp: {port: http}}"),
        ("health:", "stop: {timeout: 1s}\n        health:"),
        ("health:", "logs: {max_files: 1}\n        health:"),
        ("container: {", "container: {pull: always, "),
        ("cpu: 250m", "cpu: 0.25"),
    ],
)
def test_counts_labels_policies_and_health_checks_do_not(old: str, new: str) -> None:
    assert canonical_json(job()) != canonical_json(changed(old, new)) or old == "cpu: 250m"
    assert template_hash(changed(old, new), "web") == template_hash(job(), "web")


def test_an_unchanged_template_keeps_the_hash_that_an_earlier_release_gave_it() -> None:
    previous = JobVersion(job(), {"web": b"of another release"})
    assert template_hashes(changed("count: 3", "count: 4"), previous) == {"web": b"of another release"}
    new = changed("busybox:1", "busybox:2")
    assert template_hashes(new, previous) == {"web": template_hash(new, "web")}
