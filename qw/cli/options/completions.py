"""Shell completions from the database: ids with descriptions of their tasks, names of queues, workflows and more.

They must be fast and silent: no server is started, and if the database does not answer at once, nothing is offered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qw.store.completion import Names

Offers = Sequence[tuple[str, str]]  # words with their descriptions

_LIVE = ("pending", "processing", "retrying")
_FINAL = ("completed", "failed", "cancelled")
_ANY = (*_LIVE, *_FINAL)
_STATUSES = {
    **dict.fromkeys(("cancel", "move", "edit", "wait"), _LIVE),
    **dict.fromkeys(("requeue", "forget", "remove"), _FINAL),
    "retry": ("failed", "cancelled", "retrying"),
    "compensate": ("completed",),
}
_RUN_STATUSES = {
    **dict.fromkeys(("cancel", "signal", "approve", "reject"), ("running",)),
    **dict.fromkeys(("retry", "compensation-done"), ("failed",)),
}
_ANY_RUN = ("pending", "running", *_FINAL)
_LONGEST = 60  # characters of a description
_MAY_BE_SECRET = re.compile(r"(?i)\S*(pass|token|secret|key|auth|://[^/\s]*@).*", re.DOTALL)


def task_ids(ctx: Any, incomplete: str) -> Offers:
    """Return the tasks that the command can act on, newest first."""
    rows = _rows("tasks", incomplete, statuses=_STATUSES.get(ctx.info_name, _ANY))
    return [(id, _about(status, type, words)) for id, status, type, words in rows]


def run_ids(ctx: Any, incomplete: str) -> Offers:
    """Return the runs that the command can act on, newest first."""
    rows = _rows("runs", incomplete, statuses=_RUN_STATUSES.get(ctx.info_name, _ANY_RUN))
    return [(id, f"{status} {workflow}") for id, status, workflow in rows]


def ids(ctx: Any, incomplete: str) -> Offers:
    """Return tasks and runs."""
    return [*task_ids(ctx, incomplete), *run_ids(ctx, incomplete)]


def runs_or_workflows(ctx: Any, incomplete: str) -> Offers:
    return [*workflow_names(incomplete), *run_ids(ctx, incomplete)]


def queue_names(incomplete: str) -> Offers:
    return _named("queues", incomplete)


def type_names(incomplete: str) -> Offers:
    return _named("types", incomplete)


def workflow_names(incomplete: str) -> Offers:
    return _named("workflows", incomplete)


def schedule_names(incomplete: str) -> Offers:
    return _named("schedules", incomplete)


def worker_ids(incomplete: str) -> Offers:
    return _named("workers", incomplete)


def statuses(incomplete: str) -> Offers:
    before, comma, last = incomplete.rpartition(",")
    return [(f"{before}{comma}{status}", "") for status in (*_ANY, "suspended") if status.startswith(last)]


def run_statuses(incomplete: str) -> Offers:
    return [(status, "") for status in _ANY_RUN if status.startswith(incomplete)]


def _named(names: Names, incomplete: str) -> Offers:
    return [(name, about) for name, about in _rows(names, incomplete)]


def _about(status: str, type: str, words: str) -> str:
    """Return a short description of a task, leaving out text that may be a secret."""
    shown = _MAY_BE_SECRET.sub("…", " ".join(words.split()))
    return f"{status} {type} {shown}".strip()[:_LONGEST]


def _rows(names: Names, incomplete: str, *, statuses: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Return the rows whose first field begins with *incomplete*."""
    from qw.store.completion import rows

    try:
        url = _url()
        if url is None:
            return []
        low, high = _bounds(incomplete)
        params = {"start": incomplete, "low": low, "high": high, "statuses": ",".join(statuses)}
        answer = rows(url, names, params)
    except Exception:  # any error text would be written into the user's command line
        return []
    return [row for row in answer if row[0].startswith(incomplete)]


def _bounds(incomplete: str) -> tuple[str, str]:
    """Return the first and the last id that begin with *incomplete*; if it is no prefix of an id, the bounds of all
    ids.
    """
    digits = incomplete.replace("-", "").lower()
    if not re.fullmatch("[0-9a-f]{0,32}", digits):
        digits = ""
    return digits.ljust(32, "0"), digits.ljust(32, "f")


def _url() -> str | None:
    from qw.cli.settings import load_settings, running_url

    return running_url(load_settings())
