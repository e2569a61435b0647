from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from moorage.cli.main import run
from tests.unit.cli.fake import FakeApi


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Moor = Callable[..., Result]


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "MOOR_URL": "http://controller:7070",
        "MOOR_TOKEN": "moor_id_secret",
        "MOOR_CONFIG": str(tmp_path / "config" / "contexts.yaml"),
    }


@pytest.fixture
def moor(
    api: FakeApi, environ: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Moor:
    """Runs one command against `api`; with `columns` on a terminal of that width."""

    def call(*arguments: str, stdin: str = "", columns: int | None = None) -> Result:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: columns is not None, raising=False)
        for name, value in {"TERM": "xterm", "COLUMNS": str(columns or 80), "LINES": "24"}.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        code = run(list(arguments), environ, api.transport())
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def hello(tmp_path: Path) -> str:
    path = tmp_path / "hello.yaml"
    path.write_text(
        """kind: Job
name: hello
groups:
  web:
    count: 3
    tasks:
      server:
        container: {image: "busybox:1"}
"""
    )
    return str(path)
