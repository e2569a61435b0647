"""Debian 13's programs beside the machine's own, so that one test run covers two releases of etcd and of Docker.

Packages come through this machine's own apt: its mirror, its proxies, its keys; only the suite is another. What is
built once stays in a cache ($MOOR_TEST_CACHE, else /var/cache/moorage-tests), is put in place by one rename, and is
used again by later runs:

    trixie-deb-<packages>-<digest>/       packages unpacked without installing anything (enough for one binary)
    trixie-root-<packages>-<digest>/      a root that one can chroot into, with the packages installed
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2s
from pathlib import Path

SUITE = "trixie"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DOCKER_PACKAGES = ("docker.io", "containerd", "runc", "iptables", "ca-certificates", "busybox-static")


def debian13_root(packages: Sequence[str]) -> Path:
    """A root of Debian 13 with these packages. Mount /dev, /proc, /sys and a tmpfs on /run to run daemons in it."""
    return _cached("root", packages, lambda target: _bootstrap(target, packages))


def debian13_docker() -> Path:
    """A root with Debian 13's engine: dockerd, containerd, runc, iptables; busybox-static for a tiny image."""
    return debian13_root(DOCKER_PACKAGES)


def debian13_etcd() -> Path:
    """The folder with Debian 13's etcd (3.5) and etcdutl: static enough to run here without a chroot."""
    return _cached("deb", ["etcd-server"], lambda target: _unpack(target, ["etcd-server"])) / "usr/bin"


def cache_folder() -> Path:
    return Path(os.environ.get("MOOR_TEST_CACHE", "/var/cache/moorage-tests"))


def machine_mirror() -> str:
    """The mirror of Debian that this machine's apt is set up with."""
    folder = Path("/etc/apt")
    for file in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if file.suffix in (".list", ".sources") and file.exists() and (mirror := _mirror(file.read_text())):
            return mirror
    raise RuntimeError("no mirror of Debian found in /etc/apt: is this machine a Debian?")


def _mirror(text: str) -> str | None:
    """From either form of a source: `deb [options] URI suite …`, or a stanza with `URIs:`. Not the security one."""
    one_line = re.findall(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+\S", text, re.MULTILINE)
    stanzas = re.findall(r"^URIs:\s*(\S+)", text, re.MULTILINE)
    return next((uri for uri in one_line + stanzas if re.search(r"/debian/?$", uri)), None)


def _cached(kind: str, packages: Sequence[str], build: Callable[[Path], None]) -> Path:
    """Built beside its place and renamed: an interrupted run leaves nothing that looks complete."""
    names = sorted(packages)
    digest = blake2s(" ".join(names).encode(), digest_size=4).hexdigest()
    place = cache_folder() / f"{SUITE}-{kind}-{'-'.join(names)[:60]}-{digest}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with _lock(place.with_name(place.name + ".lock")):
        if not place.exists():
            _build_aside(place, build)
    return place


def _build_aside(place: Path, build: Callable[[Path], None]) -> None:
    aside = place.with_name(place.name + ".new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        build(aside)
        aside.rename(place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Several test processes want the same thing: one builds it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _bootstrap(target: Path, packages: Sequence[str]) -> None:
    """`minbase` and the packages; the mirror and apt's configuration are the machine's, proxies and CAs too."""
    _run(
        "mmdebstrap",
        "--variant=minbase",
        "--mode=root",
        f"--keyring={KEYRING}",
        f"--include={','.join(packages)}",
        "--aptopt=Acquire::Languages none",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        *(f"--aptopt={line}" for line in _machine_apt_options()),
        SUITE,
        str(target),
        f"deb [signed-by={KEYRING}] {machine_mirror()} {SUITE} main",
    )
    target.chmod(0o755)


def _machine_apt_options() -> list[str]:
    """What says how to reach the mirror: proxies, certificates, credentials."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    return [line for line in dump.splitlines() if re.match(r"Acquire::(https?|Retries)\b.* \"[^\"]+\";$", line)]


def _unpack(target: Path, packages: Sequence[str]) -> None:
    """`apt-get download` with lists of our own, so that the machine's lists and sources stay as they are."""
    with tempfile.TemporaryDirectory(prefix="moorage-apt-") as folder:
        apt = ["apt-get", "-q", *_private_apt(Path(folder))]
        _run(*apt, "update")
        _run(*apt, "download", *packages, cwd=folder)
        for package in Path(folder).glob("*.deb"):
            _run("dpkg-deb", "-x", str(package), str(target))


def _private_apt(folder: Path) -> list[str]:
    (folder / "lists/partial").mkdir(parents=True)
    (folder / "cache/archives/partial").mkdir(parents=True)
    sources = folder / "debian13.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {machine_mirror()} {SUITE} main\n")
    options = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Dir::State::status": "/dev/null",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    return [part for name, value in options.items() for part in ("-o", f"{name}={value}")]


def _run(*command: str, cwd: str | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} … failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
