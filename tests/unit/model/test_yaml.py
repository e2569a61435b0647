"""Files that are not what they should be: each gives one clear error, quickly, and none of them crashes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.model import SpecError, load_documents
from tests.unit.model.samples import HELLO, errors_of, job, only_error, spoiled


def bomb(levels: int, width: int = 10) -> str:
    """Each level names the one before it `width` times."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", None, "holds no document"),
        ("# only a comment\n---\n---\n", None, "holds no document"),
        ("- kind: Job\n", 1, "must be a mapping with kind: and name:, is a list"),
        ("\nhello\n", 2, "must be a mapping with kind: and name:, is a single value"),
        ("name: x\n", 1, "is missing"),
        ("kind: Jobb\n", 1, "Jobb is not a kind of object"),
        ("kind: [Job]\n", 1, "is not a kind of object"),
        ("kind: Job\nname:\n\t- x\n", 3, "is indented with a tab"),
        ("kind: Job\nname: 'x\n", 3, "is not YAML: found unexpected end of stream"),
        ("kind: Job\nname: x: y\n", 2, "is not YAML: mapping values are not allowed"),
        ("kind: Job\nname: a\x00b\n", 2, "is not a text file: it holds the character 0x00"),
        (b"\x7fELF\x02\x01\xff\xfe\x00", 1, "is not a text file in UTF-8"),
        (b"kind: Job\nname: \xff\n", 2, "is not a text file in UTF-8"),
        ("kind: Job\nname: \udc80\n", 2, "is not a text file"),
        ("kind: Job\nname: !!python/object:os.system x\n", 2, "the tag tag:yaml.org,2002:python/object:os.system"),
        ("kind: Job\nname: !custom x\n", 2, "the tag !custom is not taken"),
        ("kind: Job\nname: !!set {a, b}\n", 2, "the tag tag:yaml.org,2002:set is not taken"),
        ("kind: Job\nname: *nobody\n", 2, "*nobody refers to nothing"),
        ("kind: Job\nlabels: &a {x: *a}\n", 2, "*a refers to something that holds it"),
        ("kind: Job\n? [a, b]\n: c\n", 2, "a key must be plain text"),
        ("kind: Job\nlabels: {<<: 3}\n", 2, "<< merges mappings"),
        ("kind: Job\nname: " + "[" * 5000, 2, "is nested more than 48 deep"),
        (bomb(9), 6, "holds more than 100000 values"),
        (f"kind: Job\na: &a {'x' * 30_000}\nb: [{'*a, ' * 50}]\n", 3, "holds more than 1 MiB of text"),
        ("kind: Job\nname: [" + "x," * 110_000 + "]\n", 2, "holds more than 100000 values"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_job_file_gets_one_error(text: str | bytes, line: int | None, says: str) -> None:
    error = only_error(text)
    assert says in error.message
    assert error.line == line


def test_five_mebibytes_are_refused_without_being_read() -> None:
    text = HELLO + "# padding\n" * 550_000
    started = time.process_time()
    error = only_error(text)
    assert "5.2 MiB large: at most 1 MiB" in error.message
    assert time.process_time() - started < 0.2


@pytest.mark.parametrize("text", [bomb(60), bomb(2000, width=2), "kind: Job\na: " + "{a: " * 200_000])
def test_bombs_are_refused_quickly(text: str) -> None:
    started = time.process_time()
    only_error(text)
    assert time.process_time() - started < 1


def test_a_depth_built_from_aliases_is_refused() -> None:
    deep = "".join(f"a{n}: &a{n} [{f'*a{n - 1}' if n else 'x'}]\n" for n in range(100))
    assert "nested more than 48 deep" in only_error("kind: Job\n" + deep).message


def test_duplicate_keys_are_refused_with_both_lines() -> None:
    error = only_error(spoiled("count: 3", "count: 3\n    count: 4"))
    assert (error.path, error.line) == ("groups.web.count", 6)
    assert error.message == "is there twice: first in line 5"


def test_keys_that_yaml_does_not_read_as_text_are_refused() -> None:
    error = only_error(spoiled("name: hello", "name: hello\nlabels: {on: x}"))
    assert (error.path, error.message, error.suggestion) == (
        "labels.on",
        "YAML reads the key on as true or false",
        'write "on" in quotes',
    )
    assert "a number" in only_error(spoiled("ports: {http: auto}", "ports: {http: auto, 8080: 80}")).message


@pytest.mark.parametrize("written", ["010", "0x10", "1_000", "3:20", "1e400", ".inf", "9" * 5000])
def test_numbers_that_yaml_reads_unlike_people_are_refused(written: str) -> None:
    assert only_error(spoiled("count: 3", f"count: {written}")).path == "groups.web.count"


def test_many_documents_keep_their_lines_and_names() -> None:
    text = "---\n" + HELLO + "---\n" + HELLO.replace("hello", "second") + "...\n"
    found = load_documents(text, "many.yaml")
    assert [(d.kind, d.name, d.line, d.source) for d in found] == [
        ("Job", "hello", 2, "many.yaml"),
        ("Job", "second", 15, "many.yaml"),
    ]


def test_one_name_twice_in_a_file_is_refused() -> None:
    error = only_error(HELLO + "---\n" + HELLO)
    assert (error.line, error.message) == (14, "there is a Job hello already, in line 1")


def test_a_syntax_error_later_in_the_file_does_not_hide_what_was_wrong_before() -> None:
    found = errors_of(spoiled("count: 3", "cuont: 3") + "---\nkind: [\n")
    assert [error.path for error in found] == ["groups.web.cuont", ""]


def test_anchors_and_merges_share_what_tasks_have_in_common() -> None:
    text = """\
        kind: Job
        name: shared
        groups:
          web:
            tasks:
              one: &one
                container: {image: "busybox:1"}
                resources: {cpu: 50m}
              two:
                <<: *one
                resources: {cpu: 60m}
        """
    tasks = job(text).groups["web"].tasks
    assert tasks["two"].container == tasks["one"].container
    assert (tasks["one"].resources.cpu, tasks["two"].resources.cpu) == (50, 60)


def test_a_mistake_behind_an_alias_is_told_where_it_is_written() -> None:
    text = "kind: Job\nname: a\ngroups:\n  g:\n    tasks:\n      a: &t\n        container: {image: X}\n      b: *t\n"
    assert [(e.path, e.line) for e in errors_of(text)] == [
        ("groups.g.tasks.a.container.image", 7),
        ("groups.g.tasks.b.container.image", 7),
    ]


def test_yaml_as_windows_writes_it_is_read() -> None:
    assert load_documents(("\ufeff" + HELLO).replace("\n", "\r\n").encode())[0].name == "hello"


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)))
def test_noise_gives_errors_and_never_crashes(noise: str | bytes) -> None:
    with pytest.raises(SpecError):
        load_documents(noise)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(HELLO)), st.integers(0, 8), st.text(max_size=4))
def test_a_damaged_file_is_read_or_refused_and_never_crashes(at: int, cut: int, put: str) -> None:
    try:
        assert load_documents(HELLO[:at] + put + HELLO[at + cut :])
    except SpecError as error:
        assert all(found.message for found in error.errors)
