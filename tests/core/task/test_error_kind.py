"""Kinds of errors: how they are called, and which patterns they match."""

from __future__ import annotations

from pathlib import Path

import pytest

from qw.core.task.ending import Cancelled, Failed, Outcome, WorkerDied, WorkerSilent, end
from qw.core.task.error_kind import ERROR_KINDS, code_of, kind_of, matches, pattern_fault
from qw.core.task.handler_api import Failure, Misfit, Reject, Retry
from qw.core.task.outcome import error_outcome
from qw.core.task.task import Backoff, Policy, Status
from qw.handlers.command import CommandFailed, CommandTimedOut

DOCS = Path(__file__).parents[3] / "docs" / "workflows.md"


def ending(outcome: Outcome, **backoff: tuple[str, ...]) -> tuple[Status, str | None]:
    policy = Policy(max_retries=3, backoff=Backoff(**backoff), timeout=None)  # type: ignore[arg-type]  # two of its fields
    ended = end(outcome, retries=0, crashes=0, policy=policy, chance=0.5)
    return ended.status, ended.kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (CommandFailed(75, "x"), "exit:75"),
        (CommandTimedOut("x"), "timeout"),
        (TimeoutError(), "timeout"),
        (ConnectionResetError(), "connection"),
        (Misfit("x"), "invalid"),
        (Reject("x"), "rejected"),
        (Reject("x", kind="card:declined"), "card:declined"),
        (Retry("x", kind="http:503"), "http:503"),
        (Failure("x", kind="no kind!"), "Failure"),
        (KeyError("x"), "KeyError"),
        (ExceptionGroup("x", [KeyError("x"), TimeoutError()]), "KeyError"),
    ],
)
def test_an_error_has_a_kind(error: BaseException, kind: str) -> None:
    outcome = error_outcome(error)

    assert isinstance(outcome, Failed)
    assert ending(outcome)[1] == kind


def test_what_no_handler_raised_has_a_kind_too() -> None:
    assert ending(WorkerDied(worker=1)) == (Status.PENDING, "crash")
    assert ending(WorkerSilent(worker=1)) == (Status.PENDING, "lost")
    assert ending(Cancelled()) == (Status.CANCELLED, "cancelled")
    assert kind_of(["ConnectTimeout", "TimeoutException", "TransportError"]) == "timeout"


@pytest.mark.parametrize(
    ("pattern", "kind", "does"),
    [
        ("exit", "exit:1", True),
        ("exit:1", "exit:1", True),
        ("exit:1", "exit:12", False),
        ("http:5xx", "http:503", True),
        ("http:50x", "http:510", False),
        ("http:5xx", "exit:503", False),
        ("exit:1xx", "exit:137", True),
        ("timeout", "timeout", True),
        ("timeout", "TimeoutError", False),
        ("card", "card:declined", True),
        ("OSError", "connection", True),
        ("exit", None, False),
    ],
)
def test_a_pattern_is_a_kind_its_first_word_open_digits_or_a_class(pattern: str, kind: str | None, does: bool) -> None:
    assert matches([pattern], kind, ["ConnectionResetError", "OSError"]) is does


def test_retries_go_by_the_kind() -> None:
    busy, gone = Failed(error="x", kind="http:503"), Failed(error="x", kind="http:404")

    assert ending(busy, retry_on=("http:5xx", "timeout"))[0] is Status.RETRYING
    assert ending(gone, retry_on=("http:5xx", "timeout"))[0] is Status.FAILED
    assert ending(gone, give_up_on=("http:4xx",))[0] is Status.FAILED
    assert ending(busy, give_up_on=("http:4xx",))[0] is Status.RETRYING


def test_a_task_that_must_not_run_twice_gives_up_on_a_crash() -> None:
    assert ending(WorkerDied(worker=1), give_up_on=("crash",)) == (Status.FAILED, "crash")
    assert ending(WorkerSilent(worker=1), give_up_on=("lost",)) == (Status.FAILED, "lost")
    assert ending(WorkerDied(worker=1), retry_on=("timeout",))[0] is Status.PENDING


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("htp:5xx", "is not a kind of error .*did you mean 'http'"),
        ("http:5", "write http:503, http:5xx or http"),
        ("exit:abc", "write exit:75 or exit"),
        ("timeouts", "did you mean 'timeout'"),
        ("not a class", "or an exception class"),
        ("", "or an exception class"),
    ],
)
def test_a_pattern_that_is_none_is_told(pattern: str, message: str) -> None:
    import re

    assert re.search(message, pattern_fault(pattern) or "")


@pytest.mark.parametrize("pattern", ["exit", "http:4xx", "exit:1", "crash", "gaierror", "httpx.ReadError", "card:gone"])
def test_kinds_and_classes_are_patterns(pattern: str) -> None:
    assert pattern_fault(pattern) is None


def test_the_code_is_that_of_an_exit_or_an_answer() -> None:
    assert [code_of(kind) for kind in ("exit:3", "http:404", "timeout", "card:7", None)] == [3, 404, None, None, None]


def test_the_manual_has_the_table_of_kinds() -> None:
    text = DOCS.read_text("utf-8")

    for kind, meaning in ERROR_KINDS.items():
        assert f"| `{kind}` | {meaning} |" in text.replace("`exit:75`", "exit:75").replace("`http:503`", "http:503")
