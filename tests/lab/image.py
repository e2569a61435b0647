"""The image that needs no registry: Debian's static busybox and nothing else."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.lab.dockerapi import EngineRefused, call, filters

NAME = "busybox:1"


def rootfs_tar(busybox: Path) -> bytes:
    """A root file system: one binary, a link for each of its applets, the folders that programs expect."""
    applets = subprocess.run([str(busybox), "--list"], capture_output=True, text=True, check=True).stdout.split()
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("var", 0o755), ("root", 0o700)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        tar.add(busybox, "bin/busybox")
        for applet in applets:
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        for name, text in (("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("etc/group", "root:x:0:\n")):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return output.getvalue()


def static_busybox() -> Path:
    """Where Debian's package busybox-static puts it. Raises RuntimeError that says what to install."""
    for candidate in (Path("/bin/busybox"), Path(shutil.which("busybox") or "/nonexistent")):
        if candidate.exists():
            return candidate
    raise RuntimeError("no busybox on this machine: apt-get install busybox-static")


def unload(socket: Path, name: str = NAME) -> None:
    """Make it be forgotten again, where nothing uses it."""
    with contextlib.suppress(EngineRefused):
        call(socket, "DELETE", f"/images/{name}")


def load(socket: Path, name: str = NAME) -> bool:
    """Make the image be known to the engine at `socket`. Returns False where it was already."""
    if call(socket, "GET", f"/images/json?{filters(reference=[name])}"):
        return False
    repository, _, tag = name.partition(":")
    call(socket, "POST", f"/images/create?fromSrc=-&repo={repository}&tag={tag}", rootfs_tar(static_busybox()))
    return True
