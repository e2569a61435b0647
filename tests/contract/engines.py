"""Container engines of the suite's own: Debian 12's dockerd, and Debian 13's in a root of its own.

Each has its data, sockets and cgroups under one temporary folder and one cgroup, the OCI runtime wrapper registered
and live-restore on, no bridge and no iptables rule; nothing of the machine's own engine is touched. `close` takes
everything away again: containers, processes, mounts, cgroups, files.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

from agent.cgroup import Cgroups
from agent.drivers.docker_engine import Engine, Refused
from agent.drivers.oci.install import RUNTIME, merge, write_wrapper
from agent.drivers.protocol import EngineAway
from moorage.kit.netns import NetnsHelper
from netvirt.netlink.namespace import Namespaces
from tests.tools.chroot import debian13_docker

IMAGE = "busybox:test"
BUSYBOX = Path("/bin/busybox")


class PrivateEngine:
    """One dockerd. `root`: the root to run it in, None for the machine's own binary."""

    def __init__(self, root: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="moor-e", dir="/tmp"))
        self.name = self.folder.name
        self.socket = self.folder / "docker.sock"
        self.links = self.folder / "links"
        self.wrapper = self.folder / "moorage-runtime"
        self.cgroup_root = f"/{self.name}"
        self.helper = NetnsHelper("test-netns")
        self.namespaces = Namespaces(self.folder / "netns", self.helper)
        self.engine = Engine(str(self.socket), timeout_s=20)
        self._root = root
        self._other_root: OtherRoot | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of dockerd itself, whatever started it."""
        return int((self.folder / "docker.pid").read_text())

    def open(self) -> None:
        self.namespaces.open()
        write_wrapper(self.wrapper, self.links)
        config = merge({"live-restore": True}, self.wrapper)
        (self.folder / "daemon.json").write_text(json.dumps(config))
        if self._root is not None:
            self._other_root = OtherRoot(self._root, self.folder)
            self._other_root.open()
        self.start()
        self.import_image(IMAGE)

    def start(self) -> None:
        """Also after `kill`. A dockerd beside the remains of an old containerd would fail: wait for them to go."""
        _wait(lambda: not self._containerd_lives(), "the old containerd to go")
        log = (self.folder / "dockerd.log").open("ab")
        command = self._command()
        if self._other_root is not None:
            command = self._other_root.inside(command)
        self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        log.close()
        _wait(self.answers, "dockerd to answer", alive=self._process)

    def answers(self) -> bool:
        try:
            self.engine.negotiate()
            self.engine.json("GET", "/info", "info")
        except (EngineAway, Refused):
            return False
        return True

    def kill(self) -> None:
        """kill -9 of dockerd (its containerd follows): containers and their shims live on."""
        os.kill(self.pid, signal.SIGKILL)
        self._reap()
        (self.folder / "docker.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """An orderly end; containers live on under live-restore."""
        os.kill(self.pid, signal.SIGTERM)
        self._reap()

    def import_image(self, name: str) -> None:
        """A root of nothing but a static busybox and its usual names."""
        repository, tag = name.split(":")
        params = {"fromSrc": "-", "repo": repository, "tag": tag}
        stream = self.engine.stream("POST", "/images/create", "import", params=params, data=busybox_root())
        assert not [line for line in stream.lines() if b'"error"' in line]
        stream.release()

    def remove_image(self, name: str) -> None:
        self.engine.json("DELETE", f"/images/{name}", "remove image", params={"force": 1})

    def close(self) -> None:
        if self._process is not None:
            if not self.answers():
                self.start()
            self._remove_containers()
            self.stop()
            _wait(lambda: not self._containerd_lives(), "containerd to go")
        self.engine.close()
        if self._other_root is not None:
            self._other_root.close()
        self.namespaces.close()
        self.helper.close()
        _unmount_below(self.folder)
        Cgroups().remove(self.cgroup_root)
        shutil.rmtree(self.folder)

    def _remove_containers(self) -> None:
        for found in self.engine.json("GET", "/containers/json", "list", params={"all": 1}):
            self.engine.json("DELETE", f"/containers/{found['Id']}", "remove", params={"force": 1, "v": 1})

    def _command(self) -> list[str]:
        at = self.folder
        return [
            "dockerd",
            f"--config-file={at}/daemon.json",
            f"--data-root={at}/data",
            f"--exec-root={at}/exec",
            f"--pidfile={at}/docker.pid",
            f"--host=unix://{self.socket}",
            f"--cgroup-parent={self.cgroup_root}/engine",
            "--storage-driver=overlay2",
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--ip-masq=false",
            "--userland-proxy=false",
        ]

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait(30)

    def _containerd_lives(self) -> bool:
        """dockerd's own, which follows it within a second, even after kill -9."""
        pidfile = self.folder / "exec/containerd/containerd.pid"
        pid = pidfile.read_text().strip() if pidfile.exists() else ""
        return bool(pid) and Path(f"/proc/{pid}").exists()


_ENTER = 'cd "$1" && mkdir run/old && pivot_root . run/old && umount -l run/old && rmdir run/old && shift && exec "$@"'


class OtherRoot:
    """A root with the kernel's file systems in it and the engine's folder at the same path.

    Entered by pivot_root in a mount namespace of its own: in a mere chroot, `exec` would find itself outside, in the
    root of the mount namespace.
    """

    def __init__(self, root: Path, shared: Path) -> None:
        self.path = shared.with_name(shared.name + ".root")
        self._root = root
        self._shared = shared

    def open(self) -> None:
        self.path.mkdir()
        _run("mount", "--bind", str(self._root), str(self.path))
        for name in ("dev", "proc", "sys"):
            _run("mount", "--rbind", f"/{name}", str(self.path / name))
            _run("mount", "--make-rslave", str(self.path / name))
        for name in ("run", "tmp"):
            _run("mount", "-t", "tmpfs", "tmpfs", str(self.path / name))
        inside = self.path / str(self._shared).lstrip("/")
        inside.mkdir(parents=True, exist_ok=True)
        _run("mount", "--rbind", str(self._shared), str(inside))

    def inside(self, command: list[str]) -> list[str]:
        """What is mounted in the engine's folder later on shows up in there as well."""
        enter = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", _ENTER, "sh", str(self.path)]
        return [*enter, *command]

    def close(self) -> None:
        _unmount_below(self.path)
        self.path.rmdir()


def busybox_root() -> bytes:
    """A tar archive with /bin/busybox, its common names, and the files that users and temporary files need."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(BUSYBOX.resolve(), "bin/busybox")
        for name in ("sh", "sleep", "cat", "echo", "id", "ls", "tail", "head", "dd", "hostname", "true", "kill", "seq"):
            _add(archive, f"bin/{name}", kind=tarfile.SYMTYPE, link="busybox")
        _add(archive, "tmp", kind=tarfile.DIRTYPE, mode=0o1777)
        _add(archive, "etc/passwd", content=b"root:x:0:0::/:/bin/sh\nwww:x:33:33::/:/bin/sh\n")
        _add(archive, "plain", content=b"not a program\n")
    return buffer.getvalue()


def _add(
    archive: tarfile.TarFile,
    name: str,
    *,
    content: bytes = b"",
    kind: bytes = tarfile.REGTYPE,
    link: str = "",
    mode: int = 0o644,
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, len(content)
    archive.addfile(info, io.BytesIO(content))


def debian12_engine() -> PrivateEngine:
    return PrivateEngine()


def debian13_engine() -> PrivateEngine:
    return PrivateEngine(debian13_docker())


def registered(engine: PrivateEngine) -> bool:
    return RUNTIME in engine.engine.json("GET", "/info", "info")["Runtimes"]


def _wait(condition, what: str, timeout_s: float = 40.0, alive: subprocess.Popen[bytes] | None = None) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + timeout_s
    while not condition():
        if alive is not None and alive.poll() is not None:
            raise RuntimeError(f"waited for {what}, but the process ended with {alive.returncode}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.05)


def _unmount_below(folder: Path) -> None:
    """Everything that is mounted at or below it, the innermost first."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for target in reversed(mounted):
        if target == str(folder) or target.startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", target], check=False, capture_output=True)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
