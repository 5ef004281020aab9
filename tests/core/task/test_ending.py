from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qw.core.task import Backoff, Policy, Status
from qw.core.task.ending import (
    MAX_CRASHES,
    MAX_LOSSES,
    PROMPT_LOSSES,
    Cancelled,
    Completed,
    Ending,
    Failed,
    HandedBack,
    Outcome,
    Snoozed,
    WorkerDied,
    WorkerSilent,
    backoff_delay,
    end,
)

POLICY = Policy(max_retries=3, backoff=Backoff(delay=timedelta(seconds=10)))
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Completed, result=st.none() | st.integers()),
    st.builds(Failed, error=st.just("boom"), names=st.just(("ValueError", "Exception")), final=st.booleans()),
    st.builds(Failed, error=st.just("boom"), after=st.timedeltas()),
    st.builds(Snoozed, delay=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=9))),
    st.builds(Cancelled),
    st.builds(HandedBack),
    st.builds(WorkerDied, worker=st.integers(1, 9), alone=st.booleans()),
    st.builds(WorkerSilent, worker=st.integers(1, 9), losses=st.integers(0, 20)),
)


def ending(
    outcome: Outcome, *, retries: int = 0, crashes: int = 0, policy: Policy = POLICY, chance: float = 1
) -> Ending:
    return end(outcome, retries=retries, crashes=crashes, policy=policy, chance=chance)


def test_a_completed_attempt_ends_the_task_with_its_result() -> None:
    assert ending(Completed(result=[1]), retries=2) == Ending(status=Status.COMPLETED, retries=2, crashes=0, result=[1])


@pytest.mark.parametrize(
    ("retries", "status", "delay"),
    [
        (0, Status.RETRYING, timedelta(seconds=10)),
        (1, Status.RETRYING, timedelta(seconds=20)),
        (2, Status.FAILED, None),
        (9, Status.FAILED, None),
    ],
)
def test_a_failed_attempt_is_tried_again_until_the_retries_reach_their_limit(
    retries: int, status: Status, delay: timedelta | None
) -> None:
    now = ending(Failed(error="boom"), retries=retries)

    assert (now.status, now.retries, now.delay, now.error) == (status, retries + 1, delay, "boom")


def test_one_attempt_is_all_that_max_retries_of_one_allows() -> None:
    assert ending(Failed(error="x"), policy=Policy(max_retries=1)).status is Status.FAILED


def test_a_final_failure_is_not_tried_again() -> None:
    assert ending(Failed(error="x", final=True)).status is Status.FAILED


@pytest.mark.parametrize(
    ("backoff", "status"),
    [
        (Backoff(retry_on=("ValueError",)), Status.RETRYING),
        (Backoff(retry_on=("Exception",)), Status.RETRYING),
        (Backoff(retry_on=("KeyError",)), Status.FAILED),
        (Backoff(give_up_on=("Exception",)), Status.FAILED),
        (Backoff(give_up_on=("KeyError",)), Status.RETRYING),
        (Backoff(retry_on=("ValueError",), give_up_on=("Exception",)), Status.FAILED),
    ],
)
def test_the_policy_says_which_errors_are_tried_again(backoff: Backoff, status: Status) -> None:
    failed = Failed(error="x", names=("ValueError", "Exception"))

    assert ending(failed, policy=Policy(backoff=backoff)).status is status


@pytest.mark.parametrize(
    ("after", "delay"),
    [
        (timedelta(seconds=5), timedelta(seconds=5)),
        (timedelta(seconds=-5), timedelta(0)),
        (timedelta(days=400), timedelta(days=1)),
    ],
)
def test_the_handlers_own_word_on_when_replaces_the_backoff_within_bounds(after: timedelta, delay: timedelta) -> None:
    assert ending(Failed(error="x", after=after)).delay == delay


def test_a_snooze_costs_nothing_and_waits() -> None:
    now = ending(Snoozed(delay=timedelta(hours=1)), crashes=1)

    assert (now.status, now.retries, now.crashes, now.delay) == (Status.PENDING, 0, 1, timedelta(hours=1))


def test_what_is_handed_back_costs_nothing_and_keeps_its_place() -> None:
    assert ending(HandedBack()) == Ending(status=Status.PENDING, retries=0, crashes=0)
    assert ending(HandedBack(), retries=1) == Ending(status=Status.RETRYING, retries=1, crashes=0)


def test_a_crash_is_counted_apart_and_the_third_fails_the_task() -> None:
    first, third = ending(WorkerDied(worker=4)), ending(WorkerDied(worker=4), retries=1, crashes=2)

    assert (first.status, first.retries, first.crashes, first.delay) == (Status.PENDING, 0, 1, None)
    assert (third.status, third.retries, third.crashes) == (Status.FAILED, 1, MAX_CRASHES)
    assert third.error == "worker 4 died while it held this task (3 of 3)"


def test_a_third_crash_beside_another_suspect_fails_nobody_and_the_fourth_does() -> None:
    third = ending(WorkerDied(worker=4, alone=False), crashes=2)
    fourth = ending(WorkerDied(worker=5, alone=False), crashes=3)

    assert (third.status, third.crashes, third.outcome) == (Status.PENDING, 3, "worker_died")
    assert fourth.status == Status.FAILED


def test_a_silent_worker_is_no_crash_and_the_task_waits_longer_each_time_until_it_fails() -> None:
    endings = [ending(WorkerSilent(worker=4, losses=losses), crashes=1) for losses in range(MAX_LOSSES)]

    assert {now.crashes for now in endings} == {1}
    assert [now.delay for now in endings[:PROMPT_LOSSES]] == [None] * PROMPT_LOSSES
    delays = [now.delay for now in endings[PROMPT_LOSSES:-1]]
    assert delays[0] == timedelta(seconds=2)
    assert delays[-1] == timedelta(minutes=1)
    assert [now.status for now in endings] == [Status.PENDING] * (MAX_LOSSES - 1) + [Status.FAILED]
    assert endings[-1].error == "worker 4 was silent for a lease while it held this task (10 of 10)"


def test_a_cancelled_attempt_ends_the_task_with_the_reason() -> None:
    now = ending(Cancelled(reason="asked"))

    assert (now.status, now.error) == (Status.CANCELLED, "asked")


@given(OUTCOMES, st.integers(0, 5), st.integers(0, 2), st.floats(0, 1))
def test_every_ending_is_one_that_can_be_stored(outcome: Outcome, retries: int, crashes: int, chance: float) -> None:
    now = ending(outcome, retries=retries, crashes=crashes, chance=chance)

    assert retries <= now.retries <= retries + 1
    assert crashes <= now.crashes <= crashes + 1
    assert now.status is not Status.PROCESSING
    assert now.delay is None or (now.delay >= timedelta(0) and not now.status.is_final)
    assert (now.status is Status.RETRYING) <= (now.retries > 0)
    assert (now.outcome is None) or not now.status.is_final


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(1, 1000))
def test_a_backoff_is_never_longer_than_its_limit_and_never_overflows(
    failures: int, chance: float, factor: float
) -> None:
    backoff = Backoff(delay=timedelta(seconds=1), factor=factor, max_delay=timedelta(minutes=10))

    assert timedelta(0) <= backoff_delay(backoff, failures, chance) <= timedelta(minutes=10)


def test_a_backoff_grows_by_its_factor_and_is_spread_by_chance() -> None:
    backoff = Backoff(delay=timedelta(seconds=1), factor=3)

    assert [backoff_delay(backoff, n, 1).total_seconds() for n in (1, 2, 3)] == [1, 3, 9]
    assert backoff_delay(backoff, 3, 0.5).total_seconds() == 4.5
    assert backoff_delay(backoff, 3, 0) == timedelta(0)
