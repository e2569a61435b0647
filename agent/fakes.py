"""An agent of which only the driver and the kernel are replaced: for tests, and for fleets on one machine."""

from __future__ import annotations

from agent.attachments import Attachments, FakeAttachments
from agent.drivers.fake import FakeDriver, FakeEngine
from agent.engine import ContainerDriver
from agent.facts import FactsKeeper
from agent.fingerprint import Capacity
from agent.launch import Identity
from agent.settings import Settings
from agent.version import VERSION
from moorage.kit.clock import SystemClock


class FleetDriver(FakeDriver):
    """Stands in for Docker, so that jobs which need Docker are placed here."""

    name = "docker"


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
