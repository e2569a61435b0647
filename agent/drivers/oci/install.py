"""Puts the OCI runtime wrapper on a node and tells the engine of it.

One wrapper an installation: it carries the directory in which that agent links namespaces. daemon.json gets one entry
under `runtimes`, everything else in it stays as it was, and `unregister` takes the entry out again. The engine learns
of it by SIGHUP; nothing restarts. `register` may be repeated.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from agent.drivers.docker_engine import Engine
from agent.drivers.protocol import EngineAway

RUNTIME = "moorage"
DAEMON_JSON = Path("/etc/docker/daemon.json")
_SAFE_PATH = re.compile(r"[A-Za-z0-9._/+-]+")


class RuntimeNotRegistered(Exception):
    """The engine was told, and does not know the runtime (or still knows it)."""


def wrapper_text(links: Path, runc: str = "runc") -> str:
    """The wrapper for one installation. ValueError for a path that a shell or sed would read as something else."""
    for text in (str(links), runc):
        if not _SAFE_PATH.fullmatch(text):
            raise ValueError(f"only letters, digits and . _ / + - may be in the path {text!r}")
    if not links.is_absolute():
        raise ValueError(f"{links} must be an absolute path")
    template = files("agent.drivers.oci").joinpath("moorage-runtime.sh").read_text()
    return template.replace("@LINKS@", str(links)).replace("@RUNC@", runc)


def merge(daemon: Mapping[str, Any], wrapper: Path, name: str = RUNTIME) -> dict[str, Any]:
    """daemon.json with our entry."""
    runtimes = {**daemon.get("runtimes", {}), name: {"path": str(wrapper)}}
    return {**daemon, "runtimes": runtimes}


def unmerge(daemon: Mapping[str, Any], wrapper: Path, name: str = RUNTIME) -> dict[str, Any]:
    """daemon.json without our entry; one of that name with another path is somebody else's, and stays."""
    runtimes = dict(daemon.get("runtimes", {}))
    if runtimes.get(name, {}).get("path") != str(wrapper):
        return dict(daemon)
    del runtimes[name]
    rest = {key: value for key, value in daemon.items() if key != "runtimes"}
    return {**rest, "runtimes": runtimes} if runtimes else rest


def write_wrapper(wrapper: Path, links: Path, runc: str = "runc") -> None:
    links.mkdir(parents=True, exist_ok=True)
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    _replace(wrapper, wrapper_text(links, runc), mode=0o755)


def register(
    engine: Engine, pid: int, wrapper: Path, links: Path, *, name: str = RUNTIME, daemon_json: Path = DAEMON_JSON
) -> bool:
    """Write the wrapper, add the entry, have dockerd (`pid`) read it, and see that it did. False: it knew already."""
    write_wrapper(wrapper, links)
    changed = _change(daemon_json, merge(_read(daemon_json), wrapper, name))
    if changed or name not in _runtimes(engine):
        os.kill(pid, signal.SIGHUP)
        _until_known(engine, name, True)
        return True
    return False


def unregister(
    engine: Engine, pid: int, wrapper: Path, *, name: str = RUNTIME, daemon_json: Path = DAEMON_JSON
) -> bool:
    """The reverse. Containers that run go on; the engine may be away. False: there was nothing to take back."""
    before = _read(daemon_json)
    after = unmerge(before, wrapper, name)
    if after != before and pid:
        # An engine forgets runtimes only where it reads a list of them without ours, be it an empty one.
        _change(daemon_json, {"runtimes": {}, **after})
        os.kill(pid, signal.SIGHUP)
        _until_known(engine, name, False)
    _change(daemon_json, after)
    wrapper.unlink(missing_ok=True)
    return after != before


def _until_known(engine: Engine, name: str, wanted: bool, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while (name in _runtimes(engine)) != wanted:
        if time.monotonic() > deadline:
            word = "does not know" if wanted else "still knows"
            raise RuntimeNotRegistered(f"the container engine {word} runtime {name}; is daemon.json the one it reads?")
        time.sleep(0.05)


def _runtimes(engine: Engine) -> Mapping[str, Any]:
    try:
        return dict(engine.json("GET", "/info", "info").get("Runtimes") or {})
    except EngineAway:
        return {}


def _read(daemon_json: Path) -> dict[str, Any]:
    text = daemon_json.read_text() if daemon_json.exists() else ""
    return dict(json.loads(text)) if text.strip() else {}


def _change(daemon_json: Path, wanted: Mapping[str, Any]) -> bool:
    """Nothing is written where nothing changes; a file that would hold nothing goes."""
    if wanted == _read(daemon_json):
        return False
    if wanted:
        daemon_json.parent.mkdir(parents=True, exist_ok=True)
        mode = daemon_json.stat().st_mode & 0o777 if daemon_json.exists() else 0o644
        _replace(daemon_json, json.dumps(wanted, indent=2) + "\n", mode)
    else:
        daemon_json.unlink()
    return True


def _replace(path: Path, text: str, mode: int) -> None:
    """At once or not at all."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.chmod(mode)
    new.replace(path)
