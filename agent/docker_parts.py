"""The real thing: Docker, network namespaces, cgroups."""

from __future__ import annotations

from agent.attachments import Attachments
from agent.cgroup import Cgroups
from agent.drivers.docker import DockerDriver
from agent.engine import ContainerDriver
from agent.facts import FactsKeeper
from agent.fingerprint import Capacity
from agent.kernel import KernelAttachments
from agent.launch import Identity
from agent.settings import Settings
from agent.usage import UsageReader
from agent.version import VERSION
from moorage.kit.clock import SystemClock


def docker_parts(settings: Settings, who: Identity) -> tuple[ContainerDriver, Attachments, FactsKeeper]:
    cgroups = Cgroups()
    driver = DockerDriver(
        settings.docker_socket, who.cluster_id, who.node_id, netns_links=settings.run_dir / "links", cgroups=cgroups
    )
    netns = settings.run_dir / "netns"
    attachments = KernelAttachments(netns, driver, cgroups, cgroup_root=settings.cgroup_root)
    given = Capacity(settings.cpu_millis, settings.memory_bytes, settings.disk_bytes)
    share = attachments.cgroup_root if settings.cpu_millis else None  # one of several nodes on this machine
    keeper = FactsKeeper(
        driver,
        SystemClock(),
        name=who.node_name,
        version=VERSION,
        capacity=given,
        labels=settings.labels,
        usage=UsageReader(cgroups, settings.data_dir, share=share),
        parent_of=attachments.cgroup_parent,
    )
    return driver, attachments, keeper
