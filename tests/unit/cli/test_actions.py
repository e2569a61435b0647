"""delete, scale, wait, explain, node, cluster."""

from __future__ import annotations

import httpx
import pytest

from moorage.model.view import ClusterView
from tests.unit.cli.conftest import Moor
from tests.unit.cli.fake import (
    ALLOCATIONS,
    JOBS,
    RESET,
    SYNCED,
    FakeApi,
    alloc,
    gone,
    group,
    job,
    node,
    problem,
    put,
)


def test_delete_waits_until_the_job_is_gone(moor: Moor, api: FakeApi) -> None:
    api.on(f"DELETE {JOBS}/hello", job(phase="deleting"))
    api.on_watch(JOBS, RESET, put(job(phase="deleting", groups=[group(running=2)])), SYNCED, gone("hello"))

    result = moor("delete", "job", "hello")

    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == "job hello is being deleted"
    assert lines[1].endswith("hello: deleting, 2 still running")
    assert lines[2].startswith("job hello is gone after")


def test_a_job_of_the_same_name_that_is_new_does_not_count_as_the_deleted_one(moor: Moor, api: FakeApi) -> None:
    api.on(f"DELETE {JOBS}/hello", job(phase="deleting")).on_watch(JOBS, RESET, put(job(uid="new")), SYNCED)

    assert moor("delete", "job/hello").code == 0


def test_delete_by_file_detached_and_out_of_time(moor: Moor, api: FakeApi, hello: str) -> None:
    api.on(f"DELETE {JOBS}/hello", job(phase="deleting"))
    api.on_watch(JOBS, RESET, put(job(phase="deleting")), SYNCED)

    assert moor("delete", "-f", hello, "--detach").code == 0
    late = moor("delete", "-f", hello, "--timeout", "20ms")
    assert (late.code, "not yet gone: hello" in late.err) == (8, True)


def test_deleting_an_allocation_stops_this_attempt(moor: Moor, api: FakeApi) -> None:
    api.on(f"POST {ALLOCATIONS}/0a/stop", alloc("0a"))

    result = moor("delete", "alloc", "0a")

    assert (result.code, "its place is filled again" in result.out) == (0, True)


@pytest.mark.parametrize("arguments", [(), ("job",), ("node", "h1"), ("event", "x"), ("job", "x", "-f", "y")])
def test_delete_says_what_is_missing_or_not_to_be_deleted(moor: Moor, arguments: tuple[str, ...]) -> None:
    result = moor("delete", *arguments)

    assert result.code == 2
    assert result.err.startswith("moor: ")


def test_one_that_is_not_there_does_not_save_the_others(moor: Moor, api: FakeApi) -> None:
    api.on(f"DELETE {JOBS}/nope", problem(404, "not_found", "There is no job 'nope'."))
    api.on(f"DELETE {JOBS}/hello", job(phase="deleting"))

    result = moor("delete", "job", "nope", "hello", "--detach")

    assert (result.code, result.out) == (4, "job hello is being deleted\n")
    assert result.err.startswith("moor: there is no job 'nope'\n  the others are deleted")


def test_what_is_not_there_cannot_be_deleted(moor: Moor, api: FakeApi) -> None:
    api.on(f"DELETE {JOBS}/hello", problem(404, "not_found", "There is no job 'hello'.", "In project 'default'."))

    result = moor("delete", "job", "hello")

    assert (result.code, result.err) == (4, "moor: there is no job 'hello'\n  `moor get jobs` lists what there is\n")


@pytest.mark.parametrize(
    "arguments", [("hello", "5"), ("hello=5",), ("hello/web=5",), ("hello/web", "5"), ("hello", "5", "--group", "web")]
)
def test_every_way_to_write_a_scale(moor: Moor, api: FakeApi, arguments: tuple[str, ...]) -> None:
    scaled = job(groups=[group(wanted=5, healthy=5)])
    api.on(f"GET {JOBS}/hello", job()).on(f"POST {JOBS}/hello/scale", scaled)
    api.on_watch(JOBS, RESET, put(scaled), SYNCED)

    result = moor("scale", *arguments)

    assert result.code == 0
    assert api.body(f"POST {JOBS}/hello/scale") == {"group": "web", "count": 5}
    assert result.out.splitlines()[-1].startswith("job hello runs: web 5/5 healthy")


def test_scale_asks_which_group_where_there_are_several(moor: Moor, api: FakeApi) -> None:
    api.on(f"GET {JOBS}/hello", job(groups=[group("web"), group("db")]))

    result = moor("scale", "hello", "5")

    assert (result.code, "it has: web, db; like `moor scale hello/web=3`" in result.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("hello",), "how many?"),
        (("hello=x",), "'x' is not a number of instances"),
        (("hello", "-1"), "'-1' is not a number of instances: it is a whole one from 0 on"),
        (("hello", "1.5"), "'1.5' is not a number of instances"),
        (("hello", "--detatch"), "no such option: --detatch"),
        (("hello=1", "2"), "says it already"),
        (("hello/a", "1", "-g", "b"), "says it already"),
    ],
)
def test_a_scale_that_is_not_one_is_refused_before_anything_is_asked(
    moor: Moor, api: FakeApi, arguments: tuple[str, ...], says: str
) -> None:
    result = moor("scale", *arguments)

    assert (result.code, says in result.err) == (2, True), result.err
    assert api.calls == []


def test_wait_returns_when_the_job_runs(moor: Moor, api: FakeApi) -> None:
    api.on_watch(JOBS, RESET, SYNCED, put(job(phase="deploying")), put(job()))

    result = moor("wait", "job/hello", "--for", "running")

    assert (result.code, result.out) == (0, "job hello is running\n")


def test_wait_for_a_node_that_has_not_joined_yet(moor: Moor, api: FakeApi) -> None:
    api.on_watch("/v1/nodes", RESET, SYNCED, put(node("h1", phase="unknown")), put(node("h1")))

    assert moor("wait", "node", "h1", "--for", "ready", "--timeout", "5s").code == 0


def test_wait_until_something_is_gone_or_never_was(moor: Moor, api: FakeApi) -> None:
    api.on_watch(JOBS, RESET, SYNCED).on_watch(ALLOCATIONS, RESET, put(alloc("0a")), SYNCED, gone("0a"))

    assert moor("wait", "job/hello", "--for", "deleted").code == 0
    assert moor("wait", "alloc/0a", "--for", "deleted").code == 0


def test_wait_for_a_drained_node_asks_again(moor: Moor, api: FakeApi) -> None:
    api.on("GET /v1/nodes/h1", node(draining=True), node(draining=True, allocations=0))

    assert moor("wait", "node/h1", "--for", "drained").code == 0


def test_a_wait_that_is_over_says_how_things_stood(moor: Moor, api: FakeApi) -> None:
    api.on_watch(JOBS, RESET, put(job(phase="pending", message="1 node: cordoned")), SYNCED)
    api.on_watch("/v1/nodes", RESET, SYNCED)
    api.on_watch(ALLOCATIONS, RESET, put(alloc(phase="failed", message="exit code 1")), SYNCED)

    def late(*arguments: str) -> str:
        result = moor("wait", *arguments, "--timeout", "20ms")
        assert result.code == 8
        return result.err.strip()

    assert late("job/hello", "--for", "running").endswith("job hello is pending: 1 node: cordoned")
    assert late("node/h1", "--for", "ready").endswith("node h1 is not there")
    assert late("alloc/hello/web/0", "--for", "running").endswith("is failed, healthy: exit code 1")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("job/x", "--for", "runing"), "did you mean running?"),
        (("job/x",), "wait for what?\n  --for STATE; a job can be: running"),
        (("job",), "like `moor wait job/NAME"),
        (("event/x", "--for", "y"), "moor events -f"),
        (("job/x", "--for", "running", "--timeout", "soon"), "is not a duration"),
    ],
)
def test_a_wait_for_what_never_comes_is_refused(moor: Moor, arguments: tuple[str, ...], hint: str) -> None:
    result = moor("wait", *arguments)

    assert (result.code, hint in result.err) == (2, True)


@pytest.mark.parametrize("words", [("hello",), ("job/hello",), ("job", "hello"), ("jobs/hello",)])
def test_explain_takes_a_job_in_every_way_that_other_commands_do(
    moor: Moor, api: FakeApi, words: tuple[str, ...]
) -> None:
    api.on(f"GET {JOBS}/hello/explain", {"project": "default", "job": "hello", "slots": []})

    assert moor("explain", *words).out == "job hello wants no instances\n"
    assert moor("explain", *words, "more").code == 2


def test_explain_tells_why_and_once_per_group_what_the_nodes_say(moor: Moor, api: FakeApi) -> None:
    nodes = [
        {"node_name": "h1", "fits": False, "score": None, "reason": "cordoned"},
        {"node_name": "h2", "fits": True, "score": 12, "reason": "best_fit 12"},
    ]
    placed = {"group": "web", "index": 0, "node_name": "h2", "state": "running", "reason": "best fit", "nodes": nodes}
    waits = {"group": "web", "state": "waiting", "reason": "1 node: cordoned", "nodes": nodes[:1]}
    slots = [placed, {**waits, "index": 1}, {**waits, "index": 2}]
    api.on(f"GET {JOBS}/hello/explain", {"project": "default", "job": "hello", "slots": slots})

    brief, full = moor("explain", "hello").out, moor("explain", "job/hello", "--nodes").out

    assert "web/1     waiting        1 node: cordoned" in brief
    assert brief.count("cordoned") == 3
    assert "best_fit 12" not in brief
    assert "h2    yes   12     best_fit 12" in full


def test_cordon_and_uncordon(moor: Moor, api: FakeApi) -> None:
    api.on("PATCH /v1/nodes/h1", node()).on("PATCH /v1/nodes/h2", node("h2"))

    assert moor("node", "cordon", "h1", "h2").code == 0
    assert api.calls == ["PATCH /v1/nodes/h1", "PATCH /v1/nodes/h2"]
    assert api.body("PATCH /v1/nodes/h1") == {"cordoned": True}

    assert moor("node", "uncordon", "h1").code == 0
    assert api.body("PATCH /v1/nodes/h1") == {"cordoned": False, "draining": False}


def test_drain_waits_until_the_node_is_empty(moor: Moor, api: FakeApi) -> None:
    api.on("PATCH /v1/nodes/h1", node()).on("GET /v1/nodes/h1", node(allocations=1), node(allocations=0))

    result = moor("node", "drain", "h1")

    assert result.code == 0
    assert api.body("PATCH /v1/nodes/h1") == {"draining": True}
    assert "h1: 1 allocation left" in result.out
    assert result.out.splitlines()[-1].startswith("node h1 is drained after")


def test_a_drain_that_takes_too_long_or_is_not_waited_for(moor: Moor, api: FakeApi) -> None:
    api.on("PATCH /v1/nodes/h1", node()).on("GET /v1/nodes/h1", node(allocations=2))

    late = moor("node", "drain", "h1", "--timeout", "20ms")
    assert (late.code, "still there: h1 2 allocations" in late.err) == (8, True)
    assert moor("node", "drain", "h1", "-d").code == 0


def test_forget_waits_until_the_node_is_forgotten(moor: Moor, api: FakeApi) -> None:
    api.on("DELETE /v1/nodes/h1", node()).on("GET /v1/nodes/id-h1", problem(404, "not_found", "There is no node."))

    assert moor("node", "forget", "h1").out == "node h1 is forgotten\n"


def test_a_node_that_is_connected_is_not_forgotten(moor: Moor, api: FakeApi) -> None:
    api.on("DELETE /v1/nodes/h1", problem(409, "node_not_lost", "Node 'h1' is connected.", "Drain it first."))

    result = moor("node", "forget", "h1")

    assert (result.code, result.err) == (5, "moor: node 'h1' is connected\n  Drain it first.\n")


def test_the_cluster_and_a_restored_store(moor: Moor, api: FakeApi) -> None:
    suspected = ClusterView(
        id="c-1", generation=1, restore_suspected="revision 5 after 9", revision=5, nodes=3, nodes_ready=2
    )
    api.on("GET /v1/cluster", suspected)
    api.on("POST /v1/cluster/accept-restore", suspected.model_copy(update={"generation": 2, "restore_suspected": ""}))

    out = moor("cluster", "status").out
    assert "Nodes:             2 of 3 ready" in out
    assert "Agents get nothing new until `moor cluster accept-restore`" in out
    assert moor("cluster", "accept-restore").out == "the restored store is accepted: generation 2 begins\n"


def test_a_store_that_is_trusted_has_no_restore_to_accept_unless_one_insists(moor: Moor, api: FakeApi) -> None:
    trusted = ClusterView(id="c-1", generation=2, revision=5, nodes=3, nodes_ready=3)
    api.on("GET /v1/cluster", trusted).on("POST /v1/cluster/accept-restore", trusted)

    result = moor("cluster", "accept-restore")

    assert (result.code, "there is no restore to accept" in result.err, "--force" in result.err) == (5, True, True)
    assert "POST /v1/cluster/accept-restore" not in api.calls
    assert moor("cluster", "accept-restore", "--force").code == 0


def test_the_cluster_tells_what_is_wrong_with_its_store(moor: Moor, api: FakeApi) -> None:
    view = ClusterView(id="c-1", generation=1, revision=5, nodes=3, nodes_ready=3, trouble=["etcd has ended: killed"])
    api.on("GET /v1/cluster", view)
    assert "Trouble:    etcd has ended: killed" in moor("cluster", "status").out


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (problem(401, "unauthenticated", "This call needs a token."), 6),
        (problem(403, "forbidden", "No."), 6),
        (problem(409, "conflict", "Others keep changing it."), 5),
        (problem(412, "precondition_failed", "Another revision."), 5),
        (problem(422, "invalid_request", "Odd."), 3),
        (problem(507, "store_full", "The store is full."), 7),
        (httpx.Response(502, text="<html>"), 7),
        (httpx.ConnectError("Connection refused"), 7),
        (httpx.ReadTimeout("slow"), 7),
    ],
)
def test_every_trouble_is_one_sentence_and_its_exit_code(
    moor: Moor, api: FakeApi, answer: httpx.Response | Exception, code: int
) -> None:
    api.on("PATCH /v1/nodes/h1", answer)

    result = moor("node", "cordon", "h1")

    assert result.code == code
    assert result.out == ""
    assert result.err.startswith("moor: ")
    assert "Traceback" not in result.err
