"""What the language has and this release has not: refused by name, never ignored, never "unknown field"."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.model.samples import HELLO, errors_of, job, only_error, spoiled

EVERYTHING = Path(__file__).with_name("everything.yaml").read_text()


def test_of_the_whole_language_everything_is_known_or_not_yet_supported() -> None:
    errors = errors_of(EVERYTHING)
    assert [str(error) for error in errors if "not yet supported" not in error.message] == []
    lines = EVERYTHING.splitlines()
    for error in errors:
        assert error.line is not None
        last = error.path.rpartition(".")[2].partition("[")[0]
        assert f"{last}:" in lines[error.line - 1]


def test_all_that_is_not_built_yet_is_told_at_once() -> None:
    kinds = [error.message.split()[0] for error in errors_of(EVERYTHING) if error.path == "kind"]
    assert kinds == ["Network", "SecurityGroup", "Volume", "Secret", "Image"]
    paths = {error.path.removeprefix("groups.web.") for error in errors_of(EVERYTHING)}
    assert paths >= {
        "schedule",
        "batch",
        "networks",
        "ports.admin",
        "near",
        "apart",
        "volumes",
        "tasks.migrate.order",
        "tasks.server.leader",
        "tasks.server.after",
        "tasks.server.container.registry_login",
        "tasks.server.container.devices",
        "tasks.server.env.PASSWORD",
        "tasks.server.files",
        "tasks.server.mounts",
        "tasks.server.resources.network",
        "tasks.server.resources.gpu",
        "groups.db.tasks.postgres.vm",
        "groups.db.tasks.postgres.resources.disk_iops",
    }


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("name: hello", "name: hello\ntype: batch", "type"),
        ("name: hello", "name: hello\ntype: system", "type"),
        ("name: hello", "name: hello\ntype: cron", "type"),
        ("name: hello", "name: hello\nupdate: {canary: 1}", "update.canary"),
        ("name: hello", "name: hello\nupdate: {auto_promote: true}", "update.auto_promote"),
        ("name: hello", "name: hello\nupdate: {auto_revert: true}", "update.auto_revert"),
        ("name: hello", "name: hello\nupdate: {surge: 1}", "update.surge"),
        ("name: hello", "name: hello\nupdate: {progress_deadline: 5m}", "update.progress_deadline"),
        ("networks: host", "networks: [front]", "groups.web.networks"),
        ("{http: auto}", "{http: {port: 80, host: auto}}", "groups.web.ports.http"),
        ("{http: {port: http}}", "{http: {port: http}, agent: true}", "groups.web.tasks.server.health.agent"),
        ("command: [httpd, -f]", "privileged: true", "groups.web.tasks.server.container.privileged"),
    ],
)
def test_one_thing_not_built_yet_gives_one_error(old: str, new: str, path: str) -> None:
    error = only_error(spoiled(old, new))
    assert error.path == path
    assert "not yet supported" in error.message


def test_a_vm_is_told_as_such_and_not_as_a_missing_container() -> None:
    text = HELLO.replace('container: {image: "busybox:1", command: [httpd, -f]}', "vm: {image: debian-12}")
    assert only_error(text).message == "vm (virtual machines) is not yet supported"


def test_the_defaults_of_what_is_not_built_yet_may_be_written() -> None:
    text = HELLO.replace("container: {", "order: main\n        leader: false\n        container: {privileged: false, ")
    text += (
        "update: {max_parallel: 25%, min_healthy: 1s, healthy_deadline: 1m, progress_deadline: 10m, canary: 0,\n"
        "  auto_promote: false, auto_revert: no, surge: 0}\n"
    )
    assert job(text).update.max_parallel == "25%"
