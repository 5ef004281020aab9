"""``run_if``: the outcomes of the needed steps for which a step starts."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, StrEnum, auto


class RunIf(StrEnum):
    """The values of ``run_if``. A failure under ``continue_on_error`` counts as completed for ALL_COMPLETED only."""

    ALL_COMPLETED = "all_completed"
    ANY_COMPLETED = "any_completed"
    NONE_FAILED = "none_failed"
    ALL_DONE = "all_done"
    ANY_FAILED = "any_failed"


class Need(Enum):
    """The state of a needed step. OPEN: it has not ended, or a step that it needs is repeated."""

    OPEN = auto()
    COMPLETED = auto()
    FAILED = auto()  # a tolerated failure; any other fails the run
    SKIPPED = auto()


class Join(Enum):
    WAIT = auto()
    START = auto()
    SKIP = auto()


def join(run_if: RunIf, needs: Sequence[Need]) -> Join:
    """Return whether a step with these needs waits, starts or is skipped.

    START and SKIP are definite: the other needs cannot change them.
    """
    is_open = Need.OPEN in needs
    match run_if:
        case RunIf.ALL_COMPLETED:
            if Need.SKIPPED in needs:
                return Join.SKIP
            return Join.WAIT if is_open else Join.START
        case RunIf.ANY_COMPLETED:
            is_met, is_early = Need.COMPLETED in needs, True
        case RunIf.ANY_FAILED:
            is_met, is_early = Need.FAILED in needs, True
        case RunIf.NONE_FAILED:
            if Need.FAILED in needs:
                return Join.SKIP
            is_met, is_early = Need.COMPLETED in needs, False
        case RunIf.ALL_DONE:
            is_met, is_early = True, False
    if is_open and not (is_met and is_early):
        return Join.WAIT
    return Join.START if is_met else Join.SKIP
