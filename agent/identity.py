"""Files of the data directory that say who this node is, and which boot of the machine this is.

They are plain files beside the journal, so that a lost journal does not make another node out of this one.
"""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

from moorage.kit.datadir import kept_id, write_whole

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def node_id(data_dir: Path) -> str:
    """Made at the first start, and kept."""
    return kept_id(data_dir / "node-id")


def cluster_id(data_dir: Path) -> str:
    """Of the cluster that this node has joined; "" before it has."""
    path = data_dir / "cluster-id"
    return path.read_text().strip() if path.exists() else ""


def join(data_dir: Path, cluster: str) -> None:
    write_whole(data_dir / "cluster-id", cluster)


def boot(run_dir: Path) -> str:
    """Names this boot: by the kernel's id, and by a mark in a directory that does not survive one."""
    run_dir.mkdir(parents=True, exist_ok=True)
    mark = run_dir / "boot"
    if not mark.exists():
        write_whole(mark, uuid.uuid4().hex)
    return f"{BOOT_ID.read_text().strip()}/{mark.read_text().strip()}"


def address_towards(peer: str) -> str:
    """The address of this node on the way to `peer` (HOST:PORT); nothing is sent."""
    host, _, port = peer.rpartition(":")
    try:
        family, kind, *_, target = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except (OSError, ValueError):
        return "127.0.0.1"
