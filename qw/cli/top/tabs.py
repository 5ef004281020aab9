"""The tabs: the rows of each, the page that a row opens, and the actions on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from qw.cli.commands.status import QUEUE_COLUMNS, WORKER_COLUMNS
from qw.cli.commands.worker import show_worker
from qw.cli.output.column import Column
from qw.cli.output.lists import listed_runs, listed_tasks
from qw.cli.output.records import OutputFormat
from qw.cli.output.schedule_views import SCHEDULE_COLUMNS, show_schedule
from qw.cli.output.tree import print_run
from qw.cli.output.views import show_task
from qw.cli.session import myself
from qw.core.task import Status

if TYPE_CHECKING:
    from qw.client import Client
    from qw.core.task.answer import Answers

ROWS = 100  # tasks, and runs, listed at most

Page: TypeAlias = Callable[["Client", str], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The contents of a tab: ``items``, their columns, and ``id_length``, the characters shown of their ids."""

    columns: Sequence[Column]
    items: Sequence[Any]
    id_length: int = 36


@dataclass(frozen=True, kw_only=True)
class Action:
    """An action on the selected row. Question and answer call it ``verb``; ``refusal`` returns why it does not apply
    to a row, or None.
    """

    verb: str
    act: Callable[[Client, Any], Awaitable[None]]
    refusal: Callable[[Any], str | None] = lambda item: None


@dataclass(frozen=True, kw_only=True)
class Tab:
    """One tab. ``name`` identifies a row across refreshes. ``actions`` are by key."""

    title: str
    rows: Callable[[Client, str], Awaitable[Rows]]
    name: Callable[[Any], str]
    page: Page
    noun: str
    actions: Mapping[str, Action] = field(default_factory=dict)
    has_search: bool = False


async def _queues(client: Client, search: str) -> Rows:
    return Rows(columns=QUEUE_COLUMNS, items=await client.queues.all())


async def _tasks(client: Client, search: str) -> Rows:
    _, tasks = await client.search.find(search, limit=ROWS)
    listed = await listed_tasks(client, tasks, OutputFormat.TABLE)
    return Rows(columns=listed.columns, items=listed.items, id_length=listed.id_length)


async def _runs(client: Client, search: str) -> Rows:
    listed = await listed_runs(client, await client.runs.find(limit=ROWS), OutputFormat.TABLE, quiet=False)
    return Rows(columns=listed.columns, items=listed.items, id_length=listed.id_length)


async def _schedules(client: Client, search: str) -> Rows:
    return Rows(columns=SCHEDULE_COLUMNS, items=await client.schedules.page())


async def _workers(client: Client, search: str) -> Rows:
    return Rows(columns=WORKER_COLUMNS, items=await client.workers.all())


async def _task_page(client: Client, id: str) -> None:
    from qw.cli.commands.why import show_why

    await show_task(client, id, OutputFormat.TABLE)
    if not (await client.tasks.get(await client.tasks.resolve(id))).status.is_final:
        print()
        await show_why(client, id, OutputFormat.TABLE)


async def _queue_page(client: Client, name: str) -> None:
    from qw.cli.commands.queue import print_queue, queue_of

    print_queue(await queue_of(client, name))


async def _run_page(client: Client, id: str) -> None:
    print_run(await client.runs.tree(await client.runs.resolve(id)))


async def _schedule_page(client: Client, name: str) -> None:
    await show_schedule(client, name, 10, OutputFormat.TABLE)


async def _worker_page(client: Client, id: str) -> None:
    await show_worker(client, int(id), OutputFormat.TABLE)


def _of_task(verb: str, act: Callable[[Client, Any], Awaitable[Answers]]) -> Callable[..., Awaitable[None]]:
    async def done(client: Client, task: Any) -> None:
        answer = (await act(client, task))[task.id]
        if error := answer.error(verb, task.id):
            raise error

    return done


def _final(item: Any) -> str | None:
    return f"it is {item.status}" if item.status.is_final else None


def _not_failed(item: Any) -> str | None:
    retriable = (Status.FAILED, Status.CANCELLED, Status.RETRYING)
    return None if str(item.status) in retriable else f"it is {item.status}"


async def _pause_queue(client: Client, queue: Any) -> None:
    name = queue.stats.queue
    if queue.pause:
        await client.queues.resume(name)
    else:
        await client.queues.pause(name, by=myself())


async def _pause_schedule(client: Client, stored: Any) -> None:
    if stored.paused_at:
        await client.schedules.resume(stored.name)
    else:
        await client.schedules.pause(stored.name)


async def _retry_run(client: Client, run: Any) -> None:
    await client.runs.retry(run.id, by=myself())


async def _cancel_run(client: Client, run: Any) -> None:
    await client.runs.cancel(run.id, by=myself())


_CANCEL_TASK = _of_task("cancel", lambda client, task: client.tasks.cancel([task.id], running=True))
_RETRY_TASK = _of_task("retry", lambda client, task: client.tasks.retry([task.id]))

TABS: Sequence[Tab] = (
    Tab(
        title="overview",
        rows=_queues,
        name=lambda queue: queue.stats.queue,
        page=_queue_page,
        noun="queue",
        actions={"p": Action(verb="pause or resume", act=_pause_queue)},
    ),
    Tab(
        title="tasks",
        rows=_tasks,
        name=lambda task: str(task.id),
        page=_task_page,
        noun="task",
        actions={
            "r": Action(verb="retry", act=_RETRY_TASK, refusal=_not_failed),
            "c": Action(verb="cancel", act=_CANCEL_TASK, refusal=_final),
        },
        has_search=True,
    ),
    Tab(
        title="runs",
        rows=_runs,
        name=lambda run: str(run.id),
        page=_run_page,
        noun="run",
        actions={
            "r": Action(verb="retry", act=_retry_run, refusal=_not_failed),
            "c": Action(verb="cancel", act=_cancel_run, refusal=_final),
        },
    ),
    Tab(
        title="schedules",
        rows=_schedules,
        name=lambda stored: stored.name,
        page=_schedule_page,
        noun="schedule",
        actions={"p": Action(verb="pause or resume", act=_pause_schedule)},
    ),
    Tab(
        title="workers",
        rows=_workers,
        name=lambda worker: str(worker.id),
        page=_worker_page,
        noun="worker",
    ),
)
