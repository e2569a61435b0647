"""The OCI runtime wrapper, run as the program that it is, on config.json as engines write it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.drivers.oci.install import write_wrapper

ID = "0f" * 32
HOOK = {
    "path": "/proc/4711/exe",
    "args": ["libnetwork-setkey", "-exec-root=/var/run/docker", ID, "a1b2c3d4e5f6"],
}
OTHER_HOOK = {"path": "/usr/bin/nvidia-container-runtime-hook", "args": ["nvidia", "prestart"], "env": ["A=B"]}


@dataclass
class Bundle:
    """A bundle of one container, a wrapper, and a runc that only writes down how it was called."""

    folder: Path
    wrapper: Path
    links: Path
    called: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.json"

    def prepare(self, name: str = ID) -> Path:
        namespace = self.links.parent / "namespace"
        namespace.touch()
        (self.links / name).symlink_to(namespace)
        return self.links / name

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(self.wrapper), *arguments], capture_output=True, text=True, cwd=cwd)

    def create(self, name: str = ID, *before: str) -> subprocess.CompletedProcess[str]:
        return self.run(*before, "create", "--bundle", str(self.folder), "--pid-file", "/tmp/init.pid", name)

    def arguments(self) -> list[str] | None:
        """Those that runc got; None where it was not called."""
        return self.called.read_text().splitlines() if self.called.exists() else None


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    runc, called = tmp_path / "runc", tmp_path / "called"
    runc.write_text(f'#!/bin/sh\nfor word; do echo "$word"; done > {called}\n')
    runc.chmod(0o755)
    folder = tmp_path / "a bundle"
    folder.mkdir()
    found = Bundle(folder, tmp_path / "moorage-runtime", tmp_path / "links", called)
    write_wrapper(found.wrapper, found.links, str(runc))
    write(found, config())
    return found


def config(
    namespaces: Sequence[dict[str, str]] = ({"type": "mount"}, {"type": "network"}, {"type": "ipc"}), **more: Any
) -> dict[str, Any]:
    return {
        "ociVersion": "1.0.2-dev",
        "process": {"args": ["sleep", "1"], "env": ["PATH=/bin"], "cwd": "/"},
        "hooks": {"prestart": [HOOK]},
        "linux": {"sysctl": {"net.core.somaxconn": "7"}, "namespaces": list(namespaces), "maskedPaths": ["/proc/acpi"]},
        **more,
    }


def write(bundle: Bundle, content: dict[str, Any], **style: Any) -> None:
    bundle.config.write_text(json.dumps(content, **(style or {"separators": (",", ":")})))


def joined(bundle: Bundle) -> dict[str, Any]:
    return dict(json.loads(bundle.config.read_text()))


def test_a_prepared_namespace_is_joined_and_runc_gets_the_same_arguments(bundle: Bundle) -> None:
    link = bundle.prepare()
    done = bundle.create(ID, "--root", "/run/x", "--log", "/dev/null", "--log-format", "json", "--systemd-cgroup")
    assert (done.returncode, done.stderr) == (0, "")
    assert joined(bundle)["linux"]["namespaces"] == [
        {"type": "mount"},
        {"type": "network", "path": str(link)},
        {"type": "ipc"},
    ]
    assert (bundle.arguments() or [])[:2] == ["--root", "/run/x"]
    assert (bundle.arguments() or [])[-1] == ID


def test_only_the_engines_own_network_hook_is_dropped(bundle: Bundle) -> None:
    bundle.prepare()
    for hooks in ([HOOK, OTHER_HOOK], [OTHER_HOOK, HOOK], [OTHER_HOOK, HOOK, OTHER_HOOK], [HOOK]):
        write(bundle, config(hooks={"prestart": hooks, "poststop": [OTHER_HOOK]}))
        assert bundle.create().returncode == 0
        kept = [hook for hook in hooks if hook is not HOOK]
        assert joined(bundle)["hooks"] == {"prestart": kept, "poststop": [OTHER_HOOK]}


def test_everything_else_in_the_config_stays_as_it_was(bundle: Bundle) -> None:
    link = bundle.prepare()
    before = config()
    assert bundle.create().returncode == 0
    after = joined(bundle)
    before["linux"]["namespaces"][1]["path"] = str(link)
    before["hooks"]["prestart"] = []
    assert after == before


@pytest.mark.parametrize("style", [{"indent": 2}, {"separators": (", ", ": ")}, {"indent": "\t"}])
def test_spacing_does_not_matter(bundle: Bundle, style: dict[str, Any]) -> None:
    link = bundle.prepare()
    write(bundle, config(), **style)
    assert bundle.create().returncode == 0
    assert {"type": "network", "path": str(link)} in joined(bundle)["linux"]["namespaces"]
    assert joined(bundle)["hooks"] == {"prestart": []}


def test_a_path_that_the_engine_gave_is_replaced(bundle: Bundle) -> None:
    link = bundle.prepare()
    write(bundle, config([{"path": "/var/run/docker/netns/1", "type": "network"}]))
    assert bundle.create().returncode == 0
    assert joined(bundle)["linux"]["namespaces"] == [{"type": "network", "path": str(link)}]


@pytest.mark.parametrize(
    "hostile",
    [
        '{"type":"network"}',
        '"namespaces":[{"type":"network"}]',
        '{"path":"/proc/1/exe","args":["libnetwork-setkey","x"]}',
        "& \\1 # | / $HOME `id` $(id) ' \" \\ %s %n",
        "libnetwork-setkey",
        "type",
    ],
)
def test_what_users_write_is_never_taken_for_the_engines(bundle: Bundle, hostile: str) -> None:
    link = bundle.prepare()
    content = config(
        process={"args": ["libnetwork-setkey", hostile], "env": [f"X={hostile}", hostile], "cwd": hostile},
        annotations={hostile: hostile},
    )
    content["linux"]["sysctl"] = {"type": "network", "namespaces": hostile}
    write(bundle, content)
    assert bundle.create().returncode == 0
    after = joined(bundle)
    assert after["process"] == content["process"]
    assert after["annotations"] == content["annotations"]
    assert after["linux"]["sysctl"] == content["linux"]["sysctl"]
    assert {"type": "network", "path": str(link)} in after["linux"]["namespaces"]


def test_without_a_prepared_namespace_it_refuses_and_says_so_where_the_engine_looks(
    bundle: Bundle, tmp_path: Path
) -> None:
    log = tmp_path / "log.json"
    done = bundle.create(ID, "--log", str(log), "--log-format", "json")
    assert done.returncode != 0
    assert f"no network namespace is prepared for container {ID}" in done.stderr
    assert json.loads(log.read_text())["msg"] == f"moorage: no network namespace is prepared for container {ID}"
    assert bundle.arguments() is None


def test_where_the_mounted_namespace_cannot_be_seen_it_refuses_and_says_why(bundle: Bundle) -> None:
    write(bundle, config())
    bundle.prepare().chmod(0o111)
    done = bundle.create()
    assert "the engine does not see what the agent mounts" in done.stderr
    assert bundle.arguments() is None


def test_a_link_to_a_namespace_that_has_gone_is_not_a_prepared_one(bundle: Bundle) -> None:
    bundle.prepare().resolve().unlink()
    assert "no network namespace is prepared" in bundle.create().stderr
    assert bundle.arguments() is None


def test_a_container_without_a_network_of_its_own_is_refused(bundle: Bundle) -> None:
    bundle.prepare()
    write(bundle, config([{"type": "mount"}]))
    done = bundle.create()
    assert done.returncode != 0
    assert "asks for no network namespace of its own" in done.stderr
    assert bundle.arguments() is None


@pytest.mark.parametrize("name", ["../links/x", ".hidden", "a/b", "a b", "$(id)", "a;b", "a'b", ""])
def test_a_hostile_container_id_is_refused(bundle: Bundle, name: str) -> None:
    done = bundle.create(name)
    assert done.returncode != 0
    assert "the container has no usable id" in done.stderr
    assert bundle.arguments() is None


def test_a_bundle_without_config_is_refused(bundle: Bundle) -> None:
    bundle.prepare()
    bundle.config.unlink()
    assert "has no config.json" in bundle.create().stderr


@pytest.mark.parametrize("form", [["--bundle={}"], ["-b", "{}"], ["--bundle", "{}"]])
def test_every_way_to_name_the_bundle_is_understood(bundle: Bundle, form: list[str]) -> None:
    link = bundle.prepare()
    words = [word.format(bundle.folder) for word in form]
    assert bundle.run("--root", "create", "create", *words, "--no-pivot", ID).returncode == 0
    assert str(link) in bundle.config.read_text()


def test_the_current_folder_is_the_bundle_where_none_is_named(bundle: Bundle) -> None:
    link = bundle.prepare()
    assert bundle.run("create", ID, cwd=bundle.folder).returncode == 0
    assert str(link) in bundle.config.read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ["start", ID],
        ["--root", "create", "delete", "--force", ID],
        ["kill", "--all", ID, "9"],
        ["exec", ID, "create"],
        ["--version"],
    ],
)
def test_every_other_command_is_runcs(bundle: Bundle, arguments: list[str]) -> None:
    before = bundle.config.read_text()
    assert bundle.run(*arguments).returncode == 0
    assert bundle.arguments() == arguments
    assert bundle.config.read_text() == before


def test_the_exit_code_is_runcs(bundle: Bundle, tmp_path: Path) -> None:
    bundle.prepare()
    (tmp_path / "runc").write_text("#!/bin/sh\nexit 42\n")
    assert bundle.create().returncode == 42
