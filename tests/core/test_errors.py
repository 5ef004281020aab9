from __future__ import annotations

import pytest

from qw.core.errors import (
    Conflict,
    Denied,
    Fault,
    Invalid,
    Misconfigured,
    NotFound,
    QwError,
    TaskCancelled,
    TaskFailed,
    TimedOut,
    Unavailable,
    guess,
)


def test_every_error_is_a_qw_error_with_a_code_of_its_own() -> None:
    kinds: list[type[QwError]] = [
        *(QwError, NotFound, Conflict, Invalid, Misconfigured, Unavailable, Denied, TimedOut, TaskFailed, TaskCancelled)
    ]

    assert all(issubclass(kind, QwError) for kind in kinds)
    assert len({kind.code for kind in kinds}) == len(kinds)


def test_invalid_lists_every_fault_with_its_path() -> None:
    error = Invalid(Fault(path="a.b", message="is wrong"), "so is this")

    assert str(error) == "a.b: is wrong; so is this"
    assert [fault.path for fault in error.faults] == ["a.b", ""]


@pytest.mark.parametrize(
    ("word", "hint"),
    [("tpye", "; did you mean 'type'?"), ("step", "; did you mean 'steps'?"), ("xyz", ""), ("", "")],
)
def test_a_guess_is_made_only_when_something_is_close(word: str, hint: str) -> None:
    assert guess(word, ["type", "steps", "with"]) == hint
