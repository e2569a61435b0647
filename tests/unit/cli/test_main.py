"""The frame: dispatch, contexts, versions, words for people."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from moorage.cli import contexts, text
from moorage.cli.main import COMMANDS, run
from moorage.cli.target import resolve
from moorage.model.view import VersionView
from tests.unit.cli.conftest import Moor
from tests.unit.cli.fake import JOBS, FakeApi, problem


def test_a_command_with_a_typing_error_gets_a_suggestion(moor: Moor) -> None:
    result = moor("aply")

    assert (result.code, result.err) == (2, "moor: there is no command 'aply'\n  did you mean `moor apply`?\n")


@pytest.mark.parametrize(
    "arguments", [("get",), ("get", "jobs", "--nope"), ("get", "jobs", "-o", "xml"), ("node", "drian"), ("node",), ()]
)
def test_wrong_usage_ends_with_2_and_no_traceback(moor: Moor, arguments: tuple[str, ...]) -> None:
    result = moor(*arguments)

    assert result.code == 2
    assert result.err
    assert "Traceback" not in result.err


def test_wrong_usage_is_one_sentence_in_one_line(moor: Moor) -> None:
    assert moor("completion").err.splitlines()[0] == "moor: missing argument 'SHELL'. Choose from: bash, zsh, fish"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(moor: Moor, name: str) -> None:
    result = moor(name, "--help")

    assert (result.code, "Usage: moor " + name in result.out) == (0, True)


def test_help_lists_the_commands_and_the_exit_codes(moor: Moor) -> None:
    out = moor("--help").out

    assert all(name in out for name in COMMANDS)
    assert "8 time is up" in out


def test_a_fault_of_the_command_is_one_sentence_unless_asked_for_more(
    moor: Moor, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr("moorage.cli.contexts.load", fault)
    result = moor("context", "list")
    assert (result.code, result.err) == (70, "moor: fault in moor itself: odd\n  MOOR_DEBUG=1 shows where\n")

    environ["MOOR_DEBUG"] = "1"
    with pytest.raises(RuntimeError):
        moor("context", "list")


def test_ctrl_c_is_one_line_and_130(moor: Moor, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("moorage.cli.commands.get.call", interrupt)

    assert (moor("get", "jobs").code, moor("get", "jobs").err) == (130, "moor: interrupted\n")


def daemon(arguments: list[str]) -> int:
    return 40 + len(arguments)


def test_ctrl_c_is_the_ordinary_end_of_watching_and_needs_no_words(moor: Moor, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("moorage.cli.connect.call", interrupt)

    for command in (("get", "jobs", "-w"), ("events", "-f"), ("logs", "-f", "hello")):
        assert (moor(*command).code, moor(*command).err) == (130, "")


def test_commands_of_other_distributions_get_the_rest_of_the_arguments(
    moor: Moor, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = EntryPoint("agent", f"{__name__}:daemon", "moorage.commands")

    def found(**wanted: str) -> list[EntryPoint]:
        return [entry] if wanted.get("name", "agent") == "agent" else []

    monkeypatch.setattr("importlib.metadata.entry_points", found)

    assert moor("agent", "--data-dir", "/x").code == 42
    assert "agent" in moor("--help").out
    assert moor("agnt").code == 2


def test_daemons_start_without_the_weight_of_the_command() -> None:
    code = """
import sys
from moorage.cli import main
main._plugin = lambda name: lambda arguments: 0
assert main.run(["agent"]) == 0
print([name for name in ("typer", "rich", "httpx", "pydantic", "yaml") if name in sys.modules])
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_version_needs_neither_a_controller_nor_the_heavy_modules() -> None:
    code = """
import sys
from moorage.cli.main import run
assert run(["version"], {"MOOR_CONFIG": "/nonexistent"}) == 0
print([name for name in ("typer", "rich", "httpx", "pydantic") if name in sys.modules])
"""
    lines = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()

    assert lines[0].startswith("Command:")
    assert lines[1] == "Controller: not known: no controller is known"
    assert lines[2] == "[]"


class Versions(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        view = VersionView(version="9.1", protocol=1, cluster_id="c-1", controller_id="k", leader=True)
        allowed = self.headers["Authorization"] == "Bearer moor_id_secret" and self.path == "/v1/version"
        self.send_response(200 if allowed else 401)
        self.end_headers()
        self.wfile.write(view.model_dump_json().encode())

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def controller_url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Versions)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_version_tells_both_sides(moor: Moor, environ: dict[str, str], controller_url: str) -> None:
    environ["MOOR_URL"] = controller_url

    assert "Controller: 9.1 (protocol 1), leads\nCluster:    c-1\n" in moor("version").out
    assert json.loads(moor("version", "-o", "json").out)["server"]["version"] == "9.1"
    assert "Controller" not in moor("version", "--client").out
    environ["MOOR_TOKEN"] = "wrong"
    refused = moor("version")
    assert (refused.code, f"not known: {controller_url} answered 401" in refused.out) == (0, True)


def test_login_tries_the_token_and_saves_a_context_that_only_its_owner_can_read(
    moor: Moor, api: FakeApi, environ: dict[str, str]
) -> None:
    view = VersionView(version="9.1", protocol=1, cluster_id="c-1", controller_id="k", leader=True)
    api.on("GET /v1/version", view)
    del environ["MOOR_URL"], environ["MOOR_TOKEN"]

    result = moor("login", "prod", "--url", "http://controller:7070/", "-p", "shop", stdin="moor_a_b\n")

    assert (result.code, "context prod is used from now on" in result.out) == (0, True)
    assert api.asked[0].headers["authorization"] == "Bearer moor_a_b"
    path = Path(environ["MOOR_CONFIG"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert contexts.load(environ).named["prod"] == contexts.Context("http://controller:7070", "moor_a_b", "shop")


def test_a_token_that_is_refused_is_not_saved(moor: Moor, api: FakeApi, environ: dict[str, str]) -> None:
    api.on("GET /v1/version", problem(401, "unauthenticated", "The token is not valid."))

    assert moor("login", "--url", "http://controller:7070").code == 6
    assert moor("login", "--url", "controller:7070").code == 2
    assert contexts.load(environ).named == {}


def test_contexts_are_listed_chosen_and_removed(moor: Moor, environ: dict[str, str]) -> None:
    assert moor("context", "list").out.startswith("no contexts")
    contexts.write("dev", url="http://one", token="t1", environ=environ)
    contexts.write("prod", url="http://two/", token="t2", environ=environ)

    assert [line.split()[:2] for line in moor("context", "list").out.splitlines()[1:]] == [
        ["*", "dev"],
        ["prod", "http://two"],
    ]
    assert moor("context", "use", "prod").code == 0
    assert contexts.load(environ).current == "prod"
    missing = moor("context", "use", "nope")
    assert (missing.code, "known are: dev, prod" in missing.err) == (4, True)
    assert moor("context", "remove", "prod").code == 0
    assert moor("context", "remove", "prod").code == 4
    assert contexts.load(environ).current == ""


def test_the_last_context_takes_the_file_and_its_folder_with_it(moor: Moor, environ: dict[str, str]) -> None:
    folder = Path(environ["MOOR_CONFIG"]).parent
    contexts.write("dev", url="http://a", token="t", environ=environ)
    contexts.write("prod", url="http://b", token="t", environ=environ)
    moor("context", "remove", "dev")
    assert contexts.load(environ).named.keys() == {"prod"}

    moor("context", "remove", "prod")
    assert not folder.exists()

    contexts.write("dev", url="http://a", token="t", environ=environ)
    (folder / "other").touch()
    moor("context", "remove", "dev")
    assert [path.name for path in folder.iterdir()] == ["other"]


def test_flags_overrule_the_environment_which_overrules_the_current_context(environ: dict[str, str]) -> None:
    contexts.write("dev", url="http://dev", token="t1", project="a", environ=environ)
    contexts.write("prod", url="http://prod", token="t2", environ=environ)
    bare = {"MOOR_CONFIG": environ["MOOR_CONFIG"]}

    assert (resolve(bare).url, resolve(bare).project) == ("http://dev", "a")
    assert resolve(bare, project="b").project == "b"
    assert resolve({**bare, "MOOR_PROJECT": "c"}).project == "c"
    assert resolve({**bare, "MOOR_CONTEXT": "prod"}).token == "t2"
    assert resolve(environ).url == "http://controller:7070"
    assert resolve(environ, context="prod").url == "http://prod"
    assert resolve({**bare, "MOOR_TOKEN": "other"}).token == "other"


def test_without_any_context_the_way_to_one_is_shown(moor: Moor, environ: dict[str, str]) -> None:
    del environ["MOOR_URL"]

    result = moor("get", "jobs")

    assert (result.code, "./dev up" in result.err) == (2, True)


@pytest.mark.parametrize("content", ["[", "contexts: 3", "contexts: {a: {token: x}}", "- 1"])
def test_a_broken_file_of_contexts_is_said_to_be_one(moor: Moor, environ: dict[str, str], content: str) -> None:
    path = Path(environ["MOOR_CONFIG"])
    path.parent.mkdir(parents=True)
    path.write_text(content)

    result = moor("context", "list")

    assert (result.code, "is not a file of contexts" in result.err) == (2, True)


@pytest.mark.parametrize("verb", ["apply", "diff"])
def test_a_file_without_its_flag_is_told_how_to_be_given(moor: Moor, verb: str) -> None:
    result = moor(verb, "hello.yaml")

    assert (result.code, f"`moor {verb} -f hello.yaml`" in result.err) == (2, True)


def test_a_name_in_the_place_of_a_kind_is_told_how_to_be_given(moor: Moor) -> None:
    assert "a job of that name is job/hello" in moor("describe", "hello").err


def test_a_url_that_is_none_is_said_before_anything_is_tried(moor: Moor, environ: dict[str, str]) -> None:
    environ["MOOR_URL"] = "127.0.0.1:7070"

    result = moor("get", "jobs")

    assert (result.code, result.err.splitlines()[0]) == (2, "moor: the URL in $MOOR_URL is none: '127.0.0.1:7070'")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(moor: Moor, shell: str) -> None:
    result = moor("completion", shell)

    assert (result.code, "_MOOR_COMPLETE" in result.out) == (0, True)


def test_the_shell_is_told_the_commands_that_begin_so(tmp_path: Path) -> None:
    environ = {"_MOOR_COMPLETE": "complete_bash", "COMP_WORDS": "moor de", "COMP_CWORD": "1", "HOME": str(tmp_path)}

    out = subprocess.check_output([sys.executable, "-m", "moorage.cli"], env=environ, text=True)

    assert out.split() == ["delete", "describe"]


def test_a_reader_that_has_seen_enough_is_no_trouble() -> None:
    command = f"{sys.executable} -m moorage.cli --help | true; echo ${{PIPESTATUS[0]}}"

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)

    assert (done.stdout.strip(), done.stderr) == ("0", "")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172_800, "2d")]
)
def test_ages(seconds: int, words: str) -> None:
    assert text.age(1_000, 1_000 + seconds * 1000) == words


@pytest.mark.parametrize(("words", "seconds"), [("500ms", 0.5), ("30s", 30), ("1h30m", 5400), ("7", 7), ("1d", 86_400)])
def test_durations(words: str, seconds: float) -> None:
    assert text.seconds(words) == seconds


@pytest.mark.parametrize("words", ["", "soon", "5 m", "-3", "3x", "inf", "nan"])
def test_what_is_no_duration(words: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        text.seconds(words)


def test_sizes_and_cores() -> None:
    assert [text.size(count) for count in (0, 1023, 1024, 1536 << 20, 8 << 30)] == ["0", "1023", "1Ki", "1.5Gi", "8Gi"]
    assert [text.cores(millis) for millis in (0, 250, 1000, 1250)] == ["0", "0.25", "1", "1.25"]


def test_a_missing_thing_is_found_missing(moor: Moor, api: FakeApi) -> None:
    api.on(f"GET {JOBS}/hello", problem(404, "not_found", "There is no job 'hello'."))

    assert run(["get", "job", "hello"], {"MOOR_URL": "http://c", "MOOR_TOKEN": "t"}, api.transport()) == 4
