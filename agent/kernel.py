"""Namespaces and cgroups of this machine, for allocations (agent.attachments).

How a namespace is made and a cgroup is named depends on the engine, so it is asked when it is there, and again when
it has been away: it may know the OCI runtime now, or no longer.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from agent import cgroup
from agent.attachments import plain_socket
from agent.drivers.docker import DockerDriver
from agent.drivers.netns import NetnsProvider, provider_for
from agent.drivers.protocol import Attachment, EngineAway, HostNetwork
from moorage.kit.netns import NetnsHelper
from moorage.kit.tasks import Blocking
from moorage.wire.spec_pb2 import NETWORK_HOST, NetworkMode
from netvirt.netlink.namespace import Namespaces

CGROUP_DRIVER = "docker.cgroup_driver"


class KernelAttachments:
    def __init__(self, directory: Path, driver: DockerDriver, cgroups: cgroup.Cgroups, *, cgroup_root: str) -> None:
        self._helper = NetnsHelper()
        self._namespaces = Namespaces(directory, self._helper)
        self._driver = driver
        self._cgroups = cgroups
        self._cgroup_root = cgroup_root
        self._cgroup_driver = ""
        self._provider: NetnsProvider | None = None
        self._asking = asyncio.Lock()
        self._blocking = Blocking("cgroups", 1)
        driver.on_connect.append(self._ask_again)

    async def attach(self, alloc: str, network: NetworkMode.ValueType) -> Attachment:
        provider = await self._ready()
        return HostNetwork() if network == NETWORK_HOST else await provider.ensure(alloc)

    async def detach(self, alloc: str) -> None:
        provider = await self._ready()
        await provider.remove(alloc)
        await self._blocking.call(self._cgroups.remove, self.cgroup_parent(alloc))

    def cgroup_parent(self, alloc: str) -> str:
        return cgroup.parent(alloc, self._cgroup_driver or cgroup.CGROUPFS, self._cgroup_root)

    def cgroup_root(self) -> str:
        """The directory of what all allocations have in common."""
        return cgroup.root_directory(self._cgroup_driver or cgroup.CGROUPFS, self._cgroup_root)

    async def held(self) -> list[str]:
        provider = await self._ready()
        return sorted({*await provider.names(), *map(_alloc, self._cgroups.names(self.cgroup_root()))})

    async def socket(self, alloc: str, network: NetworkMode.ValueType) -> socket.socket:
        if network == NETWORK_HOST:
            return plain_socket()
        return await self._helper.socket(str(self._namespaces.path(alloc)))

    def close(self) -> None:
        self._blocking.close()
        self._helper.close()

    def _ask_again(self) -> None:
        self._provider = None

    async def _ready(self) -> NetnsProvider:
        if (known := self._provider) is not None:
            return known
        async with self._asking:
            if (provider := self._provider) is None:
                facts = await self._driver.fingerprint()
                if not facts.healthy:
                    raise EngineAway("; ".join(facts.missing.values()) or "the container engine is away")
                self._cgroup_driver = facts.attributes.get(CGROUP_DRIVER, cgroup.CGROUPFS)
                self._provider = provider = await provider_for(
                    self._driver, facts, self._namespaces, self._helper, self.cgroup_parent
                )
            return provider


def _alloc(cgroup_name: str) -> str:
    """From the last part of its path, which under systemd is "root-ALLOC.slice"."""
    return cgroup_name.removesuffix(".slice").rpartition("-")[2]
