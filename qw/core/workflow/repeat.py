"""``repeat:`` of a step: it runs in rounds, until or while a condition holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from qw.core.expression import Condition, Scope
from qw.core.fields import DURATION, POSITIVE_DURATION, Field, Object, integer, number
from qw.core.workflow.conditions import CONDITION

MAX_ROUNDS = 100_000
DEFAULT_ROUNDS = 100
MAX_FACTOR = 100


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """The condition and timing of the rounds. The condition reads ``result`` and ``round`` of the last round.

    ``until`` is evaluated after each round, ``while_`` before each; one of them is None. ``timeout`` counts from the
    start of the first round: no round starts after it.
    """

    until: Condition | None = None
    while_: Condition | None = None
    delay: timedelta = timedelta(0)
    factor: float = 1.0
    max_delay: timedelta = timedelta(hours=1)
    max: int = DEFAULT_ROUNDS
    timeout: timedelta | None = None

    @property
    def condition(self) -> Condition:
        condition = self.until or self.while_
        assert condition is not None
        return condition

    @property
    def title(self) -> str:
        return f"{'until' if self.until else 'while'} {self.condition.expression.source}"

    def goes_on(self, scope: Scope) -> bool:
        """Whether another round follows. Raise ExpressionError."""
        return self.condition.holds(scope) is (self.until is None)

    def delay_after(self, rounds: int) -> timedelta:
        """Return the time between round number *rounds* (the first is 1) and the next."""
        seconds = self.delay.total_seconds() * self.factor ** min(rounds - 1, 64)
        return timedelta(seconds=min(seconds, max(self.max_delay, self.delay).total_seconds()))


_USUAL = Repeat()
_NEEDS_ONE = "needs until: (a condition after each round) or while:, one of them"
REPEAT = Object(
    "repeat",
    {
        "until": Field(CONDITION, "Condition after each round; if true, the step is completed", null=False),
        "while": Field(CONDITION, "Condition before each round; if false, the step is completed", null=False),
        "delay": Field(DURATION, "Time between two rounds", default=_USUAL.delay),
        "backoff": Field(
            number(1, MAX_FACTOR), "Factor by which the delay grows with each round", default=_USUAL.factor
        ),
        "max_delay": Field(DURATION, "Maximum delay", default=_USUAL.max_delay),
        "max": Field(integer(1, MAX_ROUNDS), "Maximum number of rounds", default=_USUAL.max),
        "timeout": Field(POSITIVE_DURATION, "Time after which no further round starts"),
    },
    ref="repeat",
    one_of=(("until", "while"), _NEEDS_ONE),
)


def _repeat(said: dict[str, Any]) -> Repeat | None:
    until, while_, factor = said.pop("until"), said.pop("while"), float(said.pop("backoff"))
    return Repeat(until=until, while_=while_, factor=factor, **said) if until or while_ else None


REPEATED = REPEAT.to(_repeat)

__all__ = ["MAX_ROUNDS", "REPEAT", "REPEATED", "Repeat"]
