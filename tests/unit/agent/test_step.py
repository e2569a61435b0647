"""What is done next for one allocation."""

from __future__ import annotations

from agent.state import Desired, Presence, Run, Seen, Stage, State
from agent.step import Action, BeginEnd, Clear, Ended, Idle, Kick, Look, Prepare, Start, Stop, step
from moorage.wire.spec_pb2 import GroupSpec
from moorage.wire.store_pb2 import FAILED, STOPPED
from tests.unit.agent.build import NOW, ended, group, policy, seen, state

UNKNOWN, ABSENT, RUNNING, ENDED = Presence.UNKNOWN, Presence.ABSENT, Presence.RUNNING, Presence.ENDED


def wanted(spec: GroupSpec, looks: Seen, before: State | None = None, now_ms: int = NOW) -> Action:
    return step(Desired(spec), before or State(), looks, now_ms)


def ending(as_: int, looks: Seen, *, stage: Stage = Stage.ENDING, clear: bool = False, at_once: bool = False) -> Action:
    before = State(stage, as_, "why")  # type: ignore[arg-type]
    return step(Desired(group(), run=False, reason="why", clear=clear, at_once=at_once), before, looks, NOW)


def test_a_new_allocation_is_prepared_and_then_started() -> None:
    looks = seen(server=ABSENT)
    assert wanted(group(), looks) == Prepare(("server",))
    looks.prepared = True
    assert wanted(group(), looks) == Start(("server",))


def test_all_tasks_of_a_group_are_started_together() -> None:
    looks = seen(one=ABSENT, two=ABSENT)
    looks.prepared = True
    assert wanted(group("one", "two"), looks) == Start(("one", "two"))


def test_what_runs_is_left_alone() -> None:
    assert wanted(group(), seen(server=RUNNING), state(server=Run())) == Idle()


def test_nothing_is_concluded_from_what_is_unknown() -> None:
    assert wanted(group("one", "two"), seen(one=RUNNING, two=UNKNOWN)) == Look()
    assert ending(STOPPED, seen(server=UNKNOWN)) == Look()


def test_while_the_engine_is_away_it_waits() -> None:
    looks = seen(server=UNKNOWN)
    looks.retry_at_ms = NOW + 500
    assert wanted(group(), looks) == Idle(NOW + 500)
    assert wanted(group(), looks, now_ms=NOW + 500) == Look()


def test_what_is_blocked_is_not_started() -> None:
    looks = seen(server=ABSENT)
    looks.blocked = "waits for another attempt"
    assert wanted(group(), looks) == Idle()


def test_an_ended_task_waits_for_its_delay() -> None:
    looks, before = seen(server=ENDED), state(server=Run(exit=ended()))
    looks.prepared = True
    assert wanted(group(), looks, before) == Idle(NOW + 1000)
    assert wanted(group(), looks, before, NOW + 1000) == Start(("server",))


def test_the_delay_doubles_with_each_restart() -> None:
    before = state(server=Run(2, restarts=(NOW - 9000, NOW - 5000), exit=ended()))
    assert wanted(group(), seen(server=ENDED), before) == Idle(NOW + 4000)


def test_one_task_restarts_while_the_others_run() -> None:
    looks, before = seen(one=RUNNING, two=ENDED), state(one=Run(), two=Run(exit=ended(0, NOW - 2000)))
    looks.prepared = True
    assert wanted(group("one", "two"), looks, before) == Start(("two",))


def test_restarts_used_up_end_the_allocation_as_failed() -> None:
    before = state(server=Run(3, restarts=(NOW - 3, NOW - 2, NOW - 1), exit=ended(7)))
    action = wanted(group(), seen(server=ENDED), before)
    assert action == BeginEnd(FAILED, "server exited with code 7; restarted 3 times within 300 s")


def test_restarts_before_the_interval_do_not_count() -> None:
    old = NOW - 300_000
    before = state(server=Run(3, restarts=(old - 2, old - 1, old), exit=ended()))
    assert wanted(group(), seen(server=ENDED), before) == Idle(NOW + 1000)


def test_a_group_that_may_not_restart_fails_at_its_first_end() -> None:
    before = state(server=Run(exit=ended(137, oom_killed=True)))
    action = wanted(group(restart=policy(attempts=0)), seen(server=ENDED), before)
    assert action == BeginEnd(FAILED, "server was killed for exceeding its memory limit")


def test_what_cannot_be_helped_is_not_tried_again() -> None:
    looks = seen(server=ENDED)
    looks.tasks["server"].hopeless = "image shop:3 is not on this node"
    before = state(server=Run(exit=ended()))
    assert wanted(group(), looks, before) == BeginEnd(FAILED, "server: image shop:3 is not on this node")


def test_an_unhealthy_task_is_ended_alone() -> None:
    looks = seen(one=RUNNING, two=RUNNING)
    looks.tasks["two"].unhealthy = "unhealthy: port 80: Connection refused"
    action = wanted(group("one", "two"), looks, state(one=Run(), two=Run()))
    assert action == Kick("two", "unhealthy: port 80: Connection refused")


def test_a_stop_is_written_down_before_it_is_begun() -> None:
    action = step(Desired(group(), run=False, reason="scaled down"), State(), seen(server=RUNNING), NOW)
    assert action == BeginEnd(STOPPED, "scaled down")


def test_an_end_stops_what_runs_then_says_so_then_clears() -> None:
    assert ending(STOPPED, seen(one=RUNNING, two=ENDED)) == Stop(("one",), at_once=False)
    assert ending(STOPPED, seen(one=RUNNING), at_once=True) == Stop(("one",), at_once=True)
    assert ending(STOPPED, seen(one=ENDED, two=ABSENT)) == Ended()
    assert ending(STOPPED, seen(one=ENDED), stage=Stage.ENDED) == Clear()
    assert ending(STOPPED, seen(one=ENDED), stage=Stage.GONE) == Idle()


def test_a_failed_allocation_keeps_its_logs_until_told() -> None:
    assert ending(FAILED, seen(one=ENDED), stage=Stage.ENDED) == Idle()
    assert ending(FAILED, seen(one=ENDED), stage=Stage.ENDED, clear=True) == Clear()


def test_an_end_that_has_begun_has_no_way_back() -> None:
    before = State(Stage.ENDING, STOPPED, "why")
    assert step(Desired(group()), before, seen(server=RUNNING), NOW) == Stop(("server",), at_once=False)


def test_rebuilt_from_labels_it_waits_for_its_spec() -> None:
    assert step(Desired(None), state(server=Run(exit=ended())), seen(server=ENDED), NOW) == Idle()
