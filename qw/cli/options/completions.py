"""What the shell offers for a word that names something in the database: ids with what they do, queues, workflows …

Fast and silent: nothing is started, and where the database does not answer at once, nothing is offered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from qw.client import Client, Filter

Offers = Sequence[tuple[str, str]]  # words, and what they stand for

_MOST = 50
_SECONDS = 3.0  # for the answer of the database
_LIVE = ("pending", "processing", "retrying")
_STATUSES = {"cancel": _LIVE, "move": _LIVE, "edit": _LIVE, "wait": _LIVE, "retry": ("failed", "cancelled", "retrying"),
             "requeue": ("failed", "cancelled", "completed"), "compensate": ("completed",),
             "forget": ("failed", "cancelled", "completed")}  # fmt: skip
_RUN_STATUSES = {
    **dict.fromkeys(("cancel", "signal", "approve", "reject"), "running"),
    **dict.fromkeys(("retry", "compensation-done"), "failed"),
}


def task_ids(ctx: Any, incomplete: str) -> Offers:
    """Tasks to which the verb applies, the newest first."""
    return _offered(incomplete, lambda client: _tasks(client, incomplete, _STATUSES.get(ctx.info_name, ())))


def run_ids(ctx: Any, incomplete: str) -> Offers:
    """Runs to which the verb applies, the newest first."""
    return _offered(incomplete, lambda client: _runs(client, incomplete, _RUN_STATUSES.get(ctx.info_name)))


def ids(ctx: Any, incomplete: str) -> Offers:
    """Tasks and runs."""

    async def both(client: Client) -> Offers:
        statuses = _STATUSES.get(ctx.info_name, ())
        return [*await _tasks(client, incomplete, statuses), *await _runs(client, incomplete, None)]

    return _offered(incomplete, both)


def runs_or_workflows(ctx: Any, incomplete: str) -> Offers:
    async def both(client: Client) -> Offers:
        return [*await _workflows(client), *await _runs(client, incomplete, None)]

    return _offered(incomplete, both)


def queue_names(incomplete: str) -> Offers:
    return _offered(incomplete, _queues)


def type_names(incomplete: str) -> Offers:
    async def types(client: Client) -> Offers:
        return [(name, "") for name in await client.tasks.types()]

    return _offered(incomplete, types)


def workflow_names(incomplete: str) -> Offers:
    return _offered(incomplete, _workflows)


def schedule_names(incomplete: str) -> Offers:
    return _offered(incomplete, _schedules)


def worker_ids(incomplete: str) -> Offers:
    async def workers(client: Client) -> Offers:
        return [(str(worker.id), f"{worker.host}:{worker.pid}") for worker in await client.workers.all()]

    return _offered(incomplete, workers)


def statuses(incomplete: str) -> Offers:
    from qw.cli.options.values import SUSPENDED
    from qw.client import Status

    before, comma, last = incomplete.rpartition(",")
    return [(f"{before}{comma}{status}", "") for status in (*Status, SUSPENDED) if status.startswith(last)]


def run_statuses(incomplete: str) -> Offers:
    from qw.core.workflow.run import RunStatus

    return [(str(status), "") for status in RunStatus if status.startswith(incomplete)]


def _offered(incomplete: str, look: Callable[[Client], Awaitable[Offers]]) -> Offers:
    import asyncio

    try:
        import qw.cli.output.lists
        import qw.client
        import qw.store.pool  # noqa: F401 (what takes long to import is not what the database takes)

        found = asyncio.run(asyncio.wait_for(_looked_up(look), _SECONDS))
    except Exception:  # of whatever kind: it would be written into a command line
        return []
    return [offer for offer in found if offer[0].startswith(incomplete)]


async def _looked_up(look: Callable[[Client], Awaitable[Offers]]) -> Offers:
    from qw.cli.session import load_settings, running_url
    from qw.client import Client

    url = running_url(load_settings())
    if url is None:
        return []
    async with Client(url, size=1, name="qw completion") as client:
        return await look(client)


async def _tasks(client: Client, incomplete: str, wanted: Sequence[str]) -> Offers:
    from qw.cli.output.lists import describe
    from qw.client import Filter, Status

    matches = [Filter(status=Status(status)) for status in wanted] or [Filter()]
    found = [task for match in matches for task in await _page(client, match, incomplete)]
    names = await client.runs.workflow_names({task.run_id for task in found if task.run_id})
    found = sorted(found, key=lambda task: task.id, reverse=True)[:_MOST]
    return [(str(task.id), f"{task.status} {task.type} {describe(task, names)}".strip()[:60]) for task in found]


async def _page(client: Client, match: Filter, incomplete: str) -> Any:
    return await client.tasks.find(match, limit=_MOST, before=_last(incomplete))


async def _runs(client: Client, incomplete: str, status: str | None) -> Offers:
    from qw.core.workflow.run import RunStatus

    wanted = RunStatus(status) if status else None
    found = await client.runs.find(status=wanted, limit=_MOST, before=_last(incomplete))
    return [(str(run.id), f"{run.status} {run.workflow}") for run in found]


def _last(incomplete: str) -> UUID:
    """The last id that may begin with *incomplete*."""
    from qw.core.ids import prefix_of

    return UUID((prefix_of(incomplete) or "").ljust(32, "f"))


async def _queues(client: Client) -> Offers:
    return [(queue.stats.queue, f"{queue.stats.pending:,} pending") for queue in await client.queues.all()]


async def _workflows(client: Client) -> Offers:
    return [(workflow.name, "") for workflow in await client.workflows.all()]


async def _schedules(client: Client) -> Offers:
    from qw.core.errors import Invalid
    from qw.core.schedule.describe import describe

    offers = []
    for stored in await client.schedules.page():
        try:
            offers.append((stored.name, describe(stored.schedule)))
        except Invalid:
            offers.append((stored.name, ""))
    return offers
