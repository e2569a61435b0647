"""What is done for a job, scenario by scenario."""

from __future__ import annotations

import pytest

from controller.reconcile.diff import diff
from controller.reconcile.values import JobInput, Reschedule
from tests.unit.reconcile.world import (
    DRAINING,
    NOW,
    OLD,
    attempt,
    failed,
    healthy,
    job,
    lost,
    never,
    placed,
    policy,
    reasons,
    starting,
    stopped,
    stops,
    unhealthy,
)


class TestCount:
    def test_a_new_job_fills_every_slot_with_its_first_attempt(self) -> None:
        assert placed(diff(job([]), NOW)) == [(0, 1), (1, 1), (2, 1)]

    def test_a_job_as_wanted_needs_nothing(self) -> None:
        decision = diff(job([healthy(0), healthy(1), healthy(2)]), NOW)
        assert not decision.acts
        assert decision.later_ms is None
        [state] = decision.groups
        assert (state.wanted, state.placed, state.running, state.healthy, state.updated) == (3, 3, 3, 3, 3)

    def test_scaling_down_stops_the_highest_indexes(self) -> None:
        assert stops(diff(job([healthy(0), healthy(1), healthy(2)], policy(1)), NOW)) == [
            (1, "scaled down"),
            (2, "scaled down"),
        ]

    def test_an_index_beyond_the_count_is_collected_after_its_end_and_its_number_remembered(self) -> None:
        decision = diff(job([healthy(0), stopped(1, 4), stopped(2, 2)], policy(1)), NOW)
        assert [a.key.index for a in decision.collect] == [1, 2]
        assert decision.floors == {"web": 4}

    def test_an_index_beyond_the_count_is_not_collected_while_an_older_attempt_may_still_run(self) -> None:
        old = healthy(1, 1, node="b", stop=True)
        decision = diff(job([healthy(0), old, stopped(1, 2)], policy(1), nodes={"b": lost()}), NOW)
        assert decision.collect == []

    def test_scaling_up_again_never_uses_an_attempt_number_twice(self) -> None:
        assert placed(diff(job([healthy(0)], policy(2), floors={"web": 4}), NOW)) == [(1, 5)]
        assert placed(diff(job([healthy(0), stopped(1, 6)], policy(2), floors={"web": 4}), NOW)) == [(1, 7)]

    def test_a_slot_wanted_again_waits_for_the_end_of_what_was_scaled_down(self) -> None:
        decision = diff(job([healthy(0), healthy(1, stop=True)], policy(2)), NOW)
        assert placed(decision) == []
        assert reasons(decision) == {1: "stopping on node n"}

    def test_a_group_that_left_the_spec_is_stopped_and_then_collected(self) -> None:
        keep = [healthy(0), healthy(1), healthy(2)]
        assert stops(diff(job([*keep, healthy(0, group="db")]), NOW)) == [(0, "group removed")]
        decision = diff(job([*keep, stopped(0, 3, group="db")]), NOW)
        assert [a.key.group for a in decision.collect] == ["db"]
        assert decision.floors == {"db": 3}

    def test_what_is_already_stopping_is_not_stopped_again(self) -> None:
        assert not diff(job([healthy(0), healthy(1, stop=True)], policy(1)), NOW).acts


class TestFailure:
    def test_a_failed_attempt_is_replaced_after_the_delay(self) -> None:
        waiting = diff(job([failed(0)], policy(1)), NOW)
        assert placed(waiting) == []
        assert waiting.later_ms == NOW + 5000
        assert "failed once in a row, next attempt 5 s after" in reasons(waiting)[0]
        due = diff(job([failed(0, ago_ms=5000)], policy(1)), NOW)
        assert placed(due) == [(0, 2)]
        assert due.place[0].failures == 1

    @pytest.mark.parametrize(("failures", "seconds"), [(0, 5), (1, 10), (2, 20), (6, 320), (7, 600), (40, 600)])
    def test_the_delay_doubles_with_each_failure_in_a_row_up_to_the_cap(self, failures: int, seconds: int) -> None:
        decision = diff(job([failed(0, failures=failures)], policy(1)), NOW)
        assert decision.later_ms == NOW + seconds * 1000

    def test_constant_backoff_stays_the_same(self) -> None:
        constant = policy(1, reschedule=Reschedule(exponential=False))
        assert diff(job([failed(0, failures=5)], constant), NOW).later_ms == NOW + 5000

    def test_failures_are_forgiven_after_a_while_of_health(self) -> None:
        good = failed(0, failures=6, lived_ms=80_000, healthy_since_ms=NOW - 60_000)
        assert diff(job([good], policy(1)), NOW).later_ms == NOW + 5000
        short = failed(0, failures=6, lived_ms=80_000, healthy_since_ms=NOW - 10_000)
        assert diff(job([short], policy(1)), NOW).later_ms == NOW + 320_000

    def test_failures_are_forgiven_to_one_that_outlived_its_restarts_though_its_health_is_not_told(self) -> None:
        assert diff(job([failed(0, failures=6, lived_ms=400_000)], policy(1)), NOW).later_ms == NOW + 5000

    def test_the_next_attempt_avoids_the_nodes_that_failed_newest_first(self) -> None:
        attempts = [failed(0, 1, node="a", stop=True), failed(0, 2, node="b", ago_ms=60_000)]
        assert diff(job(attempts, policy(1)), NOW).place[0].avoid == ("b", "a")

    def test_what_its_node_stopped_when_cut_off_has_not_failed_and_is_filled_again(self) -> None:
        """Also with `restart.mode: fail`: there is a slot to fill, and nothing was wrong with it."""
        ended = stopped(0, asked=False, failures=2, message="no controller was heard for 30 s")
        given_up = policy(1, reschedule=never(attempts=1))
        decision = diff(job([ended], given_up), NOW)
        assert placed(decision) == []
        assert decision.later_ms == NOW + 5000
        reason = "stopped by its node: no controller was heard for 30 s; next attempt 5 s after that"
        assert reasons(decision)[0] == reason
        due = diff(job([ended], given_up), NOW + 5000)
        assert placed(due) == [(0, 2)]
        assert (due.place[0].failures, due.place[0].avoid) == (2, ())

    def test_restart_mode_fail_leaves_it_and_says_so(self) -> None:
        decision = diff(job([failed(0, ago_ms=10**9)], policy(1, reschedule=never())), NOW)
        assert not decision.acts
        assert decision.later_ms is None
        assert "not replaced: restart.mode is fail" in reasons(decision)[0]

    def test_used_up_attempts_leave_it_and_say_so(self) -> None:
        twice = policy(1, reschedule=Reschedule(attempts=2))
        assert placed(diff(job([failed(0, ago_ms=10**7, failures=1)], twice), NOW)) == [(0, 2)]
        decision = diff(job([failed(0, ago_ms=10**7, failures=2)], twice), NOW)
        assert placed(decision) == []
        assert "failed 3 times in a row, reschedule.attempts allows 2" in reasons(decision)[0]

    def test_a_changed_template_gives_a_given_up_slot_a_fresh_start_at_once(self) -> None:
        decision = diff(job([failed(0, failures=9, template_hash=OLD)], policy(1, reschedule=never())), NOW)
        assert placed(decision) == [(0, 2)]
        assert decision.place[0].failures == 0

    def test_an_attempt_stopped_on_request_is_replaced_at_once_even_after_it_failed(self) -> None:
        assert placed(diff(job([stopped(0)], policy(1)), NOW)) == [(0, 2)]
        assert placed(diff(job([failed(0, failures=9, stop=True)], policy(1)), NOW)) == [(0, 2)]

    def test_a_superseded_failure_is_kept_for_a_while_to_be_looked_at_and_only_the_last_one(self) -> None:
        attempts = [failed(0, 1, stop=True), failed(0, 2, ago_ms=1000, stop=True), healthy(0, 3)]
        decision = diff(job(attempts, policy(1)), NOW)
        assert [a.key.attempt for a in decision.collect] == [1]
        assert decision.later_ms == NOW - 1000 + 3_600_000
        assert decision.floors == {}
        later = diff(job(attempts, policy(1)), NOW + 3_600_000)
        assert [a.key.attempt for a in later.collect] == [2, 1]

    def test_a_superseded_attempt_that_somehow_was_not_told_is_told_to_stop(self) -> None:
        assert stops(diff(job([healthy(0, 1), healthy(0, 2)], policy(1)), NOW)) == [(0, "superseded")]


class TestLostNode:
    def test_a_slot_waits_for_a_lost_node_and_says_so(self) -> None:
        decision = diff(job([healthy(0)], policy(1), nodes={"a": lost()}), NOW + 29_999)
        assert not decision.acts
        assert decision.later_ms == NOW + 30_000
        assert reasons(decision) == {0: "node n is lost; replaced 30 s after that unless it comes back"}

    def test_after_replace_after_it_is_superseded(self) -> None:
        decision = diff(job([healthy(0, failures=2)], policy(1), nodes={"a": lost()}), NOW + 30_000)
        [place] = decision.place
        assert place.key.attempt == 2
        assert place.lost
        assert place.failures == 2
        assert place.replaces is not None
        assert place.replaces.key.attempt == 1

    def test_a_node_that_comes_back_in_time_keeps_its_allocation(self) -> None:
        assert not diff(job([healthy(0)], policy(1)), NOW + 10**6).acts

    def test_replace_after_never_waits_for_the_node_or_a_person(self) -> None:
        decision = diff(job([healthy(0)], policy(1, replace_after_ms=None), nodes={"a": lost()}), NOW + 10**9)
        assert not decision.acts
        assert decision.later_ms is None
        assert "never" in reasons(decision)[0]
        assert "moor node forget n" in reasons(decision)[0]

    def test_what_ran_on_a_forgotten_node_is_replaced_at_once(self) -> None:
        view = JobInput("u1", 2, {"web": policy(1, replace_after_ms=None)}, [healthy(0)], {})
        assert placed(diff(view, NOW)) == [(0, 2)]

    def test_an_attempt_that_ended_before_its_node_was_lost_needs_no_wait(self) -> None:
        assert placed(diff(job([stopped(0)], policy(1), nodes={"a": lost()}), NOW)) == [(0, 2)]

    def test_a_stopping_slot_on_a_lost_node_is_replaced_as_any_other(self) -> None:
        assert placed(diff(job([healthy(0, stop=True)], policy(1), nodes={"a": lost(NOW - 30_000)}), NOW)) == [(0, 2)]

    def test_superseded_records_stay_until_the_node_reports(self) -> None:
        attempts = [healthy(0, 1, node="a", stop=True), healthy(0, 2, node="b")]
        assert not diff(job(attempts, policy(1), nodes={"a": lost()}), NOW).acts
        attempts[0] = stopped(0, 1, node="a")
        assert len(diff(job(attempts, policy(1)), NOW).collect) == 1


class TestDrain:
    def test_a_drain_stops_as_many_as_may_be_unavailable(self) -> None:
        attempts = [healthy(i) for i in range(4)]
        assert stops(diff(job(attempts, policy(4), nodes={"a": DRAINING}), NOW)) == [(0, "drained")]
        two = diff(job(attempts, policy(4, max_unavailable=2), nodes={"a": DRAINING}), NOW)
        assert stops(two) == [(0, "drained"), (1, "drained")]

    def test_a_drain_waits_while_another_slot_of_the_group_is_unavailable(self) -> None:
        attempts = [healthy(0), starting(1, node="b"), healthy(2, node="b")]
        assert stops(diff(job(attempts, nodes={"a": DRAINING}), NOW)) == []

    def test_what_serves_nobody_leaves_a_draining_node_at_once(self) -> None:
        attempts = [starting(0), unhealthy(1), healthy(2)]
        assert stops(diff(job(attempts, nodes={"a": DRAINING}), NOW)) == [(0, "drained"), (1, "drained")]

    def test_the_slot_is_filled_elsewhere_once_the_old_one_has_ended(self) -> None:
        attempts = [stopped(0), healthy(1), healthy(2)]
        decision = diff(job(attempts, nodes={"a": DRAINING}), NOW)
        assert placed(decision) == [(0, 2)]
        assert stops(decision) == []

    def test_none_may_be_unavailable_holds_the_drain(self) -> None:
        assert not diff(job([healthy(0)], policy(1, max_unavailable=0), nodes={"a": DRAINING}), NOW).acts


class TestChangedTemplate:
    def test_max_parallel_at_a_time(self) -> None:
        attempts = [healthy(i, template_hash=OLD, version=1) for i in range(4)]
        assert stops(diff(job(attempts, policy(4, max_parallel=2)), NOW)) == [(0, "updated"), (1, "updated")]

    def test_the_next_waits_for_the_replacement_to_be_healthy(self) -> None:
        attempts = [starting(0, 2), healthy(1, template_hash=OLD), healthy(2, template_hash=OLD)]
        assert stops(diff(job(attempts), NOW)) == []

    def test_the_next_waits_until_it_has_been_healthy_for_min_healthy(self) -> None:
        attempts = [healthy(0, 2, for_ms=4000), healthy(1, template_hash=OLD), healthy(2, template_hash=OLD)]
        decision = diff(job(attempts), NOW)
        assert stops(decision) == []
        assert decision.later_ms == NOW + 6000
        assert stops(diff(job(attempts), NOW + 6000)) == [(1, "updated")]

    def test_a_crashing_new_template_stops_the_roll_and_leaves_the_rest_serving(self) -> None:
        attempts = [failed(0, 2), healthy(1, template_hash=OLD), healthy(2, template_hash=OLD)]
        decision = diff(job(attempts), NOW)
        assert not decision.acts

    def test_failing_and_unplaced_ones_go_first_and_do_not_wait(self) -> None:
        attempts = [healthy(0, template_hash=OLD), unhealthy(1, template_hash=OLD), failed(2, template_hash=OLD)]
        decision = diff(job(attempts), NOW)
        assert stops(decision) == [(1, "updated")]
        assert placed(decision) == [(2, 2)]

    def test_count_policies_and_health_checks_only_update_in_place(self) -> None:
        attempts = [healthy(0, version=1), healthy(1, version=2), starting(2, version=1)]
        decision = diff(job(attempts), NOW)
        assert [a.key.index for a in decision.update] == [0, 2]
        assert not decision.stop
        assert not decision.place

    def test_what_runs_the_old_template_keeps_its_version_while_it_waits_for_its_turn(self) -> None:
        attempts = [starting(0), healthy(1, version=1, template_hash=OLD), healthy(2, version=1, template_hash=OLD)]
        assert diff(job(attempts), NOW).update == []

    def test_drain_and_roll_together_keep_to_the_wider_of_their_limits(self) -> None:
        attempts = [healthy(0, node="b", template_hash=OLD), healthy(1), healthy(2, template_hash=OLD)]
        decision = diff(job(attempts, nodes={"a": DRAINING}), NOW)
        assert stops(decision) == [(1, "drained")]


class TestDelete:
    def test_everything_is_stopped_and_then_nothing_is_left(self) -> None:
        attempts = [healthy(0), stopped(1), healthy(2, stop=True)]
        decision = diff(job(attempts, deleting=True), NOW)
        assert stops(decision) == [(0, "deleted")]
        assert not decision.finished
        assert diff(job([stopped(0), failed(1)], deleting=True), NOW).finished
        assert diff(job([], deleting=True), NOW).finished

    def test_it_waits_for_a_lost_node_and_says_so(self) -> None:
        decision = diff(job([healthy(0, stop=True)], deleting=True, nodes={"a": lost(0)}), NOW)
        assert not decision.finished
        assert "moor node forget n" in decision.groups[0].waiting[0].reason
        forgotten = JobInput("u1", 2, {}, [healthy(0, stop=True)], {}, deleting=True)
        assert diff(forgotten, NOW).finished


def test_an_attempt_of_a_plan_that_was_given_up_was_never_handed_out_and_is_replaced() -> None:
    decision = diff(job([attempt(0, abandoned="p1")], policy(1)), NOW)
    assert placed(decision) == [(0, 2)]


def test_deciding_twice_decides_the_same() -> None:
    view = job([healthy(0, template_hash=OLD), failed(1), healthy(3)])
    first, second = diff(view, NOW), diff(view, NOW)
    assert (placed(first), stops(first), first.later_ms) == (placed(second), stops(second), second.later_ms)


def test_what_is_placed_but_not_healthy_is_told_with_its_reason_and_left_to_its_node() -> None:
    sick = unhealthy(1, message="server: exited with code 3")

    decision = diff(job([healthy(0), sick, starting(2)], policy(3)), NOW)

    assert [(one.index, one.reason) for one in decision.groups[0].troubled] == [(1, "server: exited with code 3")]
    assert not decision.acts
