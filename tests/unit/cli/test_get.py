from __future__ import annotations

import json
import re

import pytest
import yaml

from moorage.model.view import TaskView, WaitingView
from tests.unit.cli.conftest import Moor
from tests.unit.cli.fake import (
    ALLOCATIONS,
    JOBS,
    RESET,
    SYNCED,
    FakeApi,
    Lines,
    alloc,
    event,
    gone,
    group,
    job,
    node,
    problem,
    put,
)


def cells(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()]


def test_jobs_as_a_table_in_which_empty_columns_are_left_out(moor: Moor, api: FakeApi) -> None:
    api.on_list(JOBS, [job(), job("shop", phase="degraded", groups=[group(healthy=1), group("db")])])

    out = moor("get", "jobs").out

    assert [row[:4] for row in cells(out)] == [
        ["NAME", "PHASE", "HEALTHY", "VERSION"],
        ["hello", "running", "3/3", "2"],
        ["shop", "degraded", "1/3,3/3", "2"],
    ]
    assert "MESSAGE" not in out
    assert "\x1b" not in out


def test_a_long_message_is_neither_wrapped_nor_cut_where_a_program_reads(moor: Moor, api: FakeApi) -> None:
    message = "web: 3 of 3 wait: " + "; ".join(f"{number}: memory short by {number} MiB" for number in range(40))
    api.on_list(JOBS, [job(message=message)])

    out = moor("get", "jobs").out

    assert message in out
    assert len(out.splitlines()) == 2


def test_what_a_workload_says_cannot_command_the_terminal(moor: Moor, api: FakeApi) -> None:
    api.on_list(ALLOCATIONS, [alloc(message="\x1b[2J\x1b]0;owned\x07 gone\nnext line")])

    out = moor("get", "allocs").out

    assert "\x1b" not in out
    assert "\x07" not in out
    assert len(out.splitlines()) == 2


def test_json_of_a_list_is_the_rest_object(moor: Moor, api: FakeApi) -> None:
    api.on_list(JOBS, [job()], revision=42)

    found = json.loads(moor("get", "jobs", "-o", "json").out)

    assert found == {"items": [job().model_dump(mode="json")], "revision": 42, "next": None}


def test_json_and_yaml_of_one_are_the_rest_object(moor: Moor, api: FakeApi) -> None:
    api.on(f"GET {JOBS}/hello", job())

    expected = job().model_dump(mode="json")
    assert json.loads(moor("get", "job", "hello", "-o", "json").out) == expected
    assert yaml.safe_load(moor("get", "job/hello", "-o", "yaml").out) == expected


def test_allocations_of_a_job_with_ports_and_restarts(moor: Moor, api: FakeApi) -> None:
    tasks = [TaskView(name="server", state="backoff", restarts=2, message="exit code 1")]
    api.on_list(ALLOCATIONS, [alloc(ports={"http": 20001}, tasks=tasks, why="best fit of 3 nodes")])

    plain = moor("get", "a", "--job", "hello").out
    wide = moor("get", "allocations", "-o", "wide").out

    assert api.asked[0].url.params["job"] == "hello"
    assert cells(plain)[1][:7] == ["00000000000000aa", "hello/web/0", "h1", "running", "healthy", "2", "http=20001"]
    assert "server: exit code 1" in plain
    assert "best fit of 3 nodes" in wide
    assert "best fit of 3 nodes" not in plain


def test_an_allocation_by_its_name_is_its_newest_attempt(moor: Moor, api: FakeApi) -> None:
    api.on_list(ALLOCATIONS, [alloc("0a", attempt=1), alloc("0b", attempt=2), alloc("0c", name="hello/web/1")])
    api.on(f"GET {ALLOCATIONS}/0b", alloc("0b", attempt=2))

    assert json.loads(moor("get", "alloc/hello/web/0", "-o", "json").out)["id"] == "0b"
    assert moor("get", "alloc", "hello/web/9").code == 4


def test_nodes_show_what_is_reserved_and_why_nothing_is_placed(moor: Moor, api: FakeApi) -> None:
    lost = node("h2", phase="lost", schedulable=False, message="lost: no heartbeat", lost_since_ms=1)
    api.on_list(
        "/v1/nodes",
        [node(), node("h3", cordoned=True, message="cordoned"), node("h4", cordoned=True, draining=True), lost],
    )

    rows = cells(moor("get", "nodes").out)

    assert rows[1] == ["h1", "ready", "3", "0.75/4", "192Mi/8Gi"]
    assert [row[1] for row in rows[2:]] == ["cordoned", "draining", "lost"]


def test_labels_and_projects_go_into_the_request(moor: Moor, api: FakeApi) -> None:
    api.on_list("/v1/projects/shop/jobs", [])

    result = moor("get", "jobs", "-l", "team=web", "-p", "shop")

    assert (result.code, result.out) == (0, "no jobs in project shop with labels team=web\n")
    assert api.asked[0].url.params["labels"] == "team=web"
    assert api.asked[0].headers["authorization"] == "Bearer moor_id_secret"


def test_events_in_the_order_in_which_they_happened(moor: Moor, api: FakeApi) -> None:
    api.on_list("/v1/events", [event("second", at_ms=2, count=3), event("first", at_ms=1)])

    out = moor("events", "--object", "job/hello").out

    assert [row[-1] for row in cells(out)] == ["MESSAGE", "first", "second"]
    assert dict(api.asked[0].url.params) == {"object": "job/hello"}


def test_watching_prints_a_line_per_change_where_a_program_reads(moor: Moor, api: FakeApi) -> None:
    ends = [RESET, put(job(phase="pending")), put(job("other")), SYNCED, put(job()), gone("hello")]
    api.on(f"WATCH {JOBS}", Lines(ends, ends=True), problem(403, "forbidden", "Not any more."))

    result = moor("get", "jobs", "hello", "-w")

    assert [row[:2] for row in cells(result.out)] == [
        ["NAME", "PHASE"],
        ["hello", "pending"],
        ["hello", "running"],
        ["hello", "deleted"],
    ]
    assert (result.code, result.err) == (6, "moor: not any more\n")


def test_watching_as_json_prints_the_events_of_the_api(moor: Moor, api: FakeApi) -> None:
    api.on(f"WATCH {JOBS}", Lines([RESET, put(job()), SYNCED], ends=True), problem(403, "forbidden", "No."))

    lines = [json.loads(line) for line in moor("get", "jobs", "-w", "-o", "json").out.splitlines()]

    assert [line["type"] for line in lines] == ["reset", "put", "synced"]
    assert lines[1]["object"] == job().model_dump(mode="json")


def test_a_kind_with_a_typing_error_gets_a_suggestion(moor: Moor, api: FakeApi) -> None:
    result = moor("get", "jbos")

    assert (result.code, result.err) == (2, "moor: there is no kind 'jbos'\n  did you mean jobs?\n")
    assert api.calls == []


def test_a_name_given_twice_and_events_by_name_are_refused(moor: Moor) -> None:
    assert moor("get", "job/hello", "hello").code == 2
    assert moor("get", "events", "x").code == 2


def test_describing_a_job_tells_groups_waiting_instances_allocations_and_events(moor: Moor, api: FakeApi) -> None:
    waiting = WaitingView(index=2, reason="1 node: cordoned")
    spec = {
        "labels": {"team": "web"},
        "groups": {
            "web": {
                "tasks": {
                    "server": {"container": {"image": "busybox:1"}, "resources": {"cpu": "250m", "memory": "64Mi"}}
                }
            }
        },
    }
    view = job(spec=spec, groups=[group(healthy=2).model_copy(update={"waiting": [waiting]})], events=[event()])
    api.on(f"GET {JOBS}/hello", view).on_list(ALLOCATIONS, [alloc()])

    out = moor("describe", "job", "hello").out

    assert "Phase:   running\n" in out
    assert "Labels:  team=web\n" in out
    assert "  task server: busybox:1, cpu 250m, memory 64Mi\n" in out
    assert "  web/2 waits: 1 node: cordoned\n" in out
    assert "hello/web/0  h1" in out
    assert "placed on h1" in out


def test_describing_a_node_tells_resources_attributes_what_is_missing_and_orphans(moor: Moor, api: FakeApi) -> None:
    orphan = {"allocation": "0f", "project": "default", "job": "old", "group": "web", "index": 1, "attempt": 1}
    view = node(
        attributes={"os.arch": "amd64"},
        missing={"cgroup.v2": "limits of pids are not enforced"},
        orphans=[{**orphan, "expires_ms": 0}],
        drivers=["docker"],
    )
    api.on("GET /v1/nodes/h1", view).on_list("/v1/events", [])

    out = moor("describe", "node", "h1").out

    assert "capacity  4     8Gi     100Gi" in out
    assert "os.arch  amd64" in out
    assert "limits of pids are not enforced" in out
    assert "0f  old/web/1, 0 s left" in out


def test_describing_an_allocation_tells_its_tasks(moor: Moor, api: FakeApi) -> None:
    task = TaskView(name="server", state="failed", exit_code=137, oom_killed=True, restarts=4, container="c" * 64)
    view = alloc("0a", tasks=[task], why="best fit of 3 nodes", desired="stop", stop_reason="drained")
    api.on(f"GET {ALLOCATIONS}/0a", view)

    out = moor("describe", "alloc", "0a").out

    assert "Why there:   best fit of 3 nodes" in out
    assert "Wanted:      stop: drained" in out
    assert "137 (out of memory)" in out
    assert moor("describe", "job").code == 2


LONG = "web: 3 of 3 wait: " + "3 nodes: memory short by 120 MiB; " * 5


def test_on_a_terminal_the_last_column_is_cut_and_every_other_one_is_whole(moor: Moor, api: FakeApi) -> None:
    api.on_list(JOBS, [job("a-name-of-some-length", phase="degraded", message=LONG)])

    lines = moor("get", "jobs", columns=80).out.splitlines()

    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert max(len(line) for line in plain) <= 80
    assert plain[1].split()[:4] == ["a-name-of-some-length", "degraded", "3/3", "2"]
    assert plain[1].endswith("…")
    assert "\x1b[33mdegraded" in lines[1]


def test_where_a_terminal_is_too_narrow_lines_go_on_and_no_column_is_lost(moor: Moor, api: FakeApi) -> None:
    api.on_list(ALLOCATIONS, [alloc(ports={"http": 20001}, why="best fit")])

    out = moor("get", "allocs", "-o", "wide", columns=40).out

    assert ("http=20001" in out, "best fit" in out) == (True, True)


def test_a_watch_that_is_refused_prints_no_titles(moor: Moor, api: FakeApi) -> None:
    api.on(f"WATCH {JOBS}", problem(401, "unauthenticated", "The token is not valid (any more)."))

    result = moor("get", "jobs", "-w")

    assert (result.code, result.out) == (6, "")
    assert result.err.startswith("moor: the token is not valid (any more)\n  `moor login`")


def test_followed_events_carry_the_time_of_day_which_stays_true(moor: Moor, api: FakeApi) -> None:
    api.on("WATCH /v1/events", Lines([RESET, put(event(at_ms=3_600_000)), SYNCED], ends=True), problem(403, "f", "No."))

    rows = cells(moor("events", "-f").out)

    assert rows[0][0] == "TIME"
    assert re.fullmatch(r"\d\d:\d\d:\d\d", rows[1][0])


def test_no_color_is_respected(moor: Moor, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    api.on_list(JOBS, [job(phase="degraded")])

    assert "\x1b[33m" not in moor("get", "jobs", columns=80).out


def test_a_reason_is_told_whole_by_explain_on_a_terminal_too(moor: Moor, api: FakeApi) -> None:
    slot = {"group": "web", "index": 0, "state": "waiting", "reason": LONG.strip()}
    api.on(f"GET {JOBS}/hello/explain", {"project": "default", "job": "hello", "slots": [slot]})

    assert LONG.strip() in moor("explain", "hello", columns=80).out


def test_on_a_terminal_a_watched_table_shows_the_last_state(moor: Moor, api: FakeApi) -> None:
    events = [RESET, put(job(phase="pending")), put(job("other")), SYNCED, put(job()), gone("other")]
    api.on(f"WATCH {JOBS}", Lines(events, ends=True), problem(403, "forbidden", "Not any more."))

    last = moor("get", "jobs", "-w", columns=80).out.rpartition("NAME")[2]

    assert "hello" in last
    assert "other" not in last
