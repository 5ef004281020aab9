"""Converts the return value or exception of a handler to the outcome of its attempt.

Functions here call methods of users' objects, which may raise anything or take any time, unless `is_plain` or
``plain_only`` says otherwise. The caller must catch all errors and enforce a time limit.

An exception group counts as the errors in it, at any depth: a `Reject` rejects the task; else any other error, or a
`Retry`, fails the attempt (with the longest ``after``); if all are `Snooze`, the task is snoozed with the longest
delay. Cancellations beside other errors are ignored.

If the process has no file descriptors left, the daemon is at fault and not the task, so the task is snoozed.
"""

from __future__ import annotations

import errno
import math
import traceback
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice

import orjson

from qw.core.duration import MAX_DURATION
from qw.core.errors import Invalid
from qw.core.task.checkpoint import Suspend, together
from qw.core.task.ending import COMPLETED, Completed, Failed, Snoozed, Suspended
from qw.core.task.error_kind import is_kind, kind_of
from qw.core.task.handler_api import Failure, Misfit, Reject, Retry, Snooze
from qw.core.task.payload import MAX_RESULT, NotPlain, ResultTooLarge, clean, clean_error

MAX_TRACEBACK_LINES = 1000
NO_FILES = "the daemon has too many open files to run this now"
NO_FILES_PAUSE = timedelta(seconds=1)
_CAUSES = 20  # the most causes of an error that are examined
_FRAMES = 200  # the innermost frames of each traceback
_SHOWN = 10  # the most errors of a group whose messages are included
_SAID_ON_PURPOSE = (Failure, Misfit, Reject, Retry, Snooze, Suspend)
_PLAIN_ARGUMENTS = frozenset({str, int, float, bool, type(None)})


def result_outcome(result: object, *, plain_only: bool = False) -> Completed | Failed:
    """Return Completed, or Failed if the result cannot be stored: final, unless a method of the value raised.

    Raise NotPlain, see `clean`.
    """
    if result is None:
        return COMPLETED
    try:
        value = clean(result, limit=MAX_RESULT, plain_only=plain_only)
        size = len(orjson.dumps(value))
    except ResultTooLarge as error:
        return Failed(error=str(error), names=("ResultTooLarge",), final=True)
    except Invalid as error:
        return Failed(error=str(error), names=("Invalid",), final=True)
    except RecursionError:
        return Failed(error="the result is nested too deeply", names=("Invalid",), final=True)
    except NotPlain:
        raise
    except BaseException as error:
        text = f"the result, {class_name(result)}, cannot be stored: {class_name(error)}: {text_of(error)}"
        return Failed(error=clean_error(text), names=names_of(error))
    if size > MAX_RESULT:
        text = f"the result has {size:,} bytes; at most {MAX_RESULT:,} are stored"
        return Failed(error=f"{text}; store it elsewhere and return a reference", names=("ResultTooLarge",), final=True)
    return Completed(result=value)


def error_outcome(error: BaseException) -> Failed | Snoozed | Suspended:
    """Return the outcome of an attempt whose handler raised *error*."""
    errors = [inner for inner in _flattened(error) if not _is_cancellation(inner)]
    if any(_is_lack_of_files(inner) for inner in errors):
        return Snoozed(delay=NO_FILES_PAUSE, reason=NO_FILES)
    suspends = [inner for inner in errors if isinstance(inner, Suspend)]
    if suspends and len(suspends) == len(errors):
        suspend = together(suspends)
        return Suspended(waits=suspend.waits, needs_all=suspend.needs_all, new=suspend.new)
    errors = [inner for inner in errors if not isinstance(inner, Suspend)]
    rejected = [inner for inner in errors if isinstance(inner, Reject) and not isinstance(inner, Misfit)]
    snoozed = [inner for inner in errors if isinstance(inner, Snooze)]
    if rejected:
        return Failed(error=_texts(rejected), names=_names((error, *rejected)), kind=_kind(rejected), final=True)
    if errors and len(snoozed) == len(errors):
        return _snoozed(snoozed)
    if not errors:
        return Failed(error="the handler cancelled itself", names=("CancelledError",))
    failed = [inner for inner in errors if not isinstance(inner, Snooze)]
    after = [pause for inner in failed if isinstance(inner, Retry) and (pause := _duration(inner, "after")) is not None]
    return Failed(
        error=_texts(failed),
        names=_names((error, *failed)),
        kind=_kind(failed),
        after=max(after, default=None),
        outcome="misfit" if isinstance(error, Misfit) else "error",
    )


def is_cancelled(error: BaseException) -> bool:
    """Whether the error is a cancellation, or a group of cancellations only."""
    return all(_is_cancellation(inner) for inner in _flattened(error))


def is_plain(error: BaseException) -> bool:
    """Whether `error_outcome` calls no code of the error's own class, and the error needs no traceback."""
    return (type(error) in _SAID_ON_PURPOSE or (isinstance(error, Failure) and _has_usual_text(error))) and all(
        type(argument) in _PLAIN_ARGUMENTS for argument in error.args
    )


def is_explained(error: BaseException) -> bool:
    """Whether the message of the error is complete, so that no traceback is stored."""
    return all(isinstance(inner, _SAID_ON_PURPOSE) for inner in _flattened(error))


def traceback_of(error: BaseException) -> str:
    """Return the traceback; the middle of a long one is cut out."""
    text = clean_error("".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-_FRAMES)))
    lines = text.splitlines()
    if len(lines) <= MAX_TRACEBACK_LINES:
        return text
    half = MAX_TRACEBACK_LINES // 2
    left_out = f"… {len(lines) - 2 * half:,} lines left out …"
    return "\n".join([*lines[:half], left_out, *lines[-half:]])


def failure_of(error: BaseException, what: str) -> Failed:
    """Return a failure with only the class name of the error: the fallback if nothing else can be read from it."""
    return Failed(error=f"{what}: {class_name(error)}", names=names_of(error))


def text_of(error: BaseException) -> str:
    """Return the message of the error, or its class name if the message is empty or cannot be read."""
    if isinstance(error, SystemExit):
        return _text_of_exit(error)
    try:
        return clean_error(str(error)) or class_name(error)
    except BaseException:
        return class_name(error)


def class_name(value: object) -> str:
    return str(type.__getattribute__(type(value), "__name__"))


def names_of(error: BaseException) -> tuple[str, ...]:
    """Return the names of the error's class and its base classes, most specific first."""
    return tuple(str(kind.__name__) for kind in _mro(error) if kind is not object)


def _flattened(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors that are not groups, in order. Uses a stack, because groups can be nested without limit."""
    stack = [error]
    while stack:
        top = stack.pop()
        if isinstance(top, BaseExceptionGroup):
            stack += reversed(top.exceptions)
        else:
            yield top


def _is_cancellation(error: BaseException) -> bool:
    return any(kind.__name__ == "CancelledError" and kind.__module__ == "asyncio.exceptions" for kind in _mro(error))


_TEXT_ONLY = frozenset({"OSError", "OperationalError", "InterfaceError"})
"""Exception classes with the message of a C library (name resolution, libpq) but without its errno."""


def _is_lack_of_files(error: BaseException) -> bool:
    """Whether the error, or one of its causes, says that no more files can be opened."""
    cause: BaseException | None = error
    for _ in range(_CAUSES):
        if cause is None:
            return False
        if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
            return True
        if _TEXT_ONLY.intersection(kind.__name__ for kind in _mro(cause)) and "Too many open files" in text_of(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _mro(error: BaseException) -> list[type]:
    return type.mro(type(error))


def _texts(errors: Sequence[BaseException]) -> str:
    if len(errors) == 1:
        return text_of(errors[0])
    told = [f"{class_name(error)}: {text_of(error)}" for error in islice(errors, _SHOWN)]
    more = f"; and {len(errors) - _SHOWN:,} more" if len(errors) > _SHOWN else ""
    return clean_error(f"{len(errors):,} errors: {'; '.join(told)}{more}")


def _names(errors: Iterable[BaseException]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for error in errors for name in names_of(error)))


def _kind(errors: Sequence[BaseException]) -> str:
    """Return the kind of the first error: the one it sets, if it is an exception of qw, else that of its class."""
    error = errors[0]
    said = getattr(error, "kind", "") if isinstance(error, (Failure, Reject, Retry)) else ""
    return said if is_kind(said) else kind_of(names_of(error))


def _snoozed(errors: Sequence[BaseException]) -> Failed | Snoozed:
    delays = [_duration(error, "delay") for error in errors]
    known = [delay for delay in delays if delay is not None]
    if not known:
        text = f"{class_name(errors[0])} has no usable delay: it must be a timedelta or a finite number of seconds"
        return Failed(error=text, names=_names(errors))
    longest = max(known)
    error = errors[delays.index(longest)]
    return Snoozed(delay=max(timedelta(0), longest), reason=_reason(error))


def _reason(error: BaseException) -> str:
    try:
        return clean_error(str(error.reason)) or "snoozed"  # type: ignore[attr-defined]
    except BaseException:
        return "snoozed"


def _duration(error: BaseException, name: str) -> timedelta | None:
    """Return the attribute as a duration, at most MAX_DURATION; None if it is missing or not a duration."""
    try:
        value = getattr(error, name, None)
        if isinstance(value, timedelta):
            return min(timedelta(value.days, value.seconds, value.microseconds), MAX_DURATION)
        if isinstance(value, int | float) and math.isfinite(value):
            longest = MAX_DURATION.total_seconds()
            return timedelta(seconds=max(-longest, min(value, longest)))
    except BaseException:
        return None
    return None


def _text_of_exit(error: SystemExit) -> str:
    try:
        return clean_error(f"sys.exit({error.code!r})")
    except BaseException:
        return "sys.exit()"


def _has_usual_text(error: BaseException) -> bool:
    return type(error).__str__ is BaseException.__str__
