"""The lines above the queues: problems, rates of incoming and finished tasks, and the last hour as a sparkline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from qw.cli.output.text import counted, printable
from qw.core.history import SHARES
from qw.core.task.measure import ALL_QUEUES

if TYPE_CHECKING:
    from qw.client.health import Glance
    from qw.core.health import HealthProblem

_BARS = "▁▂▃▄▅▆▇█"
_PROBLEMS = 2  # shown on lines of their own
_NARROW = 60  # cells; below, the sparkline shows fewer minutes


def overview_lines(glance: Glance, width: int) -> list[Text]:
    """Return at most five lines of at most *width* cells."""
    lines = [*_health(glance.problems), _rates(glance)]
    rates = glance.rates.get(ALL_QUEUES)
    if rates is not None:
        recent = rates.recent[-max(width - 22, _NARROW - 22) :]
        lines.append(Text.assemble(("ended per minute ", "bold"), (sparkline(recent), "cyan"), f" {max(recent):,}"))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def _health(problems: Sequence[HealthProblem]) -> list[Text]:
    if not problems:
        return [Text("All good", style="green")]
    lines = []
    for problem in problems[:_PROBLEMS]:
        style = "red" if problem.severity == "error" else "yellow"
        lines.append(Text.assemble((printable(problem.text), style), (f"; {printable(problem.advice)}", "")))
    if len(problems) > _PROBLEMS:
        lines[-1].append(f" (and {counted(len(problems) - _PROBLEMS, 'more problem')})")
    return lines


def _rates(glance: Glance) -> Text:
    rates, workers = glance.rates.get(ALL_QUEUES), len(glance.overview.workers)
    text = Text(counted(workers, "worker"))
    if rates is not None:
        text.append(f" · per minute: {rates.enqueued:,.0f} in, {rates.ended:,.0f} out, ")
        text.append(f"{rates.failed:,.0f} failed", style="red" if rates.failed >= 1 else "")
    waits = [f"{name} {_seconds(wait)}" for name in SHARES if (wait := glance.waits.get(name)) is not None]
    if waits:
        text.append(f" · wait {', '.join(waits)}")
    return text


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def sparkline(numbers: Sequence[int]) -> str:
    """Return a bar for each number, full height for the largest; a space for zero."""
    most = max(numbers, default=0)
    return "".join(" " if not n else _BARS[max((n * len(_BARS) + most - 1) // most - 1, 0)] for n in numbers)
