"""An image registry of the suite's own: Debian's docker-registry on loopback, with or without a login.

Engines take plain HTTP from loopback as it is. `Narrow` stands between an engine and a registry, so that a pull takes
long enough to be watched.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import socket
import subprocess
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.contract.engines import PrivateEngine, busybox_root

USER, PASSWORD = "shop", "let me in"
_HTPASSWD = "shop:$2y$05$abcdefghijklmnopqrstuu4h2R.N3/mVBA7Xh7aLzKSJDAsK61n52\n"


class PrivateRegistry:
    def __init__(self, folder: Path, *, login: bool = False) -> None:
        self.folder = folder
        self.port = free_port()
        self._login = login
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")}},
            "http": {"addr": self.host},
        }
        if self._login:
            (self.folder / "htpasswd").write_text(_HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "shop", "path": str(self.folder / "htpasswd")}}
        path = self.folder / "config.yml"
        path.write_text(json.dumps(config))  # JSON is YAML too
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(["docker-registry", "serve", str(path)], stdout=log, stderr=log)
        _until_it_listens(self.port)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def push(self, engine: PrivateEngine, name: str, *, payload: bytes = b"") -> str:
        """Puts an image there (busybox and a `payload`), removes it from the engine, and returns its digest."""
        image, tag = f"{self.host}/{name}".rsplit(":", 1)
        params = {"fromSrc": "-", "repo": image, "tag": tag}
        stream = engine.engine.stream("POST", "/images/create", "import", params=params, data=_layer(payload))
        assert not [line for line in stream.lines() if b'"error"' in line]
        digest = self._upload(engine, image, tag)
        engine.remove_image(f"{image}:{tag}")
        return digest

    def _upload(self, engine: PrivateEngine, image: str, tag: str) -> str:
        with engine.engine.sdk() as client:
            login = {"username": USER, "password": PASSWORD}
            reports = list(client.push(image, tag=tag, stream=True, decode=True, auth_config=login))
        wrong = [report["error"] for report in reports if "error" in report]
        assert not wrong, wrong
        return str(next(report["aux"]["Digest"] for report in reports if "aux" in report))


def docker_config(folder: Path, registry: str, password: str) -> None:
    """What `docker login` leaves in a node's configuration."""
    login = base64.b64encode(f"{USER}:{password}".encode()).decode()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"auths": {registry: {"auth": login}}}))


class Narrow:
    """Passes on what comes to its port, at so many bytes a second in the answers' direction."""

    def __init__(self, target: int, bytes_per_s: int) -> None:
        self._target = target
        self._rate = bytes_per_s
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for each in (self._server, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                upstream = socket.create_connection(("127.0.0.1", self._target))
                self._open += [client, upstream]
                threading.Thread(target=_pass_on, args=(client, upstream, 0), daemon=True).start()
                threading.Thread(target=_pass_on, args=(upstream, client, self._rate), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket, rate: int) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(64 * 1024):
            sink.sendall(data)
            if rate:
                time.sleep(len(data) / rate)
        sink.shutdown(socket.SHUT_WR)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _layer(payload: bytes) -> bytes:
    whole = io.BytesIO(busybox_root())
    if payload:
        with tarfile.open(fileobj=whole, mode="a") as archive:
            info = tarfile.TarInfo("payload")
            info.size = len(payload)
            archive.addfile(info, io.BytesIO(payload))
    return whole.getvalue()


def _until_it_listens(port: int, timeout_s: float = 20.0) -> None:
    until = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        assert time.monotonic() < until, "the registry does not listen"
        time.sleep(0.05)
