"""Network namespaces that live in a directory: made, listed, removed.

A namespace lives as long as something holds it. Here that is a bind mount of its /proc entry on an empty file, so
that neither a process of ours nor a container has to keep it, and both may restart. The directory is a shared mount
of its own: engines that run in a copy of this mount namespace see what comes and goes, provided that the copy receives
mounts (a slave, as systemd's MountFlags and PrivateMounts make it) and was made when the directory was there, or lies
in a shared mount, as /run does under systemd. The other way round nothing helps: an agent with a mount namespace of
its own mounts for nobody else. What is below a mount is marked, so that the OCI runtime can say so.
A namespace costs half a millisecond; its loopback is up from the start. Nothing here needs pyroute2.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from pathlib import Path

from moorage.kit.netns import NetnsHelper, check, leave_for_new, own_path

_libc = ctypes.CDLL(None, use_errno=True)

_MS_BIND = 0x1000
_MS_SHARED = 0x100000
_MNT_DETACH = 2
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_NSFS_MAGIC = 0x6E736673
_BELOW = 0o111  # executable, which no namespace is: who sees this does not see the mount


class Namespaces:
    """The namespaces of one directory. Every method may be repeated, and blocks for 0.2 to 1 ms."""

    def __init__(self, directory: Path, helper: NetnsHelper) -> None:
        self._directory = directory
        self._helper = helper

    def path(self, name: str) -> Path:
        if not name or "/" in name or name.startswith("."):
            raise ValueError(f"not a name for a namespace: {name!r}")
        return self._directory / name

    def open(self) -> None:
        """Make the directory a shared mount, so that other mount namespaces follow what happens in it."""
        self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        if _mount(None, self._directory, _MS_SHARED) == errno.EINVAL:
            check_mount(_mount(self._directory, self._directory, _MS_BIND), self._directory)
            check_mount(_mount(None, self._directory, _MS_SHARED), self._directory)

    def make(self, name: str) -> Path:
        """A namespace of that name with its loopback up; one that is there already stays as it is."""
        return self._helper.run(None, lambda: self.make_here(name))

    def make_here(self, name: str) -> Path:
        """`make`, for a function that runs in a NetnsHelper's thread already: leaves it in the new namespace."""
        path = self.path(name)
        if not is_namespace(path):
            path.touch(mode=_BELOW)
            _new_namespace_at(path)
        return path

    def hold(self, name: str, source: str) -> Path:
        """Keep the namespace that `source` (say /proc/PID/ns/net) names, in place of any other of that name."""
        self.remove(name)
        path = self.path(name)
        path.touch(mode=_BELOW)
        check_mount(_mount(Path(source), path, _MS_BIND), path)
        return path

    def exists(self, name: str) -> bool:
        return is_namespace(self.path(name))

    def remove(self, name: str) -> None:
        path = self.path(name)
        while _unmount(path):
            pass
        path.unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Also what a crash left half done: an empty file on which no namespace is mounted."""
        if not self._directory.is_dir():
            return []
        return sorted(entry.name for entry in self._directory.iterdir())

    def close(self) -> None:
        """Take the directory away with everything in it."""
        for name in self.names():
            self.remove(name)
        while _unmount(self._directory):
            pass
        if self._directory.is_dir():
            self._directory.rmdir()


def inode(path: Path) -> int:
    """The identity of a namespace: two paths with the same inode name the same one."""
    return path.stat().st_ino


def is_namespace(path: Path) -> bool:
    """Whether a namespace is mounted there (and not just the empty file for it)."""
    try:
        return _filesystem_type(path) == _NSFS_MAGIC
    except FileNotFoundError:
        return False


def loopback_up() -> None:
    """In the namespace of the calling thread."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(sock, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def _new_namespace_at(path: Path) -> None:
    leave_for_new()
    loopback_up()
    check_mount(_mount(Path(own_path()), path, _MS_BIND), path)


def check_mount(number: int, path: Path) -> None:
    if number:
        raise OSError(number, f"mounting {path}: {os.strerror(number)}")


def _mount(source: Path | None, target: Path, flags: int) -> int:
    """The error number; 0 is success."""
    name = os.fsencode(source) if source else b"none"
    if _libc.mount(name, os.fsencode(target), b"none", ctypes.c_ulong(flags), None) == 0:
        return 0
    return ctypes.get_errno()


def _unmount(path: Path) -> bool:
    """Whether something was mounted there."""
    if _libc.umount2(os.fsencode(path), _MNT_DETACH) == 0:
        return True
    if ctypes.get_errno() in (errno.EINVAL, errno.ENOENT):
        return False
    check(-1, f"unmounting {path}")
    return False


def _filesystem_type(path: Path) -> int:
    buffer = ctypes.create_string_buffer(256)
    if _libc.statfs(os.fsencode(path), buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    return int.from_bytes(buffer.raw[:8], "little")
