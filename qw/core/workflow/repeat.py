"""``repeat:`` of a step: it is done round after round, until a condition holds or while one does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from qw.core.duration import MAX_DURATION
from qw.core.errors import Fault
from qw.core.expression import Condition, Scope
from qw.core.parsing import below, mapping, refuse_unknown
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.conditions import parse_condition
from qw.core.workflow.retry_policy import duration

MAX_ROUNDS = 100_000
DEFAULT_ROUNDS = 100
MAX_FACTOR = 100

KEYS = ("until", "while", "delay", "backoff", "max_delay", "max", "timeout")


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """How often and how fast a step is repeated. Its condition reads ``result`` and ``round``, those of the last round.

    ``until`` is asked after each round, ``while_`` before each; one of them is None. ``timeout`` counts from the start
    of the first round: none begins after it.
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
        """Whether another round is due. Raise ExpressionError."""
        return self.condition.holds(scope) is (self.until is None)

    def delay_after(self, rounds: int) -> timedelta:
        """The time between a round, the first is 1, and the next."""
        seconds = self.delay.total_seconds() * self.factor ** min(rounds - 1, 64)
        return timedelta(seconds=min(seconds, max(self.max_delay, self.delay).total_seconds()))


def parse_repeat(document: JsonObject, path: str, faults: list[Fault]) -> Repeat | None:
    """How *document* is repeated, None when it is done once. Adds to *faults*."""
    if document.get("repeat") is None:
        return None
    given, path = mapping(document, "repeat", path, faults), below(path, "repeat")
    refuse_unknown(given, KEYS, path, "repeat", faults)
    until, while_ = (parse_condition(given.get(key), below(path, key), faults) for key in ("until", "while"))
    if len([key for key in ("until", "while") if given.get(key) is not None]) != 1:
        faults.append(Fault(path=path, message="needs until: (a condition after each round) or while:, one of them"))
    if until is None and while_ is None:
        return None
    usual = Repeat(until=until, while_=while_)
    delay, max_delay, timeout = (duration(given, key, path, faults) for key in ("delay", "max_delay", "timeout"))
    if timeout == timedelta(0):
        faults.append(Fault(path=below(path, "timeout"), message="must be greater than 0"))
    return Repeat(
        until=until,
        while_=while_,
        delay=usual.delay if delay is None else min(delay, MAX_DURATION),
        factor=_factor(given.get("backoff", usual.factor), below(path, "backoff"), faults),
        max_delay=usual.max_delay if max_delay is None else max_delay,
        max=_max(given.get("max", usual.max), below(path, "max"), faults),
        timeout=timeout,
    )


def _factor(value: Json, path: str, faults: list[Fault]) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= MAX_FACTOR:
        return float(value)
    faults.append(Fault(path=path, message=f"must be a number from 1 to {MAX_FACTOR}, not {str(value)[:60]!r}"))
    return 1.0


def _max(value: Json, path: str, faults: list[Fault]) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_ROUNDS:
        return value
    faults.append(Fault(path=path, message=f"must be an integer from 1 to {MAX_ROUNDS:,}, not {str(value)[:60]!r}"))
    return DEFAULT_ROUNDS


__all__ = ["MAX_ROUNDS", "Repeat", "parse_repeat"]
