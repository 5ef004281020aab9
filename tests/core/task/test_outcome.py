from __future__ import annotations

import errno
import threading
from asyncio import CancelledError
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from qw.core.duration import MAX_DURATION
from qw.core.task.ending import Completed, Failed, Snoozed
from qw.core.task.handler_api import Failure, Reject, Retry, Snooze
from qw.core.task.outcome import MAX_TRACEBACK_LINES, error_outcome, is_plain, result_outcome, text_of, traceback_of
from qw.core.task.payload import MAX_ERROR, NotPlain


class Speechless:
    def __str__(self) -> str:
        raise RuntimeError("the session is closed")


@dataclass
class Point:
    x: int


def failed(outcome: object) -> Failed:
    assert isinstance(outcome, Failed)
    return outcome


def doubled(levels: int) -> list[Any]:
    """A small object that would be 2**levels values as JSON."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value, value]
    return value


def test_a_result_that_raises_when_it_is_converted_is_a_failure_that_says_so() -> None:
    outcome = failed(result_outcome({"order": Speechless()}))

    assert outcome.error == "the result, dict, cannot be stored: RuntimeError: the session is closed"
    assert (outcome.names[0], outcome.final) == ("RuntimeError", False)


@pytest.mark.parametrize("value", [doubled(90), list(range(300_000)), {n: n for n in range(100_000)}, "ä" * 200_000])
def test_a_result_is_refused_as_soon_as_it_is_too_large(value: object) -> None:
    outcome = failed(result_outcome(value))

    assert (outcome.names, outcome.final) == (("ResultTooLarge",), True)
    assert "return a reference" in outcome.error


def test_a_result_of_the_largest_size_is_stored() -> None:
    assert result_outcome("x" * (256 * 1024 - 2)) == Completed(result="x" * (256 * 1024 - 2))


@pytest.mark.parametrize(
    "value", [(n for n in "abc"), map(str, [1]), {"below": [iter([1])]}, open],
    ids=["generator", "map", "iterator", "function"],
)  # fmt: skip
def test_what_is_yet_to_be_computed_is_no_result(value: object) -> None:
    outcome = result_outcome(value)

    if value is open:  # a function is an odd result, but it is whole
        assert outcome == Completed(result="<built-in function open>")
    else:
        assert "has not been computed" in failed(outcome).error


def test_a_dict_that_another_thread_changes_is_converted_as_it_was_at_one_time() -> None:
    shared: dict[str, object] = {}
    stop = threading.Event()

    def change() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            shared[f"key {n % 500}"] = n
            shared.pop(f"key {(n + 250) % 500}", None)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        assert all(isinstance(result_outcome(shared), Completed) for _ in range(200))
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("value", [Speechless(), Point(1), {"a": [Point(1)]}, {Point: 1}])
def test_values_with_classes_of_their_own_are_not_touched_when_only_plain_ones_are_asked_for(value: object) -> None:
    with pytest.raises(NotPlain):
        result_outcome(value, plain_only=True)


def test_numbers_too_long_for_decimal_digits_are_stored_as_hexadecimal() -> None:
    assert result_outcome(2**20_000) == Completed(result=hex(2**20_000))


class Overridden(str):
    def isascii(self) -> bool:
        raise RuntimeError

    __str__ = isascii  # type: ignore[assignment]


def test_a_string_is_stored_by_its_characters_whatever_its_class_makes_of_them() -> None:
    assert result_outcome(Overridden("text")) == Completed(result="text")


# -- errors


class Bare(Retry):
    def __init__(self) -> None:
        """Calls nothing of its class above."""


class BareSnooze(Snooze):
    def __init__(self) -> None:
        """Calls nothing of its class above."""


def with_attribute(error: Exception, name: str, value: object) -> Exception:
    setattr(error, name, value)
    return error


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (30, timedelta(seconds=30)),
        (0.5, timedelta(seconds=0.5)),
        (timedelta(seconds=9), timedelta(seconds=9)),
        (timedelta.max, MAX_DURATION),
        (1e300, MAX_DURATION),
        (float("nan"), None),
        (float("inf"), None),
        (10**400, None),
        ("soon", None),
        (datetime.now(), None),  # noqa: DTZ005
        (datetime.now(UTC), None),
        (Speechless(), None),
        (None, None),
    ],
)
def test_an_after_that_is_no_duration_leaves_the_backoff_to_decide(after: object, expected: timedelta | None) -> None:
    outcome = failed(error_outcome(with_attribute(Retry("busy"), "after", after)))

    assert (outcome.error, outcome.after, outcome.final) == ("busy", expected, False)


@pytest.mark.parametrize("delay", [float("nan"), "soon", datetime.now(UTC), None])
def test_a_snooze_without_a_usable_delay_is_a_failure_that_says_so(delay: object) -> None:
    assert "Snooze has no usable delay" in failed(error_outcome(with_attribute(Snooze(1), "delay", delay))).error


def test_subclasses_that_never_call_their_class_above_are_what_they_are() -> None:
    assert failed(error_outcome(Bare())).error == "Bare"
    assert "BareSnooze has no usable delay" in failed(error_outcome(BareSnooze())).error


def test_a_delay_given_as_something_else_is_named_where_it_is_given() -> None:
    for wrong in (Retry, Snooze):
        with pytest.raises(TypeError, match=f"{wrong.__name__}: .* a number of seconds or a timedelta, not datetime"):
            wrong(datetime.now(UTC)) if wrong is Snooze else wrong("busy", after=datetime.now(UTC))  # type: ignore[call-arg, arg-type]


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("several", errors)


TWO_S, FIVE_S = timedelta(seconds=2), timedelta(seconds=5)


def test_a_group_of_snoozes_is_a_snooze_by_the_longest_delay() -> None:
    nested = group(Snooze(2, "short"), group(CancelledError(), Snooze(5, "long")))

    assert error_outcome(nested) == Snoozed(delay=FIVE_S, reason="long")


def test_a_reject_anywhere_in_a_group_rejects() -> None:
    outcome = failed(error_outcome(group(Snooze(2), ValueError("x"), group(group(Reject("no such customer"))))))

    assert (outcome.error, outcome.final) == ("no such customer", True)


def test_an_ordinary_error_in_a_group_fails_the_attempt_whatever_asks_for_a_delay_beside_it() -> None:
    outcome = failed(error_outcome(group(Snooze(2), Retry("busy", after=2), ValueError("x"), Retry("late", after=5))))

    assert outcome.error == "3 errors: Retry: busy; ValueError: x; Retry: late"
    assert (outcome.after, outcome.final) == (FIVE_S, False)


def test_retry_on_and_give_up_on_see_what_is_in_a_group() -> None:
    names = failed(error_outcome(group(KeyError("k"), OSError("x")))).names

    assert {"BaseExceptionGroup", "KeyError", "LookupError", "OSError"} <= set(names)


def test_a_single_error_in_a_group_is_told_in_its_own_words() -> None:
    assert failed(error_outcome(group(group(ValueError("boom"))))).error == "boom"


def test_a_group_of_thousands_is_told_in_short() -> None:
    outcome = failed(error_outcome(group(*(ValueError(f"number {n}") for n in range(20_000)))))

    assert outcome.error.startswith("20,000 errors: ValueError: number 0; ")
    assert outcome.error.endswith("and 19,990 more")


def test_a_group_of_cancellations_is_a_handler_that_cancelled_itself() -> None:
    assert failed(error_outcome(group(CancelledError()))).names == ("CancelledError",)


def test_a_group_nested_a_thousand_deep_is_an_outcome() -> None:
    error: BaseException = ValueError("x")
    for _ in range(5000):
        error = group(error)

    assert failed(error_outcome(error)).error == "x"


def test_an_exit_is_told_with_its_code() -> None:
    assert text_of(SystemExit(3)) == "sys.exit(3)"
    assert text_of(SystemExit()) == "sys.exit(None)"


def test_an_endless_text_is_cut() -> None:
    assert len(text_of(ValueError("\ud800" * 10_000_000))) <= MAX_ERROR


def test_a_traceback_is_cut_in_its_middle() -> None:
    try:
        raise ValueError("first\n" + "\n" * 300_000 + "last")
    except ValueError as error:
        lines = traceback_of(error).splitlines()

    assert len(lines) <= MAX_TRACEBACK_LINES + 1
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "last"


class Odd(Failure):
    def __str__(self) -> str:
        return "odd"


@pytest.mark.parametrize(
    ("error", "plain"),
    [
        (Retry("x"), True), (Reject(), True), (Snooze(1), True), (Failure("x"), True),
        (Reject(Speechless()), False), (Odd("x"), False), (Bare(), False), (ValueError("x"), False),
    ],
)  # fmt: skip
def test_only_errors_without_code_of_their_own_are_plain(error: BaseException, plain: bool) -> None:
    assert is_plain(error) is plain


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_daemon_without_file_descriptors_puts_tasks_off_at_no_cost(number: int) -> None:
    lack = OSError(number, "Too many open files")
    rejected = Reject("the file cannot be opened")
    rejected.__cause__ = lack

    text_only = psycopg.OperationalError("connection is bad: could not create socket: Too many open files")
    wrapped = RuntimeError("no order")
    wrapped.__cause__ = text_only

    for error in (lack, rejected, ExceptionGroup("two", [ValueError("x"), lack]), text_only, wrapped):
        outcome = error_outcome(error)
        assert isinstance(outcome, Snoozed)
        assert outcome.delay == timedelta(seconds=1)

    assert isinstance(error_outcome(OSError(errno.ENOENT, "No such file")), Failed)
    assert isinstance(error_outcome(ValueError("Too many open files")), Failed)
