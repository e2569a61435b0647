from __future__ import annotations

from pathlib import Path

import pytest

from moorage.model import JobVersion, load_documents, template_hashes
from moorage.wire import spec_pb2 as wire
from moorage.wire.compile import compile_group

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads_and_compiles_and_is_named_like_its_file(path: Path) -> None:
    (document,) = load_documents(path.read_text(), path.name)
    assert document.name == path.stem
    version = JobVersion(document.model, template_hashes(document.model))
    for group in document.model.groups:
        assert compile_group(version, group).tasks


def test_hello_becomes_what_agents_run() -> None:
    (path,) = (path for path in EXAMPLES if path.stem == "hello")
    job = load_documents(path.read_text())[0].model
    compiled = compile_group(JobVersion(job, template_hashes(job)), "web")
    (task,) = compiled.tasks
    assert compiled.network == wire.NETWORK_HOST
    assert list(compiled.ports) == [wire.Port(name="http", number=0)]
    assert task.container.image == "busybox:1"
    assert "$MOOR_PORT_http" in task.container.command[2]
    assert (task.resources.cpu_millis, task.resources.cpu_limit_millis) == (250, 250)
    assert task.resources.memory_limit_bytes == 64 << 20
    assert task.health.http == wire.HttpProbe(port="http", path="/")
    assert compiled.disconnect == wire.Disconnect(replace_after_ms=30_000, stop_on_node_after_ms=-1)
    assert compiled.template_hash == template_hashes(job)["web"]


def test_an_empty_entrypoint_differs_from_none_given() -> None:
    text = "kind: Job\nname: a\ngroups: {g: {tasks: {t: {container: {image: x, entrypoint: ENTRY}}}}}\n"
    given = [load_documents(text.replace("ENTRY", entry))[0].model for entry in ("[]", "null", "[/init]")]
    containers = [compile_group(JobVersion(j, template_hashes(j)), "g").tasks[0].container for j in given]
    assert [(c.entrypoint_set, list(c.entrypoint)) for c in containers] == [(True, []), (False, []), (True, ["/init"])]
