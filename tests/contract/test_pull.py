"""Images from a real registry: progress, policies, digests, and what is said when one cannot be had."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.api.client import APIClient

from agent.drivers import labels
from agent.drivers.docker import DockerDriver
from agent.drivers.protocol import DriverError, HostNetwork, Launch, TaskId
from moorage.wire.spec_pb2 import PULL_ALWAYS, PULL_IF_MISSING, PULL_NEVER, ContainerSpec, PullPolicy, TaskSpec
from tests.contract.engines import PrivateEngine, debian12_engine, debian13_engine
from tests.contract.registries import PASSWORD, Narrow, PrivateRegistry, docker_config

pytestmark = pytest.mark.docker

MIB = 1 << 20
ENGINES = {"docker20": debian12_engine, "docker26": debian13_engine}


@pytest.fixture(scope="module", params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Iterator[PrivateEngine]:
    made: PrivateEngine = ENGINES[request.param]()
    made.open()
    yield made
    made.close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRegistry]:
    made = PrivateRegistry(tmp_path_factory.mktemp("open"))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRegistry]:
    """One that wants a login."""
    made = PrivateRegistry(tmp_path_factory.mktemp("guarded"), login=True)
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def driver(engine: PrivateEngine) -> DockerDriver:
    return DockerDriver(str(engine.socket), "test", "pull", netns_links=engine.links)


@pytest.fixture(autouse=True)
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the node's credentials are looked for; none at first."""
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


def wish(image: str, pull: PullPolicy.ValueType = PULL_IF_MISSING) -> TaskSpec:
    return TaskSpec(name="server", container=ContainerSpec(image=image, pull=pull))


async def prepared(driver: DockerDriver, spec: TaskSpec) -> list[str]:
    return [progress.message async for progress in driver.prepare(spec)]


async def runs(driver: DockerDriver, engine: PrivateEngine, image: str, number: int) -> bool:
    """Whether a container of it does what busybox does; nothing of it is left."""
    launch = Launch(
        id=TaskId("pull", "server", number),
        spec=wish(image),
        env={},
        command=["sh", "-c", "exit 7"],
        entrypoint=(),
        labels={labels.JOB: "shop"},
        cgroup_parent=f"{engine.cgroup_root}/pull",
        hostname="shop",
    )
    handle = await driver.start(launch, HostNetwork())
    end = await asyncio.wait_for(driver.wait(handle), 20)
    await driver.destroy(handle)
    return end.code == 7


async def test_a_pull_tells_how_far_it_has_come(
    driver: DockerDriver, engine: PrivateEngine, registry: PrivateRegistry
) -> None:
    registry.push(engine, "large:1", payload=os.urandom(6 * MIB))
    narrow = Narrow(registry.port, 3 * MIB)
    image = f"127.0.0.1:{narrow.port}/large:1"
    told = await prepared(driver, wish(image))
    narrow.close()
    assert told[0] == f"pulling {image}"
    come = [int(message.rsplit(": ", 1)[1].split()[0]) for message in told if message.endswith(" MiB")]
    assert len(set(come)) >= 3 and come == sorted(come), told
    assert await runs(driver, engine, image, 0)
    await driver.close()


async def test_what_two_allocations_wait_for_is_pulled_once(
    driver: DockerDriver, engine: PrivateEngine, registry: PrivateRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.push(engine, "shared:1", payload=os.urandom(3 * MIB))
    clients: list[APIClient] = []
    connect = driver.engine.sdk

    def counted() -> APIClient:
        clients.append(connect())
        return clients[-1]

    monkeypatch.setattr(driver.engine, "sdk", counted)
    narrow = Narrow(registry.port, 2 * MIB)
    image = f"127.0.0.1:{narrow.port}/shared:1"
    both = await asyncio.gather(prepared(driver, wish(image)), prepared(driver, wish(image)))
    narrow.close()
    assert all(told[-1].endswith(" MiB") for told in both) and len(clients) == 1
    await driver.close()


async def test_what_is_there_is_not_asked_for_again_unless_always_says_so(
    driver: DockerDriver, engine: PrivateEngine, registry: PrivateRegistry
) -> None:
    image = f"{registry.host}/policy:1"
    first = registry.push(engine, "policy:1", payload=b"first")
    await prepared(driver, wish(image))
    assert _digest(engine, image) == first
    engine.engine.json("POST", f"/images/{image}/tag", "tag", params={"repo": "kept", "tag": "1"})
    second = registry.push(engine, "policy:1", payload=b"second")
    engine.engine.json("POST", "/images/kept:1/tag", "tag", params={"repo": f"{registry.host}/policy", "tag": "1"})
    assert await prepared(driver, wish(image)) == []
    assert await prepared(driver, wish(image, PULL_NEVER)) == []
    assert _digest(engine, image) == first
    await prepared(driver, wish(image, PULL_ALWAYS))
    assert _digest(engine, image) == second
    await driver.close()


async def test_an_image_is_had_by_its_digest(
    driver: DockerDriver, engine: PrivateEngine, registry: PrivateRegistry
) -> None:
    digest = registry.push(engine, "pinned:1", payload=b"pinned")
    registry.push(engine, "pinned:1", payload=b"something newer")
    image = f"{registry.host}/pinned@{digest}"
    await prepared(driver, wish(image))
    assert _digest(engine, image) == digest
    assert await runs(driver, engine, image, 1)
    await driver.close()


@pytest.mark.parametrize("name", ["nothing:1", "shelf:2"], ids=["no such image", "no such tag"])
async def test_what_the_registry_does_not_have_is_said_and_not_hoped_for(
    driver: DockerDriver, engine: PrivateEngine, registry: PrivateRegistry, name: str
) -> None:
    registry.push(engine, "shelf:1")
    image = f"{registry.host}/{name}"
    with pytest.raises(DriverError) as failure:
        await prepared(driver, wish(image))
    assert str(failure.value) == f"image {image} is not on this node, and its registry does not have it"
    assert not failure.value.retry
    await driver.close()


async def test_a_registry_that_does_not_answer_is_named_and_tried_again(
    driver: DockerDriver, engine: PrivateEngine, registry: PrivateRegistry
) -> None:
    registry.push(engine, "away:1")
    image = f"{registry.host}/away:1"
    registry.stop()
    try:
        with pytest.raises(DriverError, match="no registry answered") as failure:
            await prepared(driver, wish(image))
        assert registry.host in str(failure.value) and "connection refused" in str(failure.value)
        assert failure.value.retry
    finally:
        registry.start()
    await prepared(driver, wish(image))
    await driver.close()


@pytest.mark.parametrize("password", [None, "guess"], ids=["no login", "wrong login"])
async def test_without_the_right_login_nothing_is_had_and_the_reason_is_said(
    driver: DockerDriver, engine: PrivateEngine, guarded: PrivateRegistry, login: Path, password: str | None
) -> None:
    guarded.push(engine, "secret:1")
    if password is not None:
        docker_config(login, guarded.host, password)
    image = f"{guarded.host}/secret:1"
    with pytest.raises(DriverError, match=f"the registry refused the credentials for image {image}") as failure:
        await prepared(driver, wish(image))
    assert not failure.value.retry
    await driver.close()


async def test_the_nodes_own_login_is_used(
    driver: DockerDriver, engine: PrivateEngine, guarded: PrivateRegistry, login: Path
) -> None:
    digest = guarded.push(engine, "secret:2", payload=b"two")
    docker_config(login, guarded.host, PASSWORD)
    image = f"{guarded.host}/secret:2"
    await prepared(driver, wish(image))
    assert _digest(engine, image) == digest
    await driver.close()


def _digest(engine: PrivateEngine, image: str) -> str:
    """Of the image that the engine has under that name."""
    found = engine.engine.json("GET", f"/images/{image}/json", "image")
    [digest] = {entry.rpartition("@")[2] for entry in found["RepoDigests"]}
    return str(digest)
