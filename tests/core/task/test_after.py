from __future__ import annotations

from uuid import UUID

import pytest

from qw.core.task.after import AfterStatus, When, waits_for

A, B = UUID(int=1), UUID(int=2)
DONE, FAILED, OPEN, REMOVED = (
    AfterStatus.COMPLETED,
    AfterStatus.FAILED,
    AfterStatus.UNFINISHED,
    AfterStatus.REMOVED,
)


@pytest.mark.parametrize(
    ("when", "a", "b", "left"),
    [
        (When.ALL, DONE, DONE, []),
        (When.ALL, DONE, OPEN, [B]),
        (When.ANY, DONE, OPEN, []),
        (When.ANY, OPEN, OPEN, [A, B]),
        (When.ANY, FAILED, OPEN, [B]),
        (When.ANY, FAILED, DONE, []),
        (When.ANY, REMOVED, OPEN, [B]),
        (When.ANY, REMOVED, DONE, []),
        (When.DONE, FAILED, AfterStatus.CANCELLED, []),
        (When.DONE, FAILED, OPEN, [B]),
        (When.DONE, REMOVED, DONE, []),
    ],
)
def test_a_command_waits_for_those_that_it_was_to_run_after(
    when: When, a: AfterStatus, b: AfterStatus, left: list[UUID]
) -> None:
    assert waits_for(when, {A: a, B: b}) == left


@pytest.mark.parametrize(
    ("when", "a", "b", "text"),
    [
        (When.ALL, FAILED, OPEN, f"task {A}, which it was to run after, failed"),
        (When.ALL, REMOVED, DONE, f"task {A}, which it was to run after, was removed"),
        (When.ANY, FAILED, AfterStatus.CANCELLED, f"none of the tasks completed .* {A}, {B}"),
        (When.ANY, REMOVED, FAILED, f"none of the tasks completed .* {A}, {B}"),
    ],
)
def test_what_can_never_be_is_an_error(when: When, a: AfterStatus, b: AfterStatus, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        waits_for(when, {A: a, B: b})
