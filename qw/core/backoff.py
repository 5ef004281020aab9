"""The pause between tries of an operation that failed. For the delay between attempts of a task see `qw.core.task`."""

from __future__ import annotations


def backoff_seconds(failures: int, *, first: float, longest: float, chance: float = 1.0) -> float:
    """Return the pause after this number of consecutive failures: *first* seconds after one, doubling up to *longest*.

    *chance*, from 0 to 1, adds jitter: the pause is half as long at 0 and full at 1.
    """
    pause = min(first * 2.0 ** min(failures - 1, 30), longest)
    return pause * (0.5 + chance / 2)
