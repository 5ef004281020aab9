from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from qw.core.liveness import BETWEEN_CHECKS, RECONNECT_SECONDS, Death, Judge, Observation

LEASE = 15.0


class Watching:
    """A judge that looks every second at one worker, 7."""

    def __init__(self, *, by_locks: bool = True) -> None:
        self.judge = Judge(LEASE, by_locks=by_locks)
        self.now = 100.0
        self.beats = 1
        self.locks = True
        self.locked = True

    def look(self, passed: float = 1.0) -> Death | None:
        self.now += passed
        look = Observation(id=7, beats=self.beats, locks=self.locks, locked=self.locked)
        self.judge.watch(self.now, {7: self.beats})
        return self.judge.judge(self.now, [look]).get(7)

    def seconds_to_death(self, passed: float = 1.0) -> float:
        started = self.now
        while self.look(passed) is None:
            assert self.now - started < 1000
        return self.now - started


def test_a_worker_whose_beats_do_not_rise_for_a_lease_is_silent() -> None:
    watching = Watching()
    watching.look()

    assert watching.seconds_to_death() == LEASE


def test_a_new_judge_watches_for_a_whole_lease_before_it_calls_anybody_silent() -> None:
    assert Watching().seconds_to_death() >= LEASE


def test_a_beat_begins_the_lease_anew() -> None:
    watching = Watching()
    for _ in range(14):
        assert watching.look() is None
    watching.beats += 1
    watching.look()

    assert watching.seconds_to_death() == LEASE


@given(st.floats(1, 100_000))
def test_time_in_which_the_judge_was_blind_is_no_silence_of_the_others(gap: float) -> None:
    watching = Watching()
    watching.look()

    assert watching.look(gap) is None
    assert watching.seconds_to_death() >= LEASE / 2


def test_a_missing_lock_at_two_looks_without_a_beat_between_is_a_crash() -> None:
    watching = Watching()
    watching.look()
    watching.locked = False

    assert watching.look() is None
    assert watching.judge.next_check(watching.now) is not None
    assert watching.look(BETWEEN_CHECKS) is Death.CRASHED


def test_a_beat_or_a_lock_between_two_looks_is_life() -> None:
    watching = Watching()
    watching.locked = False
    watching.look()
    watching.beats += 1
    assert watching.look(BETWEEN_CHECKS) is None
    watching.locked = True
    watching.look()
    watching.locked = False

    assert watching.look() is None


def test_locks_of_another_server_and_behind_a_pooler_say_nothing() -> None:
    for watching in (Watching(by_locks=False), Watching()):
        watching.locks = not watching.judge._by_locks
        watching.locked = False
        watching.look()

        assert watching.seconds_to_death() >= LEASE - 1


def test_after_lost_contact_locks_count_again_in_seconds() -> None:
    watching = Watching()
    watching.look()
    watching.locked = False
    watching.judge.lost_contact(watching.now)

    seconds = watching.seconds_to_death(0.25)

    assert RECONNECT_SECONDS <= seconds <= RECONNECT_SECONDS + BETWEEN_CHECKS + 0.5


def test_a_silent_worker_is_looked_at_when_its_lease_ends() -> None:
    watching = Watching()
    watching.look()
    assert watching.judge.next_check(watching.now) is None
    for _ in range(14):
        watching.look()

    assert 1.0 <= (watching.judge.next_check(watching.now) or 0) < 1.1


@given(st.lists(st.tuples(st.floats(0.01, 60), st.booleans()), max_size=60))
def test_nobody_is_silent_who_beat_within_a_lease(steps: Iterable[tuple[float, bool]]) -> None:
    watching = Watching()
    watching.look()
    beat_at = watching.now
    for passed, beats in steps:
        if beats:
            watching.beats += 1
        verdict = watching.look(passed)
        if beats:
            beat_at = watching.now
        assert verdict is None or watching.now - beat_at >= LEASE - 1e-6
        if verdict:
            return
