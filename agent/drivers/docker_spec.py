"""Translates a Launch into the body of the engine's create-container call. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2s
from typing import Any

from agent.drivers import labels
from agent.drivers.protocol import Attachment, HostNetwork, Launch, Netns
from moorage.wire.spec_pb2 import ContainerSpec, LogPolicy, Resources

Body = dict[str, Any]
HOSTS = "/etc/hosts"

_CPU_PERIOD_US = 100_000
_MIN_QUOTA_US = 1_000  # the kernel takes nothing less
_MIN_SHARES, _MAX_SHARES = 2, 262_144
_SAME_SHARES_AS_ONE_CORE = 1_024


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose containers these are, and the runtime that joins prepared namespaces."""

    cluster: str
    node: str
    runtime: str


def create_body(launch: Launch, attachment: Attachment, owner: Owner, hosts_file: str = "") -> Body:
    """`hosts_file`: on the node, mounted as /etc/hosts where the task has a namespace of its own."""
    container = launch.spec.container
    body: Body = {
        "Image": container.image,
        "Env": [f"{name}={value}" for name, value in launch.env.items()],
        "Healthcheck": {"Test": ["NONE"]},  # health is judged by the job's own checks, not by the image's
        "HostConfig": _host_config(launch, attachment, owner, hosts_file),
    }
    if launch.command:
        body["Cmd"] = list(launch.command)
    if container.entrypoint_set or launch.entrypoint:
        body["Entrypoint"] = list(launch.entrypoint) or [""]  # [""] is the engine's word for "none at all"
    if container.user:
        body["User"] = container.user
    if container.workdir:
        body["WorkingDir"] = container.workdir
    if launch.hostname and not _shares_names(attachment):
        body["Hostname"] = launch.hostname
    body["Labels"] = _labels(launch, owner, body)
    return body


def _labels(launch: Launch, owner: Owner, body: Body) -> dict[str, str]:
    return {
        **launch.labels,
        labels.CLUSTER: owner.cluster,
        labels.NODE: owner.node,
        labels.ALLOC: launch.id.alloc,
        labels.TASK: launch.id.task,
        labels.RUN: str(launch.id.run),
        labels.CGROUP: launch.cgroup_parent,
        labels.LAUNCH: fingerprint_of(body),
    }


def fingerprint_of(body: Mapping[str, Any]) -> str:
    """Equal for equal launches."""
    return blake2s(json.dumps(body, sort_keys=True).encode(), digest_size=8).hexdigest()


def wants_hosts_file(launch: Launch, attachment: Attachment) -> bool:
    """Engines fill in /etc/hosts where they made the namespace; in ours some show the node's own, others nothing."""
    return isinstance(attachment, Netns) and all(target != HOSTS for _, target, _ in launch.mounts)


def hosts_text(launch: Launch) -> str:
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    if launch.hostname:
        lines.append(f"127.0.1.1\t{launch.hostname}")
    lines += [f"{address}\t{name}" for name, address in sorted(launch.spec.container.hosts.items())]
    return "\n".join(lines) + "\n"


def _host_config(launch: Launch, attachment: Attachment, owner: Owner, hosts_file: str) -> Body:
    container = launch.spec.container
    config: Body = {
        "RestartPolicy": {"Name": "no"},  # restarts are the agent's
        "LogConfig": _log_config(launch.spec.logs),
        "CgroupParent": launch.cgroup_parent,
        "Init": False,
        **_network(attachment, owner),
        **_limits(launch.spec.resources),
        **_isolation(container),
    }
    if container.hosts and isinstance(attachment, HostNetwork):
        config["ExtraHosts"] = [f"{name}:{address}" for name, address in sorted(container.hosts.items())]
    mounts = [*launch.mounts, *([(hosts_file, HOSTS, True)] if hosts_file else [])]
    if mounts:
        config["Mounts"] = [_bind(*mount) for mount in mounts]
    return config


def _network(attachment: Attachment, owner: Owner) -> Body:
    if isinstance(attachment, HostNetwork):
        return {"NetworkMode": "host"}
    if attachment.holder:
        return {"NetworkMode": f"container:{attachment.holder}"}
    # `none` stays the safe default should the runtime ever be missing.
    return {"NetworkMode": "none", "Runtime": owner.runtime}


def _shares_names(attachment: Attachment) -> bool:
    """The engine refuses names of their own to those who live in somebody else's namespace."""
    return isinstance(attachment, HostNetwork) or bool(attachment.holder)


def _limits(resources: Resources) -> Body:
    """Reserved and allowed are one number where only one is given; swap never extends memory."""
    limits: Body = {}
    if resources.cpu_millis:
        shares = resources.cpu_millis * _SAME_SHARES_AS_ONE_CORE // 1000
        limits["CpuShares"] = max(_MIN_SHARES, min(shares, _MAX_SHARES))
    if cpu := resources.cpu_limit_millis or resources.cpu_millis:
        limits["CpuPeriod"] = _CPU_PERIOD_US
        limits["CpuQuota"] = max(_MIN_QUOTA_US, cpu * _CPU_PERIOD_US // 1000)
    if memory := resources.memory_limit_bytes or resources.memory_bytes:
        limits["Memory"] = limits["MemorySwap"] = memory
    if 0 < resources.memory_bytes < resources.memory_limit_bytes:
        limits["MemoryReservation"] = resources.memory_bytes
    if resources.pids:
        limits["PidsLimit"] = resources.pids
    return limits


def _isolation(container: ContainerSpec) -> Body:
    config: Body = {}
    if container.read_only_root:
        config["ReadonlyRootfs"] = True
    if container.capabilities_add:
        config["CapAdd"] = list(container.capabilities_add)
    if container.capabilities_drop:
        config["CapDrop"] = list(container.capabilities_drop)
    if container.ulimits:
        config["Ulimits"] = [{"Name": name, "Soft": n, "Hard": n} for name, n in sorted(container.ulimits.items())]
    if container.sysctls:
        config["Sysctls"] = dict(container.sysctls)
    if container.shm_bytes:
        config["ShmSize"] = container.shm_bytes
    return config


def _log_config(logs: LogPolicy) -> Body:
    config: dict[str, str] = {}
    if logs.max_size_bytes:
        config["max-size"] = str(logs.max_size_bytes)
        config["max-file"] = str(max(1, logs.max_files))
    return {"Type": "json-file", "Config": config}


def _bind(source: str, target: str, read_only: bool) -> Body:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
