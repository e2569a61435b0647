"""What a container is made of: its image, what it runs, and what the engine lets it do."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import Field

from moorage.model.base import Base, Listed, check, only, refusal
from moorage.model.fields import AbsolutePath, Bytes, SysctlName, Text, matches
from moorage.model.suggest import did_you_mean

_IMAGE = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?/|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_USER = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)?(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?")

CAPABILITIES = frozenset(
    "ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH "
    "FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN "
    "NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT "
    "SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM".split()
)
ULIMITS = frozenset(
    "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()
)


def _check_image(value: str) -> None:
    if not value:
        raise refusal("must name an image, like busybox:1")
    if len(value) > 512 or not _IMAGE.fullmatch(value):
        guess = f"did you mean {value.lower()}?" if _IMAGE.fullmatch(value.lower()) else ""
        raise refusal(f"{value[:80]!r} is not an image's name, like busybox:1 or registry.example:5000/shop:3", guess)


def _check_capability(value: str) -> None:
    if value not in CAPABILITIES:
        guess = did_you_mean(value.upper().removeprefix("CAP_"), CAPABILITIES)
        raise refusal(f"{value[:40]!r} is not a capability, like NET_BIND_SERVICE", guess)


def _check_ulimit(value: str) -> None:
    if value not in ULIMITS:
        raise refusal(f"{value[:40]!r} is not a ulimit, like nofile", did_you_mean(value, ULIMITS))


def _check_address(value: str) -> None:
    try:
        ip_address(value)
    except ValueError:
        raise refusal(f"{value[:60]!r} is not an IP address") from None


Ulimit = Annotated[str, check(_check_ulimit)]
Capability = Annotated[str, check(_check_capability)]
Command = Listed[Text]
Shm = Annotated[Bytes, Field(ge=4096)]


class Capabilities(Base):
    """Changes to the capabilities that the engine gives by itself."""

    add: Listed[Capability] = ()
    """Given in addition; ALL is every one."""
    drop: Listed[Capability] = ()
    """Taken away; ALL is every one."""


class Container(Base):
    """A container, as the engine is asked for it."""

    image: Annotated[str, check(_check_image)]
    """The image, with its tag or digest."""
    pull: Literal["if_missing", "always", "never"] = "if_missing"
    """When the image is fetched from its registry."""
    entrypoint: Command | None = None
    """Replaces the image's entrypoint; an empty list takes it away."""
    command: Command = ()
    """Replaces the image's command. $MOOR_… variables are filled in."""
    user: Annotated[str, matches(_USER, "a user, like 1000, 1000:1000 or www-data")] = ""
    """User, or user:group; the image's own where it is empty."""
    workdir: AbsolutePath | None = None
    """Where the command starts; the image's own where it is not given."""
    read_only_root: bool = False
    """Mount the image's file system read-only."""
    capabilities: Capabilities = Capabilities()
    privileged: Annotated[bool, only(False, "privileged is")] = False
    """Not yet supported."""
    sysctls: dict[SysctlName, Text] = Field(default_factory=dict)
    """Kernel settings of the container's own namespaces."""
    ulimits: dict[Ulimit, Annotated[int, Field(ge=0, lt=1 << 63)]] = Field(default_factory=dict)
    """Soft and hard limit alike."""
    shm: Shm = 64 << 20
    """Size of /dev/shm."""
    hosts: dict[
        Annotated[str, matches(_HOST, "a host's name")],
        Annotated[str, check(_check_address)],
    ] = Field(default_factory=dict)
    """Further lines of /etc/hosts: name -> address."""
