"""How long to wait before the next try of what failed. Delays between attempts of a task are in `qw.core.task`."""

from __future__ import annotations


def backoff_seconds(failures: int, *, first: float, longest: float, chance: float = 1.0) -> float:
    """*first* seconds after one failure, doubling up to *longest*.

    *chance* from 0 to 1 spreads those that failed together: at 0 the pause is half as long.
    """
    pause = min(first * 2.0 ** min(failures - 1, 30), longest)
    return pause * (0.5 + chance / 2)
