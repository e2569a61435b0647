from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from moorage.cli import rollout, trial
from moorage.cli.files import spec_of
from moorage.cli.rollout import judge
from moorage.model import load_documents, parse_job
from moorage.model.view import WaitingView
from tests.unit.cli.conftest import Moor
from tests.unit.cli.fake import (
    BOOKMARK,
    JOBS,
    RESET,
    SYNCED,
    FakeApi,
    applied,
    event,
    gone,
    group,
    job,
    problem,
    put,
)

PUT = f"PUT {JOBS}/hello"


def test_apply_follows_until_everything_is_healthy(moor: Moor, api: FakeApi, hello: str) -> None:
    api.on(PUT, applied(job(phase="pending"), "created"))
    api.on_watch(
        JOBS,
        RESET,
        put(job(phase="pending", groups=[group(healthy=0)])),
        put(job("other", phase="degraded")),
        SYNCED,
        BOOKMARK,
        put(job(phase="deploying", groups=[group(healthy=1)], message="web: 1 of 3 wait: 3 nodes: cordoned")),
        put(job(phase="running")),
    )

    result = moor("apply", "-f", hello)

    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == "job hello created (version 2)"
    assert lines[1].endswith("s  hello: pending, web 0/3 healthy")
    assert lines[2].endswith("s  hello: deploying, web 1/3 healthy; web: 1 of 3 wait: 3 nodes: cordoned")
    assert lines[-1].startswith("job hello runs: web 3/3 healthy after ")
    assert "other" not in result.out


def test_apply_sends_what_the_author_wrote_and_leaves_defaults_to_the_controller(
    moor: Moor, api: FakeApi, hello: str
) -> None:
    api.on(PUT, applied(job(), "created"))

    assert moor("apply", "-f", hello, "--detach").code == 0

    assert api.body(PUT) == {
        "kind": "Job",
        "name": "hello",
        "groups": {"web": {"count": 3, "tasks": {"server": {"container": {"image": "busybox:1"}}}}},
    }
    assert api.calls == [PUT]


def test_what_is_sent_means_the_same_as_the_file() -> None:
    examples = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
    assert examples
    for file in examples:
        for document in load_documents(file.read_text(), file.name):
            assert parse_job(spec_of(document)) == document.model


UNCHECKED = {"update": {"min_healthy": "50ms"}, "groups": {"web": {"count": 3, "tasks": {"server": {"health": None}}}}}


def test_tasks_without_a_health_check_have_to_stay_up_for_a_moment(moor: Moor, api: FakeApi, hello: str) -> None:
    def then(phase: Any, **values: Any) -> dict[str, Any]:
        return put(job(phase=phase, spec=UNCHECKED, **values))

    api.on(PUT, applied(job(phase="pending", spec=UNCHECKED), "created"))
    crashed = then("degraded", groups=[group(healthy=0, failed=9)], message="web: server exited with code 3")
    api.on_watch(JOBS, RESET, then("running"), SYNCED, crashed)
    result = moor("apply", "-f", hello)
    assert (result.code, "server exited with code 3" in result.err) == (9, True)

    api.on_watch(JOBS, RESET, then("running"), SYNCED)
    result = moor("apply", "-f", hello)
    assert result.code == 0
    assert "does it stay up?" in result.out


@pytest.mark.parametrize(
    ("spec", "phase", "trial_s"),
    [
        (UNCHECKED, "pending", 0.05),
        (UNCHECKED, "running", 0.0),
        ({**UNCHECKED, "update": {"min_healthy": "10s"}}, "pending", 3.0),
        ({"groups": {"web": {"count": 1, "tasks": {"server": {"health": {"tcp": {}}}}}}}, "pending", 0.0),
        ({"groups": {"web": {"count": 0, "tasks": {"server": {}}}}}, "pending", 0.0),
        ({"groups": {"web": {"update": {"min_healthy": "1s"}, "tasks": {"server": {}}}}}, "pending", 1.0),
    ],
)
def test_how_long_a_job_is_on_trial(spec: dict[str, Any], phase: Any, trial_s: float) -> None:
    assert trial.trial_s(job(phase=phase, spec=spec)) == trial_s


def test_progress_tells_how_many_are_renewed_while_old_ones_still_run() -> None:
    assert rollout.progress(job(phase="deploying", groups=[group(updated=1)])).endswith("3/3 healthy (1 of 3 renewed)")
    assert rollout.progress(job(phase="deploying", groups=[group(placed=1, healthy=1, updated=1)])).endswith(
        "1/3 healthy"
    )


def test_a_store_that_is_away_for_a_moment_is_waited_for(
    moor: Moor, api: FakeApi, hello: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorage.cli.connect.PAUSE_S", 0.01)
    away = problem(503, "store_unavailable", "The store does not answer.")
    api.on(PUT, away, away, applied(job(), "created"))
    result = moor("apply", "-f", hello, "--detach")
    assert (result.code, result.err) == (0, "moor: the store does not answer; trying again for 15 s\n")

    monkeypatch.setattr("moorage.cli.connect.PATIENCE_S", 0.05)
    api.on(PUT, away)
    assert moor("apply", "-f", hello, "--detach").code == 7


def test_an_unchanged_job_that_runs_is_done_at_once(moor: Moor, api: FakeApi, hello: str) -> None:
    api.on(PUT, applied(job(), "unchanged")).on_watch(JOBS, RESET, put(job()), SYNCED)

    result = moor("apply", "-f", hello)

    assert (result.code, result.out.splitlines()[0]) == (0, "job hello unchanged")


def test_a_rollout_whose_instances_all_fail_ends_with_the_reason_and_code_9(
    moor: Moor, api: FakeApi, hello: str
) -> None:
    failing = job(
        phase="deploying",
        groups=[group(healthy=0, failed=9)],
        message="web: 3 failed",
        events=[event("image busybox:1 not found", kind="failed", at_ms=5), event("old", kind="failed", at_ms=4)],
    )
    api.on(PUT, applied(job(phase="pending"), "updated")).on_watch(JOBS, RESET, put(failing), SYNCED)

    result = moor("apply", "-f", hello)

    assert result.code == 9
    assert "moor: job hello failed: web: 3 failed (last: image busybox:1 not found)" in result.err
    assert "`moor logs hello`" in result.err


def test_a_reason_is_not_told_twice(moor: Moor, api: FakeApi, hello: str) -> None:
    waiting = group(healthy=0, failed=9).model_copy(update={"waiting": [WaitingView(index=0, reason="exited with 3")]})
    failed = event("web/0 on h1: exited with 3", kind="failed")
    failing = job(phase="deploying", groups=[waiting], message="web: 1 of 3 wait: exited with 3", events=[failed])
    api.on(PUT, applied(job(phase="pending"), "updated")).on_watch(JOBS, RESET, put(failing), SYNCED)

    assert moor("apply", "-f", hello).err.count("exited with 3") == 1


@pytest.mark.parametrize(
    ("spec", "failed", "state"),
    [
        ({}, 8, "going"),
        ({}, 9, "failed"),
        ({"reschedule": {"attempts": 1}}, 5, "going"),
        ({"reschedule": {"attempts": 1}}, 6, "failed"),
        ({"reschedule": {"attempts": 0}}, 3, "failed"),
        ({"restart": {"mode": "fail"}}, 3, "failed"),
    ],
)
def test_how_often_instances_may_fail_before_nobody_should_wait_any_longer(
    spec: dict[str, object], failed: int, state: str
) -> None:
    now = job(phase="deploying", groups=[group(healthy=0, failed=failed)], spec={"groups": {"web": spec}})

    assert judge(now, job()).state == state


def test_a_few_that_fail_do_not_end_the_wait_for_many_that_are_starting() -> None:
    assert judge(job(phase="deploying", groups=[group(wanted=100, healthy=50, failed=9)]), job()).state == "going"


def test_a_view_from_before_our_own_write_says_nothing() -> None:
    assert judge(job(version=1), job(version=2)).state == "going"


def test_a_job_that_is_deleted_or_made_anew_meanwhile_has_failed(moor: Moor, api: FakeApi, hello: str) -> None:
    api.on(PUT, applied(job(phase="pending"), "created"))
    api.on_watch(JOBS, RESET, put(job(phase="pending")), SYNCED, gone("hello"))

    result = moor("apply", "-f", hello)

    assert result.code == 9
    assert "it was deleted meanwhile" in result.err
    assert judge(job(uid="another"), job()).state == "failed"
    assert judge(job(phase="deleting"), job()).state == "failed"


def test_when_the_time_is_up_the_reason_is_told_with_code_8(moor: Moor, api: FakeApi, hello: str) -> None:
    waiting = job(phase="pending", groups=[group(healthy=0)], message="web: 3 of 3 wait: 1 node: cpu short by 2 cores")
    api.on(PUT, applied(job(phase="pending"), "created")).on_watch(JOBS, RESET, put(waiting), SYNCED)

    result = moor("apply", "-f", hello, "--timeout", "50ms")

    assert result.code == 8
    assert "cpu short by 2 cores" in result.err
    assert "moor explain" in result.err


def test_a_reason_that_comes_and_goes_is_told_when_the_time_is_up(moor: Moor, api: FakeApi, hello: str) -> None:
    sick = job(phase="deploying", groups=[group(healthy=0)], message="web: 3 of 3 not healthy: exited with code 3")
    again = job(phase="deploying", groups=[group(healthy=0)])
    api.on(PUT, applied(job(phase="pending"), "created")).on_watch(JOBS, RESET, put(sick), SYNCED, put(again))

    result = moor("apply", "-f", hello, "--timeout", "50ms")

    assert (result.code, "(last: web: 3 of 3 not healthy: exited with code 3)" in result.err) == (8, True)


def test_a_controller_that_is_away_for_a_while_is_waited_for(moor: Moor, api: FakeApi, hello: str) -> None:
    api.on(PUT, applied(job(phase="pending"), "created"))
    api.on_watch(JOBS, RESET, put(job(phase="pending")), SYNCED, ends=True)
    (first,) = api.answers[f"WATCH {JOBS}"]
    api.on_watch(JOBS, RESET, put(job()), SYNCED)
    (last,) = api.answers[f"WATCH {JOBS}"]
    api.on(f"WATCH {JOBS}", first, httpx.ConnectError("refused"), last)

    result = moor("apply", "-f", hello)

    assert result.code == 0
    assert result.out.splitlines()[-1].startswith("job hello runs")


def test_mistakes_in_files_are_told_with_file_line_path_and_suggestion_and_nothing_is_sent(
    moor: Moor, api: FakeApi, hello: str, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(Path(hello).read_text().replace("hello", "bad").replace("count", "coutn"))

    result = moor("apply", "-f", hello, "-f", str(bad))

    assert result.code == 3
    assert f"{bad}:5: groups.web.coutn: unknown field (did you mean count?)" in result.err
    assert "nothing was done" in result.err
    assert api.calls == []


def test_a_folder_is_read_whole_and_the_same_name_twice_is_a_mistake(
    moor: Moor, api: FakeApi, hello: str, tmp_path: Path
) -> None:
    api.on(PUT, applied(job(), "created"))
    assert moor("apply", "-f", str(tmp_path), "-d").code == 0

    (tmp_path / "more.yml").write_text(Path(hello).read_text())
    result = moor("apply", "-f", str(tmp_path), "-d")

    assert result.code == 3
    assert f"more.yml:1: name: there is a Job hello already, in {hello}:1" in result.err


def test_standard_input_holds_documents_too(moor: Moor, api: FakeApi, hello: str) -> None:
    api.on(PUT, applied(job(), "created"))

    assert moor("apply", "-f", "-", "-d", stdin=Path(hello).read_text()).code == 0
    assert moor("apply", "-f", "-", "-d", stdin="").code == 3


def test_files_that_cannot_be_read_are_a_matter_of_usage(moor: Moor, tmp_path: Path) -> None:
    missing = moor("apply", "-f", str(tmp_path / "none.yaml"))
    assert (missing.code, "none.yaml: no such file" in missing.err) == (2, True)

    empty = tmp_path / "empty"
    empty.mkdir()
    assert moor("apply", "-f", str(empty)).code == 2


def test_a_refusal_names_the_document_and_its_faults(moor: Moor, api: FakeApi, hello: str) -> None:
    errors = [{"path": "groups.web.count", "message": "is too large"}, {"path": "labels", "message": "odd"}]
    api.on(PUT, problem(422, "invalid_spec", "The specification is not valid", errors=errors))

    result = moor("apply", "-f", hello)

    assert result.code == 3
    assert f"{hello}:1: job hello: the specification is not valid" in result.err
    assert "  groups.web.count: is too large" in result.err


def test_dry_run_tells_and_writes_nothing(moor: Moor, api: FakeApi, hello: str) -> None:
    api.on(f"POST {JOBS}/hello/plan", {"action": "create", "groups": {"web": "3 to place"}})

    result = moor("apply", "-f", hello, "--dry-run")

    assert (result.code, result.out) == (0, "job hello would be created\n  web: 3 to place\n")
    assert api.calls == [f"POST {JOBS}/hello/plan"]


def test_diff_ends_with_1_where_something_would_change(moor: Moor, api: FakeApi, hello: str) -> None:
    changes = [
        {"path": "groups.web.count", "old": 2, "new": 3},
        {"path": "labels.team", "new": "web"},
        {"path": "labels.old", "old": "x"},
    ]
    plan = {"action": "update", "changes": changes, "groups": {"web": "1 to place"}, "warnings": ["web: fits nowhere"]}
    api.on(f"POST {JOBS}/hello/plan", plan)

    result = moor("diff", "-f", hello)

    assert result.code == 1
    assert result.out.splitlines() == [
        "job hello would change",
        "  web: 1 to place",
        "  ~ groups.web.count: 2 -> 3",
        "  + labels.team: web",
        "  - labels.old: x",
        "  warning: web: fits nowhere",
    ]


def test_diff_ends_with_0_where_nothing_would_and_above_1_at_trouble(moor: Moor, api: FakeApi, hello: str) -> None:
    api.on(f"POST {JOBS}/hello/plan", {"action": "unchanged"})
    assert (moor("diff", "-f", hello).code, moor("diff", "-f", hello).out) == (0, "job hello stays as it is\n")

    api.on(f"POST {JOBS}/hello/plan", httpx.ConnectError("refused"))
    assert moor("diff", "-f", hello).code == 7


def test_an_interrupted_apply_says_that_the_rollout_goes_on(
    moor: Moor, hello: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("moorage.cli.commands.apply.call", interrupt)

    result = moor("apply", "-f", hello)

    assert (result.code, "the rollout goes on on the server" in result.err) == (130, True)


def test_on_a_terminal_a_long_reason_is_shown_whole_and_leaves_room_for_ctrl_c(
    moor: Moor, api: FakeApi, hello: str
) -> None:
    reason = "web: 3 of 3 wait: " + "; ".join(f"node h{number}: memory short by 120 MiB" for number in range(9))
    api.on(PUT, applied(job(phase="pending"), "created"))
    api.on_watch(JOBS, RESET, put(job(phase="pending", message=reason)), SYNCED)

    out = moor("apply", "-f", hello, "--timeout", "300ms", columns=60).out

    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in out.splitlines()]
    assert max(map(len, lines)) <= 58
    assert "node h8: memory short by 120 MiB" in " ".join(" ".join(lines).split())


def test_on_a_terminal_progress_is_shown_live_and_the_outcome_stays(moor: Moor, api: FakeApi, hello: str) -> None:
    api.on(PUT, applied(job(phase="pending"), "created")).on_watch(
        JOBS, RESET, put(job(phase="pending")), SYNCED, put(job())
    )

    result = moor("apply", "-f", hello, columns=80)

    assert result.code == 0
    assert "job hello runs: web 3/3 healthy" in result.out.splitlines()[-1]
