"""What engines and registries really say, and what users read instead."""

from __future__ import annotations

import pytest

from agent.drivers.docker_engine import Refused, choose_api
from agent.drivers.docker_errors import is_missing_image, pull_error, start_error
from agent.drivers.docker_events import exit_of, unix_ms
from agent.drivers.protocol import Exit

OCI = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "


@pytest.mark.parametrize(
    ("status", "said", "words", "retry"),
    [
        (
            400,
            OCI + 'exec: "nope": executable file not found in $PATH: unknown',
            'command "nope" does not exist',
            False,
        ),
        (400, OCI + 'exec: "/x": stat /x: no such file or directory: unknown', 'command "/x" does not exist', False),
        (400, OCI + 'exec: "/etc": permission denied: unknown', 'command "/etc" of image shop:3 cannot be run', False),
        (400, OCI + "exec /init: exec format error: unknown", "another kind of processor", False),
        (400, "unable to find user ghost: no matching entries in passwd file", 'user "ghost" does not exist', False),
        (400, "unable to find group nix: no matching entries in group file", 'group "nix" does not exist', False),
        (500, "mkdir /var/lib/docker/overlay2/x: no space left on device", "no disk space is left", True),
        (404, "No such image: shop:3", "image shop:3 has gone from this node", True),
        (400, 'invalid mount config for type "bind": bind source path does not exist: /srv/x', "/srv/x, which", True),
        (400, "Unknown runtime specified moorage", "does not know the runtime", True),
        (400, "unknown or invalid runtime name: moorage", "does not know the runtime", True),
        (
            400,
            "OCI runtime create failed: moorage: no network namespace is prepared for container 0f: unknown",
            "no network namespace is prepared for container 0f",
            True,
        ),
        (409, "cannot join network of a non running container: 0f", "a container that it needs has gone", True),
        (404, "No such container: 0f", "a container that it needs has gone", True),
        (400, "invalid CapAdd: unknown capability: FLY", "could not start it: invalid CapAdd", False),
        (500, "something new", "could not start it: something new", True),
    ],
)
def test_why_a_start_failed(status: int, said: str, words: str, retry: bool) -> None:
    error = start_error("shop:3", Refused(status, said))
    assert words in str(error)
    assert "OCI runtime create failed" not in str(error)
    assert error.retry is retry


@pytest.mark.parametrize(
    ("said", "words", "retry"),
    [
        (
            "Get https://registry.example/v2/: dial tcp: lookup registry.example: no such host",
            "no registry answered (registry.example: no such host)",
            True,
        ),
        ("Get http://127.0.0.1:9/v2/: dial tcp 127.0.0.1:9: connect: connection refused", "no registry answered", True),
        ("net/http: request canceled (Client.Timeout exceeded while awaiting headers)", "no registry answered", True),
        ("manifest for shop:3 not found: manifest unknown", "its registry does not have it", False),
        ("unauthorized: incorrect username or password", "refused the credentials", False),
        ("no basic auth credentials", "refused the credentials", False),
        (
            "pull access denied for shop, repository does not exist or may require 'docker login'",
            "without login",
            False,
        ),
        ("write /var/lib/docker/tmp/x: no space left on device", "no disk space is left", True),
        ("a fault that nobody has seen", "could not be pulled: a fault that nobody has seen", True),
    ],
)
def test_why_an_image_could_not_be_had(said: str, words: str, retry: bool) -> None:
    error = pull_error("shop:3", said)
    assert words in str(error)
    assert "shop:3" in str(error)
    assert error.retry is retry


def test_only_a_missing_image_is_a_missing_image() -> None:
    assert is_missing_image(Refused(404, "No such image: shop:3"))
    assert not is_missing_image(Refused(404, "No such container: shop"))


@pytest.mark.parametrize(
    ("newest", "oldest", "chosen"),
    [("1.41", "1.12", "1.41"), ("1.45", "1.24", "1.41"), ("1.30", "1.12", "1.30"), ("1.52", "1.44", "1.44")],
)
def test_one_api_version_for_all_engines_that_speak_it(newest: str, oldest: str, chosen: str) -> None:
    assert choose_api(newest, oldest) == chosen


def test_the_engines_times_are_read() -> None:
    assert unix_ms("2026-11-24T23:01:11.964970633Z") == 1795561271964
    assert unix_ms("2026-11-24T23:01:11Z") == 1795561271000
    assert unix_ms("0001-01-01T00:00:00Z") == 0


def test_only_what_ran_and_ended_has_an_end() -> None:
    state = {"ExitCode": 137, "OOMKilled": True, "Error": "", "FinishedAt": "2026-11-24T23:01:11Z"}
    assert exit_of({**state, "Status": "exited"}) == Exit(137, True, "", 1795561271000)
    assert exit_of({**state, "Status": "exited", "ExitCode": 0}) == Exit(0, False, "", 1795561271000)
    assert exit_of({**state, "Status": "running"}) is None
    assert exit_of({**state, "Status": "created"}) is None
