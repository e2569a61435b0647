"""What users get wrong, and what they are told: one spoiled line, one error, with its path and line."""

from __future__ import annotations

import time

import pytest

from moorage.model import SpecError, parse_job
from tests.unit.model.samples import HELLO, errors_of, only_error, spoiled

COMMAND = "command: [httpd, -f]"
RESOURCES = "{cpu: 250m, memory: 64Mi}"
SERVER = "groups.web.tasks.server"


@pytest.mark.parametrize(
    ("old", "new", "path", "line", "says", "suggests"),
    [
        ("name: hello", "name: hello\ncolour: red", "colour", 3, "unknown field", ""),
        ("count: 3", "cuont: 3", "groups.web.cuont", 5, "unknown field", "did you mean count?"),
        ("count: 3", "replicas: 3", "groups.web.replicas", 5, "unknown field", "did you mean count?"),
        ("count: 3", "image: x", "groups.web.image", 5, "unknown field", "image belongs in groups.*.tasks.*.container"),
        ("count: 3", "count: -1", "groups.web.count", 5, "must be at least 0, is -1", ""),
        ("count: 3", "count: 10001", "groups.web.count", 5, "must be at most 10000, is 10001", ""),
        ("count: 3", "count: 1.5", "groups.web.count", 5, "must be a whole number, is 1.5", ""),
        ("count: 3", 'count: "3"', "groups.web.count", 5, 'must be a whole number, is the text "3"', ""),
        ("count: 3", "count:", "groups.web.count", 5, "must be a whole number, is empty", ""),
        ("count: 3", "count: true", "groups.web.count", 5, "must be a whole number, is true", ""),
        ("name: hello", "name: a/b", "name", 2, "holds a slash", "did you mean a-b?"),
        ("name: hello", "name: Hello_World", "name", 2, "is a DNS label", "did you mean hello-world?"),
        ("name: hello", f"name: {'x' * 64}", "name", 2, "at most 63", f"did you mean {'x' * 63}?"),
        ("name: hello", 'name: ""', "name", 2, "an empty text is not a name", ""),
        ("name: hello", "name: [hello]", "name", 2, "must be text, is a list", ""),
        ("name: hello", "type: service", "name", 1, "is missing", ""),
        ("name: hello", "name: hello\npriority: 101", "priority", 3, "must be at most 100", ""),
        ("name: hello", "name: hello\nversion: v2", "version", 3, "must be 'v1'", ""),
        ("name: hello", "name: hello\ntype: servce", "type", 3, "must be 'service'", "did you mean service?"),
        ("name: hello", "name: hello\nlabels: [a]", "labels", 3, "must be a mapping (name: value), is a list", ""),
        ("name: hello", "name: hello\nlabels: {a: 'b c'}", "labels.a", 3, "is not a label's value", ""),
        ("web:\n", "we/b:\n", 'groups["we/b"]', 4, "holds a slash", "did you mean we-b?"),
        ("networks: host", "networks: bridge", "groups.web.networks", 6, "must be 'host' or 'none'", ""),
        ("networks: host", "networks: none", "groups.web.ports.http", 7, "auto needs networks: host", "give a number"),
        ("{http: auto}", "{http: 0}", "groups.web.ports.http", 7, "from 1 to 65535", ""),
        ("{http: auto}", "{http: 65536}", "groups.web.ports.http", 7, "from 1 to 65535", ""),
        ("{http: auto}", '{http: "80"}', "groups.web.ports.http", 7, "port number or auto", "write 80 without quotes"),
        ("{http: auto}", "{http: 80, b: 80}", "groups.web.ports.b", 7, "80 is the number of port http already", ""),
        ("{http: auto}", "{htt: 80}", f"{SERVER}.health.http.port", 12, "no port http", "did you mean htt?"),
        ('"busybox:1"', "Busybox", f"{SERVER}.container.image", 10, "is not an image's name", "did you mean busybox?"),
        ('"busybox:1"', '""', f"{SERVER}.container.image", 10, "must name an image", ""),
        ('image: "busybox:1", ', "", f"{SERVER}.container.image", 10, "is missing", ""),
        (COMMAND, "command: httpd -f", f"{SERVER}.container.command", 10, "must be a list", "write [httpd, -f]"),
        (COMMAND, "command: [nc, -p, 80]", f"{SERVER}.container.command[2]", 10, "is 80", 'write "80" in quotes'),
        (COMMAND, "user: 1000", f"{SERVER}.container.user", 10, "must be text, is 1000", 'write "1000" in quotes'),
        (COMMAND, "workdir: srv", f"{SERVER}.container.workdir", 10, "is not an absolute path", ""),
        (COMMAND, "pull: sometimes", f"{SERVER}.container.pull", 10, "must be 'if_missing', 'always' or 'never'", ""),
        (
            COMMAND,
            "capabilities: {drop: [CAP_NET_RAW]}",
            f"{SERVER}.container.capabilities.drop[0]",
            10,
            "is not a capability",
            "did you mean NET_RAW?",
        ),
        (COMMAND, "ulimits: {nofiles: 1}", f"{SERVER}.container.ulimits.nofiles", 10, "not a ulimit", "mean nofile?"),
        (COMMAND, "hosts: {a: b}", f"{SERVER}.container.hosts.a", 10, "'b' is not an IP address", ""),
        (
            COMMAND,
            'sysctls: {net.core.somaxconn: "1"}',
            f'{SERVER}.container.sysctls["net.core.somaxconn"]',
            10,
            "net.* cannot be set with networks: host",
            "",
        ),
        ("cpu: 250m", "cpu: 250Mi", f"{SERVER}.resources.cpu", 11, "has the unit 'Mi'", "did you mean 250m?"),
        ("cpu: 250m", "cpu: 1m", f"{SERVER}.resources.cpu", 11, "at least 10m", ""),
        ("memory: 64Mi", "memory: 64MB", f"{SERVER}.resources.memory", 11, "has the unit 'MB'", "64M or 64Mi"),
        ("memory: 64Mi", "memory: 5Mi", f"{SERVER}.resources.memory", 11, "must be at least 6Mi", ""),
        (
            RESOURCES,
            "{cpu: 250m, cpu_limit: 100m}",
            f"{SERVER}.resources.cpu_limit",
            11,
            "100m is less than cpu, which is 250m",
            "",
        ),
        (
            RESOURCES,
            "{memory: 64Mi, memory_limit: 32Mi}",
            f"{SERVER}.resources.memory_limit",
            11,
            "32Mi is less than memory, which is 64Mi",
            "",
        ),
        (RESOURCES, "{pids: 0}", f"{SERVER}.resources.pids", 11, "must be at least 1", ""),
        ("{http: {port: http}}", "{}", f"{SERVER}.health", 12, "exactly one of http, tcp and exec, has none", ""),
        (
            "{http: {port: http}}",
            "{http: {port: http}, tcp: {port: http}}",
            f"{SERVER}.health",
            12,
            "has http and tcp",
            "",
        ),
        ("{port: http}", "{port: http, path: x}", f"{SERVER}.health.http.path", 12, "begins with /", "like /health"),
        (
            "{http: {port: http}}",
            "{exec: {command: []}}",
            f"{SERVER}.health.exec.command",
            12,
            "must not be empty",
            "",
        ),
        (
            "{http: {port: http}}",
            "{http: {port: http}, interval: 5}",
            f"{SERVER}.health.interval",
            12,
            "5 has no unit",
            "did you mean 5s?",
        ),
        (
            "{http: {port: http}}",
            "{http: {port: http}, interval: 1ms}",
            f"{SERVER}.health.interval",
            12,
            "must be at least 100ms",
            "",
        ),
        ("count: 3", "restart: {mode: replce}", "groups.web.restart.mode", 5, "must be", "did you mean replace?"),
        (
            "count: 3",
            "restart: {delay: 2m}",
            "groups.web.restart.max_delay",
            5,
            "1m is less than delay, which is 2m",
            "",
        ),
        ("count: 3", "reschedule: {attempts: many}", "groups.web.reschedule.attempts", 5, "the word unlimited", ""),
        ("count: 3", "disconnect: {replace_after: never}", "groups.web.disconnect.replace_after", 5, "duration", ""),
        ("count: 3", "update: {max_parallel: 0}", "groups.web.update.max_parallel", 5, "from 1", ""),
        ("count: 3", "update: {max_parallel: 120%}", "groups.web.update.max_parallel", 5, "from 1% to 100%", ""),
        ("count: 3", "spread: [hosts]", "groups.web.spread[0]", 5, "is not a level: node, rack, zone or region", ""),
        ("count: 3", "spread: node", "groups.web.spread", 5, "must be a list", "write [node]"),
        (
            "count: 3",
            "spread: [{attribute: label.rack, targets: {a: 60, b: 50}}]",
            "groups.web.spread[0].targets",
            5,
            "at most 100 percent together, are 110",
            "",
        ),
        (
            "count: 3",
            "constraints: [{attribute: os.arch, operator: '==', value: amd64}]",
            "groups.web.constraints[0].operator",
            5,
            "must be",
            "",
        ),
        (
            "count: 3",
            "constraints: [{attribute: os.arch, operator: in, value: amd64}]",
            "groups.web.constraints[0].value",
            5,
            "in needs a list",
            "write [amd64]",
        ),
        (
            "count: 3",
            "constraints: [{attribute: os.arch, operator: regexp, value: 'a('}]",
            "groups.web.constraints[0].value",
            5,
            "is not a regular expression (RE2)",
            "",
        ),
        (
            "count: 3",
            "constraints: [{attribute: os.arch, operator: regexp, value: '(?=x)'}]",
            "groups.web.constraints[0].value",
            5,
            "is not a regular expression (RE2)",
            "",
        ),
        (
            "count: 3",
            "constraints: [{attribute: docker.version, operator: version, value: new}]",
            "groups.web.constraints[0].value",
            5,
            "is not a version condition",
            "",
        ),
        (
            "count: 3",
            "constraints: [{attribute: os.kernel, operator: '>', value: big}]",
            "groups.web.constraints[0].value",
            5,
            "'big' is neither",
            "",
        ),
        (
            "count: 3",
            "constraints: [{attribute: label.a, operator: exists, value: x}]",
            "groups.web.constraints[0].value",
            5,
            "exists takes no value",
            "",
        ),
        (
            "count: 3",
            "constraints: [{attribute: label.a}]",
            "groups.web.constraints[0].value",
            5,
            "= needs a value",
            "",
        ),
        (
            "count: 3",
            "constraints: [{attribute: label.a, value: 1.10}]",
            "groups.web.constraints[0].value",
            5,
            "must be text",
            "write it in quotes",
        ),
        (
            "count: 3",
            "affinity: [{attribute: label.a, value: b, weight: 101}]",
            "groups.web.affinity[0].weight",
            5,
            "must be at most 100",
            "",
        ),
    ],
)
def test_one_mistake_gives_one_clear_error(old: str, new: str, path: str, line: int, says: str, suggests: str) -> None:
    error = only_error(spoiled(old, new))
    assert (error.path, error.line, error.source) == (path, line, "job.yaml")
    assert says in error.message
    assert suggests in error.suggestion


def test_an_unknown_field_that_is_near_to_nothing_lists_what_there_is() -> None:
    error = only_error(spoiled("memory: 64Mi", "bandwith_xyz: 1"))
    assert error.suggestion.startswith("known are cpu, cpu_limit, memory")


@pytest.mark.parametrize(
    ("env", "path", "says", "suggests"),
    [
        ("{A: on}", "A", "must be text, is true", 'write "on" in quotes'),
        ("{A: no}", "A", "must be text, is false", 'write "no" in quotes'),
        ("{A: 1.50}", "A", "must be text, is 1.5", 'write "1.50" in quotes'),
        ("{A: 0640}", "A", "not a plain decimal number", 'write "0640" in quotes'),
        ("{A: 12:30}", "A", "not a plain decimal number", 'write "12:30" in quotes'),
        ("{A: 2024-05-01}", "A", "YAML reads 2024-05-01 as a date", 'write "2024-05-01" in quotes'),
        ("{A: }", "A", "must be text, is empty", 'write "" if the empty text is meant'),
        ("{A: [x]}", "A", "must be text, is a list", ""),
        ("{1A: x}", "1A", "is not the name of an environment variable", ""),
        ("{MOOR_NODE: x}", "MOOR_NODE", "names that begin with MOOR_ are given by Moorage", ""),
        ('{A: "a\\0b"}', "A", "holds a NUL character", ""),
        (f"{{A: {'x' * 40_000}}}", "A", "is 40000 characters long: at most 32768", ""),
    ],
)
def test_env_takes_text_and_says_what_to_quote(env: str, path: str, says: str, suggests: str) -> None:
    error = only_error(HELLO + f"        env: {env}\n")
    assert (error.path, error.line) == (f"{SERVER}.env.{path}", 13)
    assert says in error.message
    assert suggests in error.suggestion


def test_all_mistakes_of_a_file_are_told_at_once_in_order_of_line() -> None:
    text = (
        HELLO.replace("count: 3", "cuont: 3")
        .replace("250m", "250Mi")
        .replace("port: http", "prt: http")
        .replace("name: hello", "name: a/b")
    )
    found = [(e.line, e.path) for e in errors_of(text + "---\n" + HELLO.replace("host", "hots"))]
    assert found == [
        (2, "name"),
        (5, "groups.web.cuont"),
        (11, f"{SERVER}.resources.cpu"),
        (12, f"{SERVER}.health.http.port"),
        (12, f"{SERVER}.health.http.prt"),
        (19, "groups.web.networks"),
    ]


def test_an_error_prints_as_file_line_path_and_what_to_do() -> None:
    assert (
        str(only_error(spoiled("count: 3", "cuont: 3")))
        == "job.yaml:5: groups.web.cuont: unknown field (did you mean count?)"
    )


def test_very_many_mistakes_are_cut_to_a_readable_number_and_quickly() -> None:
    fields = "".join(f"wrong{n}: 1\n" for n in range(40_000))
    started = time.process_time()
    assert len(errors_of(HELLO + fields)) == 100
    assert time.process_time() - started < 5


def test_a_very_long_mistake_is_cut_too() -> None:
    error = only_error(HELLO + "x" * 900 + ": 1\n")
    assert error.path == f'["{"x" * 61}..."]'
    assert len(str(only_error(spoiled("name: hello", f"name: {'x y' * 20_000}")))) < 400
    assert len(str(only_error(spoiled("networks: host", f"networks: {'x' * 60_000}")))) < 400


def test_a_job_without_groups_and_a_group_without_tasks_are_refused() -> None:
    assert only_error("kind: Job\nname: a\n").path == "groups"
    assert only_error("kind: Job\nname: a\ngroups: {}\n").message == "must not be empty"
    assert only_error("kind: Job\nname: a\ngroups: {web: {tasks: {}}}\n").path == "groups.web.tasks"
    assert only_error("kind: Job\nname: a\ngroups: {web: }\n").message == "must be a mapping (field: value), is empty"


def test_mistakes_without_a_file_have_a_path_and_no_line() -> None:
    with pytest.raises(SpecError) as caught:
        parse_job({"kind": "Job", "name": "a", "groups": {"web": {"cuont": 1, "tasks": {}}}})
    assert {(e.path, e.line) for e in caught.value.errors} == {("groups.web.cuont", None), ("groups.web.tasks", None)}


@pytest.mark.parametrize("nonsense", [None, [], "job", 3])
def test_what_is_no_mapping_is_no_job(nonsense: object) -> None:
    with pytest.raises(SpecError, match="must be a mapping"):
        parse_job(nonsense)
