"""Processes and cgroups of a lab: everything started is in one cgroup, so that nothing can be left behind.

A lab owns the cgroup `moor-<lab>` in every hierarchy: the daemons of a host live in its child `sys-<host>`, its
containers under `<host>`. Ending the lab ends whatever is in there, also what a killed dockerd or a killed test run
has left; ending a host so is how it loses power.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def hierarchies() -> list[Path]:
    """Mount points of the cgroup hierarchies: one (v2), or one a controller (v1, with v2 perhaps beside them)."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")]


def tracking_hierarchy() -> Path:
    """The hierarchy whose process lists are asked."""
    return CGROUPS / "pids" if (CGROUPS / "pids").is_dir() else CGROUPS


class ProcessGroup:
    """Starts daemons into the lab's cgroup, and ends all that is in it."""

    def __init__(self, lab: str) -> None:
        self.name = f"moor-{lab}"
        self._root = tracking_hierarchy() / self.name

    def spawn(self, command: Sequence[str], *, host: str, log: Path, env: Mapping[str, str] | None = None) -> int:
        """Start a daemon in a session of its own, output appended to `log`. Returns its process id."""
        procs = self._root / f"sys-{host}" / "cgroup.procs"
        procs.parent.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        # The child enters the cgroup before it becomes the daemon, so that no grandchild can escape.
        entered = ["/bin/sh", "-c", f'echo $$ > {procs} && exec "$@"', "sh", *command]
        with log.open("ab") as output:
            return os.posix_spawn(
                entered[0],
                entered,
                {**os.environ, **(env or {})},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
                    (os.POSIX_SPAWN_DUP2, output.fileno(), 2),
                ],
                setsid=True,
            )

    def pids(self, below: str = "") -> list[int]:
        found: list[int] = []
        for procs in (self._root / below).glob("**/cgroup.procs"):
            with contextlib.suppress(OSError):
                found += [int(line) for line in procs.read_text().split()]
        return found

    def end(self) -> None:
        """All at once: nothing of it is to remain, so nobody has anything to put in order."""
        self.cut_power("")
        self.remove_cgroups()

    def cut_power(self, below: str) -> None:
        """KILL everything below at once, until nothing is left."""
        while left := self.pids(below):
            for pid in left:
                _send(pid, signal.SIGKILL)
            _reap()
            time.sleep(0.02)

    def remove_cgroups(self) -> None:
        for hierarchy in hierarchies():
            root = hierarchy / self.name
            if root.is_dir():
                for folder in _deepest_first(root):
                    with contextlib.suppress(OSError):
                        folder.rmdir()


def _deepest_first(root: Path) -> Iterator[Path]:
    for folder, _, _ in os.walk(root, topdown=False):
        yield Path(folder)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _reap() -> None:
    """Collect our own ended children, which would otherwise stay listed."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def process_state(pid: int) -> str:
    """The letter of /proc/PID/stat (R, S, T for stopped, Z …); empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def alive(pid: int) -> bool:
    """Running, that is, neither gone nor a zombie. While any thread is left, so are its sockets."""
    return process_state(pid) not in ("", "Z", "X") or _threads(pid) > 1


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def kill(pid: int, number: signal.Signals = signal.SIGKILL, *, wait_s: float = 15.0) -> None:
    """Send a signal and wait until the process is gone."""
    _send(pid, number)
    wait_for(lambda: not alive(pid), wait_s, f"process {pid} to end after {number.name}")
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def wait_for(condition: object, timeout_s: float, what: str, *, pause_s: float = 0.05) -> None:
    """Poll until true. Raises TimeoutError that says what was waited for."""
    assert callable(condition)
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(pause_s)


def run(*command: str, check: bool = True, input: bytes | None = None) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself; its error output is in the exception."""
    result = subprocess.run(command, capture_output=True, input=input)
    done = subprocess.CompletedProcess(
        command, result.returncode, result.stdout.decode(errors="replace"), result.stderr.decode(errors="replace")
    )
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done
