"""A daemon's data directory: held by one process at a time, its small files written whole or not at all."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AlreadyRunning(Exception):
    """Another process holds the data directory."""


@contextmanager
def locked(data_dir: Path, who: str) -> Iterator[None]:
    """Hold the directory, made where it is missing; the lock goes with the process, however it ends.

    Raises AlreadyRunning. `who` says what kind of daemon it is: agent, controller.
    """
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            words = f"another {who} runs with the data directory {data_dir}; give this one its own --data-dir"
            raise AlreadyRunning(words) from None
        yield


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Also when the process is killed or the power fails in the middle."""
    draft = path.with_name(path.name + ".new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def kept_id(path: Path) -> str:
    """A random id, made once and kept."""
    if not path.exists():
        write_whole(path, str(uuid.uuid4()))
    return path.read_text().strip()
