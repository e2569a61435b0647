"""Where an allocation's network namespace comes from: it is there before the first process, and outlives them all.

Two ways with one face. `BoundNetns` makes it itself, and the OCI runtime wrapper points the engine's containers to it:
they and the engine may restart as they like. `PausedNetns` is for engines that do not know the wrapper: a container
that only sleeps holds the namespace and the others join that container; should it be killed from outside, the group
keeps running, but a task that restarts gets a new namespace. Where the engine has come to know the wrapper, groups
that have a pause container keep it to their end.
"""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from agent.drivers import docker_facts, labels
from agent.drivers.docker import DockerDriver
from agent.drivers.docker_engine import Engine, Refused, translated
from agent.drivers.docker_errors import start_error
from agent.drivers.protocol import DriverError, DriverFacts, Netns
from moorage.kit.netns import NetnsHelper
from netvirt.netlink.namespace import Namespaces

PAUSE_IMAGE = "moorage-pause:1"
_SLEEP_S = "2147483647"


class NetnsProvider(Protocol):
    async def ensure(self, alloc: str) -> Netns:
        """The namespace of that allocation, made where it is not there yet."""
        ...

    async def remove(self, alloc: str) -> None:
        """When its last task has been destroyed; one that is gone already is no error."""
        ...

    async def names(self) -> list[str]:
        """The allocations that have one: what is not wanted any more is removed by whoever knows."""
        ...


async def provider_for(
    driver: DockerDriver,
    facts: DriverFacts,
    namespaces: Namespaces,
    helper: NetnsHelper,
    parent_of: Callable[[str], str],
) -> NetnsProvider:
    """The wrapper where the engine knows it, else the pause container. `parent_of`: the cgroup of an allocation.

    `facts`: of an engine that answers.
    """
    namespaces.open()
    paused = PausedNetns(driver, namespaces, parent_of)
    if facts.attributes.get(docker_facts.RUNTIME_ATTRIBUTE) != "true":
        return paused
    return BoundNetns(namespaces, helper, paused, await paused.containers())


class BoundNetns:
    def __init__(
        self, namespaces: Namespaces, helper: NetnsHelper, paused: PausedNetns | None = None, left: Iterable[str] = ()
    ) -> None:
        """`left`: allocations of which `paused` has a container, from when the engine did not know the wrapper."""
        self._namespaces = namespaces
        self._helper = helper
        self._paused = paused
        self._left = set(left)

    async def ensure(self, alloc: str) -> Netns:
        return Netns(str(await self._helper.call(None, lambda: self._namespaces.make_here(alloc))))

    async def remove(self, alloc: str) -> None:
        if alloc in self._left and self._paused is not None:
            await self._paused.remove(alloc)
            self._left.discard(alloc)
        await self._helper.call(None, lambda: self._namespaces.remove(alloc))

    async def names(self) -> list[str]:
        return sorted(self._left.union(self._namespaces.names()))


class PausedNetns:
    def __init__(
        self,
        driver: DockerDriver,
        namespaces: Namespaces,
        parent_of: Callable[[str], str],
        busybox: Path = Path("/bin/busybox"),
    ) -> None:
        self._engine = driver.engine
        self._owner = driver.owner
        self._namespaces = namespaces
        self._parent_of = parent_of
        self._busybox = busybox
        self._making: dict[str, asyncio.Task[Netns]] = {}

    async def ensure(self, alloc: str) -> Netns:
        if (making := self._making.get(alloc)) is None:
            making = self._making[alloc] = asyncio.create_task(self._engine.run(self._ensure, alloc))
        try:
            return await asyncio.shield(making)
        finally:
            if making.done():
                self._making.pop(alloc, None)

    async def remove(self, alloc: str) -> None:
        """What is still being made, for somebody who no longer waits, is removed as well."""
        if (making := self._making.pop(alloc, None)) is not None:
            await asyncio.gather(making, return_exceptions=True)
        await self._engine.run(self._remove, alloc)

    async def names(self) -> list[str]:
        return sorted({*await self.containers(), *self._namespaces.names()})

    async def containers(self) -> list[str]:
        """The allocations that have a pause container."""
        return await self._engine.run(self._paused)

    # What follows blocks, and runs on the engine's threads.

    def _ensure(self, alloc: str) -> Netns:
        found = self._inspect(alloc)
        if found is None:
            found = self._create(alloc)
        if not found["State"]["Running"]:
            found = self._run(alloc, found["Id"])
        if not self._namespaces.exists(alloc):
            self._hold(alloc, found)
        return Netns(str(self._namespaces.path(alloc)), holder=str(found["Id"]))

    def _create(self, alloc: str) -> dict[str, Any]:
        try:
            self._ask_to_create(alloc)
        except Refused as refused:
            if refused.status != 404:
                raise start_error(PAUSE_IMAGE, refused) from refused
            import_pause_image(self._engine, self._busybox)
            self._ask_to_create(alloc)
        return self._found(alloc)

    def _ask_to_create(self, alloc: str) -> None:
        body = {
            "Image": PAUSE_IMAGE,
            "Cmd": ["/busybox", "sleep", _SLEEP_S],
            "StopSignal": "SIGKILL",  # as PID 1 it would let an engine that ends wait for it
            "Labels": {labels.CLUSTER: self._owner.cluster, labels.NODE: self._owner.node, labels.PAUSE: alloc},
            "HostConfig": {"NetworkMode": "none", "CgroupParent": self._parent_of(alloc), "ReadonlyRootfs": True},
        }
        self._engine.json("POST", "/containers/create", "create", params={"name": _name(alloc)}, body=body)

    def _run(self, alloc: str, engine_id: str) -> dict[str, Any]:
        """Its namespace is a new one, whatever was held before."""
        try:
            self._engine.json("POST", f"/containers/{engine_id}/start", "start")
        except Refused as refused:
            raise start_error(PAUSE_IMAGE, refused) from refused
        found = self._found(alloc)
        self._hold(alloc, found)
        return found

    def _hold(self, alloc: str, found: dict[str, Any]) -> None:
        self._namespaces.hold(alloc, f"/proc/{found['State']['Pid']}/ns/net")

    def _remove(self, alloc: str) -> None:
        self._namespaces.remove(alloc)
        try:
            self._engine.json("DELETE", f"/containers/{_name(alloc)}", "remove", params={"force": 1, "v": 1})
        except Refused as refused:
            if refused.status not in (404, 409):
                raise DriverError(f"the pause container could not be removed: {refused.message}") from refused

    def _paused(self) -> list[str]:
        marks = [f"{labels.CLUSTER}={self._owner.cluster}", f"{labels.NODE}={self._owner.node}", labels.PAUSE]
        params = {"all": 1, "filters": json.dumps({"label": marks})}
        listed = self._engine.json("GET", "/containers/json", "list", params=params)
        return sorted({found["Labels"][labels.PAUSE] for found in listed})

    def _found(self, alloc: str) -> dict[str, Any]:
        found = self._inspect(alloc)
        if found is None:
            raise DriverError("the pause container was removed by somebody else")
        return found

    def _inspect(self, alloc: str) -> dict[str, Any] | None:
        try:
            return dict(self._engine.json("GET", f"/containers/{_name(alloc)}/json", "inspect"))
        except Refused as refused:
            if refused.status == 404:
                return None
            raise DriverError(refused.message) from refused


def import_pause_image(engine: Engine, busybox: Path) -> None:
    """Needs no registry: nothing but this machine's static busybox."""
    if not busybox.exists() or b"/ld-" in busybox.read_bytes()[:4096]:
        raise DriverError(f"the pause image needs a static busybox at {busybox}: install busybox-static", retry=False)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(busybox.resolve(), "busybox")
    repository, tag = PAUSE_IMAGE.split(":")
    params = {"fromSrc": "-", "repo": repository, "tag": tag}
    stream = engine.stream("POST", "/images/create", "import", params=params, data=buffer.getvalue())
    try:
        with translated("import"):
            wrong = [line for line in stream.lines() if b'"error"' in line]
        if wrong:
            raise DriverError(f"the pause image could not be made: {wrong[0].decode(errors='replace')}")
    finally:
        stream.release()


def _name(alloc: str) -> str:
    return f"moor-{alloc}-pause"
