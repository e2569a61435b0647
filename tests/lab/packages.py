"""What the lab and the tests need from Debian, and how it gets here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

# program that tells whether it is there -> package that brings it
FOR_A_CLUSTER = {
    "dockerd": "docker.io",
    "etcd": "etcd-server",
    "etcdctl": "etcd-client",
    "ip": "iproute2",
    "iptables": "iptables",
    "busybox": "busybox-static",
    "nsenter": "util-linux",
}
FOR_TESTS = {**FOR_A_CLUSTER, "mmdebstrap": "mmdebstrap", "docker-registry": "docker-registry"}


def missing(wanted: dict[str, str]) -> list[str]:
    """Packages whose program is not on this machine."""
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin", "/bin"])
    lacking = [package for program, package in wanted.items() if not shutil.which(program, path=search)]
    busybox = shutil.which("busybox", path=search)
    if busybox and not _static(Path(busybox)):
        lacking.append("busybox-static")
    return lacking


def install(packages: list[str]) -> None:
    """Raises RuntimeError with apt's last words."""
    if not shutil.which("apt-get"):
        raise RuntimeError(f"please install {', '.join(packages)}: this system has no apt-get to do it")
    # Daemons are started by the lab where it wants them; a package's own start would only get in the way.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
    ):
        result = subprocess.run(command, env=quiet, capture_output=True, text=True)
        if result.returncode:
            last = "\n".join((result.stderr or result.stdout).strip().splitlines()[-4:])
            raise RuntimeError(f"{' '.join(command)} failed:\n{last}")


def _static(binary: Path) -> bool:
    return b"ld-linux" not in binary.read_bytes()[:4096]
