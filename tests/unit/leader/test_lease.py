"""One turn of the thread that keeps a lease, with clock and etcd as arguments: it never counts on too much."""

from __future__ import annotations

import math

from controller.store.etcd_lease import PATIENCE, LeaseLoop

TTL_S = 10.0
RENEW_S = 3.0


class Etcd:
    """Answers renewals, each of which takes a while."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.left = TTL_S
        self.takes_s = 0.0
        self.away = False
        self.renewals = 0

    def renew(self, timeout_s: float) -> float:
        self.renewals += 1
        self.now += min(self.takes_s, timeout_s)
        if self.away or self.takes_s > timeout_s:
            raise ConnectionError
        return self.left

    def monotonic(self) -> float:
        return self.now

    def loop(self) -> LeaseLoop:
        return LeaseLoop(self.renew, TTL_S, RENEW_S, self.now, self.monotonic)


def test_a_renewal_counts_from_before_it_was_sent_and_not_for_its_whole_length() -> None:
    etcd = Etcd()
    etcd.takes_s = 2
    loop = etcd.loop()
    assert loop.turn() == RENEW_S
    assert loop.until() == 1000 + 0.9 * TTL_S


def test_an_etcd_that_is_away_for_a_moment_costs_nothing() -> None:
    etcd = Etcd()
    loop = etcd.loop()
    etcd.away = True
    for _ in range(8):
        pause = loop.turn()
        assert pause is not None and pause < RENEW_S
        etcd.now += 1
    etcd.away = False
    assert loop.turn() == RENEW_S
    assert loop.until() == 1008 + 0.9 * TTL_S


def test_an_etcd_that_is_away_for_longer_loses_the_lease_for_good() -> None:
    etcd = Etcd()
    loop = etcd.loop()
    etcd.away = True
    etcd.now += TTL_S
    assert loop.turn() is None
    etcd.away = False
    assert loop.turn() is None
    assert loop.until() == -math.inf


def test_a_process_that_was_stopped_does_not_renew_what_may_have_run_out() -> None:
    etcd = Etcd()
    loop = etcd.loop()
    loop.turn()
    etcd.now += TTL_S
    assert loop.until() < etcd.now
    assert loop.turn() is None
    assert etcd.renewals == 1


def test_an_answer_that_is_read_too_late_is_worth_nothing() -> None:
    """Stopped between sending and reading: another may lead by now, whatever the answer says."""
    etcd = Etcd()
    loop = etcd.loop()
    stopped_for = TTL_S

    def renew(timeout_s: float) -> float:
        etcd.now += stopped_for
        return TTL_S

    loop._renew = renew
    assert loop.turn() is None
    assert loop.until() == -math.inf


def test_a_lease_that_is_gone_is_lost() -> None:
    etcd = Etcd()
    loop = etcd.loop()
    etcd.left = 0
    assert loop.turn() is None
    assert loop.until() == -math.inf


def test_an_event_loop_that_hangs_loses_the_lease() -> None:
    etcd = Etcd()
    loop = etcd.loop()
    turns = 0
    while loop.turn() is not None:
        etcd.now += RENEW_S
        turns += 1
    assert PATIENCE * TTL_S <= turns * RENEW_S <= PATIENCE * TTL_S + RENEW_S


def test_an_event_loop_that_says_it_lives_keeps_the_lease() -> None:
    etcd = Etcd()
    loop = etcd.loop()
    for _ in range(100):
        assert loop.turn() == RENEW_S
        etcd.now += RENEW_S
        loop.pulse()
