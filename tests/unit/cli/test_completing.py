"""What Tab offers, asked as shells ask: through the environment of a process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from moorage.cli import contexts

NAMES = {
    "/v1/projects/default/jobs": ["hello", "health", "web"],
    "/v1/projects/shop/jobs": ["cart"],
    "/v1/projects/default/allocations": ["hello/web/0", "hello/web/0", "hello/web/1"],
    "/v1/nodes": ["h1", "h2"],
}


class Lists(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        allowed = self.headers["Authorization"] == "Bearer moor_id_secret"
        self.send_response(200 if allowed else 401)
        self.end_headers()
        self.wfile.write(json.dumps({"items": [{"name": name} for name in NAMES[self.path]]}).encode())

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Lists)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def surroundings(tmp_path: Path, url: str) -> dict[str, str]:
    """A home with a context, and a `moor` on the path."""
    environ = {"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    contexts.write("dev", url=url, token="moor_id_secret", environ=environ)
    contexts.write("prod", url=url, token="other", environ=environ)
    moor = tmp_path / "moor"
    moor.write_text(f'#!/bin/sh\nexec {sys.executable} -m moorage.cli "$@"\n')
    moor.chmod(0o755)
    return environ


def offered(surroundings: dict[str, str], line: str) -> list[str]:
    words = line.split(" ")
    asked = {"_MOOR_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(["moor"], env={**surroundings, **asked}, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("moor get j", ["job", "jobs"]),
        ("moor get job he", ["health", "hello"]),
        ("moor describe job/he", ["job/health", "job/hello"]),
        ("moor get job -p shop ", ["cart"]),
        ("moor get alloc hello/web/", ["hello/web/0", "hello/web/1"]),
        ("moor get job --context prod ", []),
        ("moor logs w", ["web"]),
        ("moor explain hea", ["health"]),
        ("moor node drain ", ["h1", "h2"]),
        ("moor wait job/hello --for de", ["degraded", "deleted", "deleting", "deploying"]),
        ("moor wait node h1 --for dr", ["drained"]),
        ("moor context use d", ["dev"]),
        ("moor get pods ", []),
        ("moor get events ", []),
    ],
)
def test_kinds_names_states_and_contexts_are_offered(surroundings: dict[str, str], line: str, words: list[str]) -> None:
    assert offered(surroundings, line) == words


def test_where_nobody_can_be_asked_nothing_is_offered_and_nothing_said(surroundings: dict[str, str]) -> None:
    contexts.write("dev", url="http://127.0.0.1:9", token="t", environ=surroundings)

    assert offered(surroundings, "moor logs h") == []


SHELLS = {
    "bash": """source <(moor completion bash)
COMP_WORDS=(moor logs hel) COMP_CWORD=2 COMP_LINE="moor logs hel" COMP_POINT=13
_moor_completion moor hel logs && printf '%s\\n' "${COMPREPLY[@]}" """,
    "fish": "moor completion fish | source; complete --do-complete 'moor logs hel'",
    "zsh": """autoload -U compinit && compinit -u -d $HOME/.zcompdump && source <(moor completion zsh)
words=(moor logs hel) CURRENT=3; _arguments() { print -l -- "$@" }; _describe() { print -l -- ${(P)2} }
_moor_completion 2>/dev/null; print -- $_comps[moor]""",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_take_the_script_and_use_it(surroundings: dict[str, str], shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")

    done = subprocess.run([shell, "-c", SHELLS[shell]], env=surroundings, capture_output=True, text=True)

    assert "hello" in done.stdout, done.stderr
