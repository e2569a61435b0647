"""The pages for people are held to the code: what they quote exists, and what exists is told.

Commands and flags are looked up where the command line is made, variables and metrics by reading the sources, so that
a flag, variable, metric or problem code that is added fails here until it is documented.
"""

from __future__ import annotations

import argparse
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

import agent.settings
import controller.main
from controller.api import problems
from moorage.cli import exits
from moorage.cli.app import load
from moorage.cli.main import COMMANDS
from moorage.kit.settings import Timings
from moorage.model import load_documents, unsupported
from moorage.model.job import Job
from moorage.model.schema import job_json_schema

HERE = Path(__file__).parents[2]
PAGES = [HERE / "README.md", HERE / "CHANGELOG.md", HERE / "ansible/README.md", *sorted((HERE / "docs").rglob("*.md"))]
PRODUCT = ("agent", "controller", "moorage", "netvirt", "scheduler")
READ_FOR_VARIABLES = (*PRODUCT, "benchmarks", "tests/e2e", "tests/lab", "tests/tools")
OF_OTHERS = {"--dns"}  # flags of docker and etcd that the text speaks about

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
VARIABLE = re.compile(r"(?<![A-Za-z_])MOOR_[A-Z]+(?:_[A-Z]+)*")
PROGRAM = re.compile(r"(?:\$ |ExecStart=)?(?:\./dev |/opt/moorage/bin/)?moor (.*)")


def name_of(page: Path) -> str:
    return str(page.relative_to(HERE))


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def spans(text: str) -> list[str]:
    return SPAN.findall(FENCE.sub("", text))


def quoted_commands(text: str) -> Iterator[str]:
    """What follows `moor` in code: lines of blocks, and spans."""
    for _, block in FENCE.findall(text):
        for line in block.splitlines():
            if found := PROGRAM.fullmatch(line.strip()):
                yield found[1]
    for span in spans(text):
        if found := PROGRAM.fullmatch(span):
            yield found[1]


def flags_of_parser(parser: argparse.ArgumentParser) -> set[str]:
    return set(parser._option_string_actions)


def flags_of_command(command: Any) -> set[str]:
    return {"-h", "--help", *(flag for parameter in command.params for flag in parameter.opts if flag.startswith("-"))}


DAEMONS = {
    "controller": flags_of_parser(controller.main._parser()),
    "agent": flags_of_parser(agent.settings._parser({})),
}


def check_command(words: list[str]) -> None:
    """AssertionError where there is no such command, or it has no such flag."""
    name, *rest = words
    flags = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    if name in DAEMONS:
        assert set(flags) <= DAEMONS[name], words
        return
    assert name in COMMANDS, f"there is no `moor {name}`"
    command = load(name)
    while hasattr(command, "commands") and rest:
        assert rest[0] in command.commands, words
        command, rest = command.commands[rest[0]], rest[1:]
    assert set(flags) <= flags_of_command(command), words


@every_page
def test_every_quoted_command_exists_with_its_flags(page: Path) -> None:
    for line in quoted_commands(page.read_text()):
        words = shlex.split(line.partition(" <")[0], comments=True)
        if words and words[0].isalpha() and words[0].islower():
            check_command(words)


def all_flags() -> set[str]:
    found = OF_OTHERS | {"--hosts", "--json"}
    for flags in DAEMONS.values():
        found |= flags
    for name in COMMANDS:
        command = load(name)
        for one in (command, *getattr(command, "commands", {}).values()):
            found |= flags_of_command(one)
    for benchmark in (HERE / "benchmarks").glob("*.py"):
        found |= set(re.findall(r'add_argument\("(--[a-z-]+)"', benchmark.read_text()))
    return found


@every_page
def test_every_flag_that_is_named_alone_exists(page: Path) -> None:
    named = {flag for span in spans(page.read_text()) for flag in re.findall(r"^--[a-z][a-z-]+", span)}
    assert named <= all_flags()


@pytest.mark.parametrize("daemon", DAEMONS)
def test_every_flag_of_the_daemons_is_told(daemon: str) -> None:
    told = set(spans((HERE / "docs/operations.md").read_text()))
    assert DAEMONS[daemon] - {"-h", "--help"} <= told


@every_page
def test_every_verb_of_dev_that_is_quoted_exists(page: Path) -> None:
    known = set(re.findall(r"^\./dev (\w+)", (HERE / "dev").read_text(), re.MULTILINE)) | {"generate"}
    assert set(re.findall(r"\./dev ([a-z]+)", page.read_text())) <= known


def slug(heading: str) -> str:
    """As the usual renderers make anchors."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@every_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", place.read_text(), re.MULTILINE)
            assert anchor in map(slug, headings), target


def test_every_decision_has_a_number_of_its_own() -> None:
    numbers = [path.name[:4] for path in sorted((HERE / "docs/adr").glob("*.md"))]
    assert numbers == [f"{number:04d}" for number in range(1, len(numbers) + 1)]
    for path in (HERE / "docs/adr").glob("*.md"):
        assert path.read_text().startswith(f"# {int(path.name[:4])}. ")


def variables_of_the_code() -> set[str]:
    """Those that are spelt out, those that flags of the agent make, and the timings'."""
    sources = [path for folder in READ_FOR_VARIABLES for path in (HERE / folder).rglob("*.py")]
    found = {name for path in (*sources, HERE / "dev") for name in VARIABLE.findall(path.read_text())}
    found |= {f"MOOR_{field.name.upper()}" for field in fields(Timings)}
    return found | {
        "MOOR_" + flag.removeprefix("--").replace("-", "_").upper() for flag in DAEMONS["agent"] - {"-h", "--help"}
    }


def test_variables_that_are_told_exist_and_those_that_exist_are_told() -> None:
    told = {name for page in PAGES for name in VARIABLE.findall(page.read_text())}
    assert told == variables_of_the_code()


def rows(page: str) -> list[list[str]]:
    """Cells of all tables, without their backticks."""
    lines = (line for line in (HERE / page).read_text().splitlines() if line.startswith("|"))
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]


def test_the_defaults_of_the_timings_are_told() -> None:
    told = {name: text for name, text, *_ in rows("docs/operations.md") if name.startswith("MOOR_")}
    assert told == {f"MOOR_{field.name.upper()}": f"{field.default:g}" for field in fields(Timings)}


def test_every_problem_code_is_told_with_its_status() -> None:
    codes = {code.name: code.status for code in vars(problems).values() if isinstance(code, problems.Code)}
    told = {name: int(status) for name, status, *_ in rows("docs/api.md") if status.isdecimal()}
    assert told == codes


def test_every_exit_code_is_told() -> None:
    codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert {int(cells[0]) for cells in rows("docs/api.md") if cells[0].isdecimal()} == codes


def test_metrics_that_are_told_exist_and_those_that_exist_are_told() -> None:
    for folder in PRODUCT:
        for path in (HERE / folder).rglob("*.py"):
            if "from prometheus_client import Counter" in path.read_text():
                import_module(".".join(path.relative_to(HERE).with_suffix("").parts))
    exist = {
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in REGISTRY.collect()
        if metric.name.startswith("moor")
    }
    text = (HERE / "docs/operations.md").read_text()
    assert {span for span in spans(text) if re.fullmatch(r"moor(age)?_[a-z_]+", span)} == exist


def names_in(schema: Any) -> set[str]:
    """Of all fields, at any depth."""
    if isinstance(schema, list):
        return set().union(*map(names_in, schema))
    if not isinstance(schema, dict):
        return set()
    below = set().union(*(names_in(value) for value in schema.values()))
    return below | set(schema.get("properties", ()))


def test_every_field_of_the_language_is_told_and_every_one_that_is_not_built_yet() -> None:
    text = (HERE / "docs/language.md").read_text()
    known = names_in(job_json_schema()) | {path[-1] for path in unsupported.FIELDS} | set(unsupported.KINDS)
    assert set(Job.model_fields) <= known
    assert {name for name in known if not re.search(rf"\b{name}\b", text)} == set()


@every_page
def test_every_job_in_the_text_is_valid(page: Path) -> None:
    for kind, block in FENCE.findall(page.read_text()):
        if kind == "yaml" and block.startswith("kind:"):
            assert load_documents(block, name_of(page))


MODULES = {"google-re2": "re2", "grpcio": "grpc", "protobuf": "google", "prometheus-client": "prometheus_client"}
MODULES |= {"pyyaml": "yaml"}


def imported() -> set[str]:
    """Top-level modules that the product imports."""
    sources = [path.read_text() for folder in PRODUCT for path in (HERE / folder).rglob("*.py")]
    return {name for text in sources for name in re.findall(r"^\s*(?:import|from) (\w+)", text, re.MULTILINE)}


def test_every_library_that_we_need_is_named_with_its_reason_and_truly_used() -> None:
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[><=~!\[ ]", one)[0].lower() for one in project["dependencies"]}
    table = [line for line in (HERE / "README.md").read_text().splitlines() if line.startswith("| [")]
    used = {name: "by nothing yet" not in row for row in table for name in re.findall(r"\[([\w-]+)\]\(http", row)}
    assert used.keys() == needed
    modules = imported()
    assert {name for name in needed if MODULES.get(name, name) in modules} == {name for name in used if used[name]}
