from __future__ import annotations

from uuid import UUID

import pytest

from qw.core.task import Status
from qw.core.task.after import When, waits_for

A, B = UUID(int=1), UUID(int=2)
DONE, FAILED, OPEN = Status.COMPLETED, Status.FAILED, Status.RETRYING


@pytest.mark.parametrize(
    ("when", "a", "b", "left"),
    [
        (When.ALL, DONE, DONE, []),
        (When.ALL, DONE, OPEN, [B]),
        (When.ANY, DONE, OPEN, []),
        (When.ANY, OPEN, OPEN, [A, B]),
        (When.ANY, FAILED, OPEN, [B]),
        (When.ANY, FAILED, DONE, []),
        (When.DONE, FAILED, Status.CANCELLED, []),
        (When.DONE, FAILED, OPEN, [B]),
    ],
)
def test_a_command_waits_for_those_that_it_was_to_run_after(when: When, a: Status, b: Status, left: list[UUID]) -> None:
    assert waits_for([A, B], when, {A: a, B: b}) == left


def test_a_task_that_is_no_longer_stored_is_not_waited_for() -> None:
    assert waits_for([A], When.ALL, {}) == []


@pytest.mark.parametrize(("when", "b"), [(When.ALL, OPEN), (When.ANY, Status.CANCELLED)])
def test_what_can_never_be_is_an_error(when: When, b: Status) -> None:
    with pytest.raises(ValueError, match=str(A)):
        waits_for([A, B], when, {A: FAILED, B: b})
