"""What an agent is told at its start, and what it says when that cannot be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent.main import command
from agent.settings import parse

GOOD = ("--controllers", "h1:7071,[::1]:7071", "--token", "moor_x_y")


def test_flags_win_over_variables_and_variables_over_defaults() -> None:
    environment = {"MOOR_NODE_NAME": "from-variable", "MOOR_CPU_MILLIS": "500", "MOOR_LOG_LEVEL": "debug"}
    told = parse([*GOOD, "--node-name", "from-flag"], environment)
    assert (told.node_name, told.cpu_millis, told.log_level) == ("from-flag", 500, "debug")
    assert told.controllers == ["h1:7071", "[::1]:7071"]
    assert told.run_dir == Path("/run/moorage/agent")


@pytest.mark.parametrize(
    ("flags", "environment", "words"),
    [
        (["--token", "t"], {}, "no controller to connect to: give --controllers HOST:PORT"),
        (["--token", "t", "--controllers", "h1"], {}, "--controllers is HOST:PORT, not 'h1'"),
        (["--token", "t", "--controllers", "h1:http"], {}, "--controllers is HOST:PORT, not 'h1:http'"),
        (["--token", "t", "--controllers", "h1:70000"], {}, "--controllers is HOST:PORT, not 'h1:70000'"),
        (["--controllers", "h1:1"], {}, "no token, and without one no controller lets an agent in"),
        (["--controllers", "h1:1", "--token-file", "/nowhere"], {}, "the token file cannot be read"),
        ([*GOOD, "--cpu-millis", "-5"], {}, "--cpu-millis must be at least 0, not -5"),
        ([*GOOD, "--starts-in-flight", "0"], {}, "--starts-in-flight must be at least 1, not 0"),
        ([*GOOD, "--reconnect-cap", "nan"], {}, "--reconnect-cap must be at least 0.1, not nan"),
        ([*GOOD, "--cgroup-root", "/"], {}, "--cgroup-root is a path like /moorage, not '/'"),
        ([*GOOD, "--cgroup-root", "/a/../b"], {}, "--cgroup-root is a path like /moorage"),
        ([*GOOD, "--labels", "rack"], {}, "labels are key=value, not 'rack'"),
        ([*GOOD, "--metrics", "9100"], {}, "--metrics is HOST:PORT, not '9100'"),
        ([*GOOD, "--node-name", ""], {}, "a node needs a name"),
        (list(GOOD), {"MOOR_LOG_LEVEL": "loud"}, "--log-level is one of debug, error, info, warning, not 'loud'"),
        (list(GOOD), {"MOOR_DRIVER": "podman"}, "--driver is one of docker, fake, not 'podman'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(flags: list[str], environment: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError) as refusal:
        parse(flags, environment)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_empty_token_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ValueError, match="token is empty"):
        parse(["--controllers", "h1:1", "--token-file", str(tmp_path / "token")], {})


def test_the_command_says_it_and_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["--controllers", "h1", "--token", "t"]) == 2
    assert capsys.readouterr().err == "moor agent: --controllers is HOST:PORT, not 'h1'\n"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--contrlers", "h1:1"], "unrecognized arguments: --contrlers"),
        (["--cpu-millis", "many"], "--cpu-millis: invalid int value: 'many'"),
        (["--log-format", "xml"], "--log-format: invalid choice: 'xml'"),
    ],
)
def test_a_flag_that_does_not_exist_or_has_no_meaning_ends_with_2(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        command([*GOOD, *flags])
    assert end.value.code == 2 and words in capsys.readouterr().err


def test_a_data_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    agent = [sys.executable, "-m", "agent.main", *GOOD, "--data-dir", str(tmp_path / "file" / "agent")]
    ended = subprocess.run(agent, capture_output=True, text=True)
    assert ended.returncode == 1 and "moor agent: " in ended.stderr
