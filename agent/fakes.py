"""An agent of which only the driver and the kernel are replaced: for tests, and for fleets on one machine."""

from __future__ import annotations

import socket

from agent.attachments import Attachments, plain_socket
from agent.drivers.fake import FakeDriver, FakeEngine
from agent.drivers.protocol import Attachment, HostNetwork, Netns
from agent.engine import ContainerDriver
from agent.facts import FactsKeeper
from agent.fingerprint import Capacity
from agent.launch import Identity
from agent.settings import Settings
from agent.version import VERSION
from moorage.kit.clock import SystemClock
from moorage.wire.spec_pb2 import NETWORK_HOST, NetworkMode


class FleetDriver(FakeDriver):
    """Stands in for Docker, so that jobs which need Docker are placed here."""

    name = "docker"


class FakeAttachments:
    """Remembers what is attached, and makes nothing."""

    def __init__(self) -> None:
        self.attached: set[str] = set()

    async def attach(self, alloc: str, network: NetworkMode.ValueType) -> Attachment:
        self.attached.add(alloc)
        return HostNetwork() if network == NETWORK_HOST else Netns(f"/fake/{alloc}")

    async def detach(self, alloc: str) -> None:
        self.attached.discard(alloc)

    def cgroup_parent(self, alloc: str) -> str:
        return f"/fake/{alloc}"

    async def held(self) -> list[str]:
        return sorted(self.attached)

    async def socket(self, alloc: str, network: NetworkMode.ValueType) -> socket.socket:
        return plain_socket()

    def close(self) -> None:
        self.attached.clear()


def fake_parts(settings: Settings, who: Identity) -> tuple[ContainerDriver, Attachments, FactsKeeper]:
    clock = SystemClock()
    engine = FakeEngine(clock=clock, start_s=settings.fake_start_s, state=settings.fake_state)
    driver = FleetDriver(engine, who.cluster_id, who.node_id)
    attachments = FakeAttachments()
    keeper = FactsKeeper(
        driver,
        clock,
        name=who.node_name,
        version=VERSION,
        capacity=Capacity(settings.cpu_millis, settings.memory_bytes, settings.disk_bytes),
        labels=settings.labels,
        usage=None,
        parent_of=attachments.cgroup_parent,
    )
    return driver, attachments, keeper
