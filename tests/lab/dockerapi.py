"""The engine's HTTP API over its socket, as little of it as the lab needs, and without anything that stays open."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

API = "1.41"  # of Docker 20.10, which newer ones speak too


class EngineRefused(Exception):
    """What the engine said instead of doing it."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.sock.close()
            raise


def call(path: Path, method: str, route: str, body: bytes | None = None, *, timeout_s: float = 60) -> Any:
    """One request on a connection of its own. Raises OSError where nobody answers, EngineRefused for an error."""
    connection = _Connection(path, timeout_s)
    try:
        connection.request(method, f"/v{API}{route}", body, {"Content-Type": "application/x-tar"} if body else {})
        answer = connection.getresponse()
        data = answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"the engine hung up: {error!r}") from error
    finally:
        connection.close()
    if answer.status >= 400:
        raise EngineRefused(f"{method} {route}: {answer.status} {data.decode(errors='replace').strip()}")
    return json.loads(data) if data and answer.getheader("Content-Type", "").startswith("application/json") else data


def filters(**conditions: list[str]) -> str:
    return "filters=" + quote(json.dumps(conditions))
