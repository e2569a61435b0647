"""Files of the data directory that say who this node is, and which boot of the machine this is.

They are plain files beside the journal, so that a lost journal does not make another node out of this one.
"""

from __future__ import annotations

import fcntl
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class AlreadyRunning(Exception):
    """Another agent holds the data directory."""


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """One agent a data directory; the lock goes with the process, however it ends."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"another agent already runs with the data directory {data_dir}") from None
        yield


def node_id(data_dir: Path) -> str:
    """Made at the first start, and kept."""
    path = data_dir / "node-id"
    if not path.exists():
        write(path, str(uuid.uuid4()))
    return path.read_text().strip()


def cluster_id(data_dir: Path) -> str:
    """Of the cluster that this node has joined; "" before it has."""
    path = data_dir / "cluster-id"
    return path.read_text().strip() if path.exists() else ""


def join(data_dir: Path, cluster: str) -> None:
    write(data_dir / "cluster-id", cluster)


def boot(run_dir: Path) -> str:
    """Names this boot: by the kernel's id, and by a mark in a directory that does not survive one."""
    run_dir.mkdir(parents=True, exist_ok=True)
    mark = run_dir / "boot"
    if not mark.exists():
        write(mark, uuid.uuid4().hex)
    return f"{BOOT_ID.read_text().strip()}/{mark.read_text().strip()}"


def write(path: Path, text: str) -> None:
    """Whole or not at all, also when the power fails."""
    draft = path.with_name(path.name + ".new")
    with draft.open("w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


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
