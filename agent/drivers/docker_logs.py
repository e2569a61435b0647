"""What a container printed, and what a command in it prints."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.drivers.docker_engine import Engine, Refused, translated
from agent.drivers.docker_transport import Stream
from agent.drivers.protocol import DriverError, EngineAway, LogChunk

_KEPT_OUTPUT = 4_096


def open_logs(engine: Engine, engine_id: str, *, follow: bool, tail: int, since_ms: int, timestamps: bool) -> Stream:
    """Blocks until the engine begins to answer. `tail`: the last so many lines, -1 for all."""
    params: dict[str, Any] = {"stdout": 1, "stderr": 1, "follow": int(follow), "timestamps": int(timestamps)}
    params["tail"] = "all" if tail < 0 else str(tail)
    if since_ms > 0:
        params["since"] = f"{since_ms // 1000}.{since_ms % 1000:03d}"
    try:
        return engine.stream("GET", f"/containers/{engine_id}/logs", "logs", params=params)
    except Refused as refused:
        raise DriverError(f"its logs cannot be read: {refused.message}", retry=False) from refused


def chunks(stream: Stream) -> Iterator[LogChunk]:
    with translated("logs"):
        for channel, data in stream.frames():
            yield LogChunk(channel if channel in (1, 2) else 1, data)


def run_command(engine: Engine, engine_id: str, command: Sequence[str], timeout_s: float) -> tuple[int, bytes]:
    """Blocks until the command has ended, or for `timeout_s`: then it is killed, and DriverError says so."""
    wish = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True}
    try:
        exec_id = engine.json("POST", f"/containers/{engine_id}/exec", "exec", body=wish)["Id"]
        stream = engine.stream("POST", f"/exec/{exec_id}/start", "exec", body={"Detach": False, "Tty": False})
        output, ended = _output(stream, timeout_s)
        state = engine.json("GET", f"/exec/{exec_id}/json", "exec")
    except Refused as refused:
        raise DriverError(f"the command could not be run: {refused.message}", retry=refused.status >= 500) from refused
    if not ended:
        _kill_leftover(int(state.get("Pid") or 0), engine_id)
        raise DriverError(f"the command did not end within {timeout_s:g} s")
    return int(state["ExitCode"] or 0), output


def _output(stream: Stream, timeout_s: float) -> tuple[bytes, bool]:
    """The first part of the output, and whether the command ended in time."""
    late = threading.Event()

    def too_late() -> None:
        late.set()
        stream.close()

    timer = threading.Timer(timeout_s, too_late)
    timer.daemon = True
    timer.start()
    kept = bytearray()
    try:
        with translated("exec"):
            for _, data in stream.frames():
                kept += data[: _KEPT_OUTPUT - len(kept)]
    except EngineAway:
        if not late.is_set():
            raise
    finally:
        timer.cancel()
        stream.release()
    return bytes(kept), not late.is_set()


def _kill_leftover(pid: int, engine_id: str) -> None:
    """The engine has no call for it. Only a process that is still in that container is killed."""
    try:
        if pid > 0 and engine_id in Path(f"/proc/{pid}/cgroup").read_text():
            os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        pass  # it has ended by itself
