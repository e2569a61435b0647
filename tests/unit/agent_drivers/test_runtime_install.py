"""One entry in daemon.json, put in and taken out again."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.drivers.docker_engine import Engine
from agent.drivers.oci.install import merge, register, unmerge, unregister, wrapper_text

WRAPPER = Path("/opt/moorage/moorage-runtime")
SOMEBODYS = {"log-driver": "journald", "runtimes": {"runsc": {"path": "/usr/bin/runsc"}}}

daemon_files = st.dictionaries(
    st.sampled_from(["live-restore", "log-driver", "runtimes"]).filter(lambda key: key != "runtimes"),
    st.one_of(st.booleans(), st.text()),
) | st.just(SOMEBODYS)


class KnowsWhatTheFileSays(Engine):
    """An engine that reads daemon.json when it gets SIGHUP, as dockerd does: what the file does not name stays."""

    def __init__(self, daemon_json: Path) -> None:
        super().__init__("/nowhere")
        self.daemon_json = daemon_json
        self.hups = 0
        self.runtimes: dict[str, Any] = {"runc": {"path": "runc"}}

    def hup(self) -> None:
        self.hups += 1
        if self.daemon_json.exists() and "runtimes" in (read := json.loads(self.daemon_json.read_text())):
            self.runtimes = {"runc": {"path": "runc"}, **read["runtimes"]}

    def json(self, method: str, path: str, call: str, **request: Any) -> Any:
        assert path == "/info"
        return {"Runtimes": self.runtimes}


@given(daemon_files)
def test_taking_the_entry_out_leaves_what_was_there(daemon: dict[str, Any]) -> None:
    assert unmerge(merge(daemon, WRAPPER), WRAPPER) == daemon
    assert merge(merge(daemon, WRAPPER), WRAPPER) == merge(daemon, WRAPPER)


def test_an_entry_of_somebody_else_under_our_name_stays() -> None:
    theirs = {"runtimes": {"moorage": {"path": "/elsewhere"}}}
    assert unmerge(theirs, WRAPPER) == theirs


@pytest.mark.parametrize("links", ["/a b", "/a'b", "/a#b", "/a&b", "/a\\b", "relative"])
def test_a_path_that_a_shell_would_misread_is_refused(links: str) -> None:
    with pytest.raises(ValueError, match=r"path|absolute"):
        wrapper_text(Path(links))


def test_register_and_unregister_tell_the_engine_and_may_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon_json, wrapper = tmp_path / "etc/daemon.json", tmp_path / "moorage-runtime"
    engine = KnowsWhatTheFileSays(daemon_json)
    signals: list[tuple[int, int]] = []

    def kill(pid: int, number: int) -> None:
        signals.append((pid, number))
        engine.hup()

    monkeypatch.setattr(os, "kill", kill)

    assert register(engine, 77, wrapper, tmp_path / "links", daemon_json=daemon_json)
    assert engine.runtimes["moorage"] == {"path": str(wrapper)}
    assert os.access(wrapper, os.X_OK)
    assert not register(engine, 77, wrapper, tmp_path / "links", daemon_json=daemon_json)
    assert signals == [(77, signal.SIGHUP)]

    assert unregister(engine, 77, wrapper, daemon_json=daemon_json)
    assert "moorage" not in engine.runtimes
    assert not daemon_json.exists()
    assert not wrapper.exists()
    assert not unregister(engine, 77, wrapper, daemon_json=daemon_json)


def test_a_file_of_the_users_keeps_its_content_and_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon_json, wrapper = tmp_path / "daemon.json", tmp_path / "moorage-runtime"
    daemon_json.write_text(json.dumps(SOMEBODYS))
    daemon_json.chmod(0o600)
    engine = KnowsWhatTheFileSays(daemon_json)
    monkeypatch.setattr(os, "kill", lambda pid, number: engine.hup())
    register(engine, 1, wrapper, tmp_path / "links", daemon_json=daemon_json)
    unregister(engine, 1, wrapper, daemon_json=daemon_json)
    assert json.loads(daemon_json.read_text()) == SOMEBODYS
    assert daemon_json.stat().st_mode & 0o777 == 0o600
