"""A start whose container's name is taken: by an earlier try, by one that is going, by somebody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.drivers import docker, labels
from agent.drivers.docker import DockerDriver
from agent.drivers.docker_engine import Refused
from agent.drivers.protocol import DriverError, HostNetwork, Launch, TaskId
from moorage.wire.spec_pb2 import ContainerSpec, TaskSpec

LAUNCH = Launch(
    id=TaskId("a1", "server", 0),
    spec=TaskSpec(name="server", container=ContainerSpec(image="shop:3")),
    env={},
    command=["serve"],
    entrypoint=(),
    labels={},
    cgroup_parent="/m/a1",
    hostname="shop",
)


class Names:
    """An engine in which the name is taken for the next `taken` tries; `found` is who has it, if he can be seen."""

    def __init__(self, taken: int, found: dict[str, Any] | None = None) -> None:
        self.taken = taken
        self.found = found
        self.calls: list[str] = []

    def json(self, method: str, path: str, call: str, **request: Any) -> Any:
        self.calls.append(call)
        match call:
            case "create" if self.taken > 0:
                self.taken -= 1
                raise Refused(409, 'Conflict. The container name "/moor-a1-server-0" is already in use')
            case "create":
                return {"Id": "new"}
            case "inspect" if self.found is None:
                raise Refused(404, "No such container")
            case "inspect":
                return self.found
            case _:
                return None


@pytest.fixture
async def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DockerDriver:
    monkeypatch.setattr(docker, "_NAME_PAUSE_S", 0.001)
    return DockerDriver("/nowhere", "c1", "n1", netns_links=tmp_path / "links")


def start(driver: DockerDriver, names: Names, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(driver.engine, "json", names.json)
    return driver._start(LAUNCH, HostNetwork())


async def test_a_name_that_is_being_given_back_is_waited_for(
    driver: DockerDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(taken=2)
    assert start(driver, names, monkeypatch) == "new"
    assert names.calls.count("create") == 3
    await driver.close()


async def test_a_name_that_is_never_given_back_is_said_and_tried_again_later(
    driver: DockerDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(taken=10_000)
    with pytest.raises(DriverError, match="is still being removed by the engine") as failure:
        start(driver, names, monkeypatch)
    assert failure.value.retry and names.calls.count("create") < 20
    await driver.close()


async def test_what_was_made_for_another_launch_makes_room(
    driver: DockerDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = {labels.CLUSTER: "c1", labels.NODE: "n1", labels.LAUNCH: "of another"}
    found = {"Id": "old", "Config": {"Labels": marks}, "State": {"Status": "created"}}
    names = Names(taken=1, found=found)
    assert start(driver, names, monkeypatch) == "new"
    assert names.calls == ["create", "inspect", "remove", "create", "start"]
    await driver.close()
