"""``qw status``"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qw.cli.command import needs, verbs
from qw.cli.commands.events import print_relaying, relaying_record
from qw.cli.output.column import Column
from qw.cli.output.records import Output, OutputFormat, record, show_record
from qw.cli.output.text import ago, counted, off_by, printable, span
from qw.clock import clock as database_clock
from qw.core.rights import Right
from qw.core.task.masking import masked_text

if TYPE_CHECKING:
    from qw.client import Client
    from qw.client.health import Overview
    from qw.client.queues import QueueOverview
    from qw.store.workers import WorkerRow

app = verbs()


def _count(name: str) -> Column:
    return Column(title=name, text=lambda queue: f"{getattr(queue.stats, name):,}", right=True, rank=_RANKS[name])


_RANKS = {"pending": 0, "processing": 4, "retrying": 6, "completed": 7, "failed": 3, "cancelled": 8}

QUEUE_COLUMNS: Sequence[Column] = (
    Column(title="queue", text=lambda queue: queue.stats.queue, loose=True, least=24),
    *map(_count, _RANKS),
    Column(title="oldest", text=lambda queue: span(queue.oldest) if queue.oldest else "", rank=5, right=True),
    Column(title="state", text=lambda queue: pause_of(queue), rank=1, loose=True, least=24, is_status=True),
    Column(title="limits", text=lambda queue: str(queue.limits or ""), rank=2, loose=True, least=24),
)

WORKER_COLUMNS: Sequence[Column] = (
    Column(title="worker", text=lambda worker: str(worker.id), right=True),
    Column(title="host", text=lambda worker: f"{worker.host}:{worker.pid}", rank=2),
    Column(title="queues", text=lambda worker: ", ".join(worker.queues) or "all", rank=3),
    Column(title="running", text=lambda worker: f"{worker.running:,}", right=True),
    Column(title="slots", text=lambda worker: slots_of(worker), rank=4),
    Column(title="up", text=lambda worker: span(database_clock.now() - worker.started_at), rank=5, right=True),
    Column(title="seen", text=lambda worker: ago(worker.seen_at), rank=1, right=True),
    Column(title="clock", text=lambda worker: off_by(worker.skew), rank=6, loose=True),
    Column(title="state", text=lambda worker: state_of(worker), loose=True, rank=1),
)

_FAILURE_COLUMNS: Sequence[Column] = (
    Column(title="type", text=lambda failure: failure.type, loose=True, least=24),
    Column(title="failed", text=lambda failure: f"{failure.failed:,}", right=True),
    Column(title="last", text=lambda failure: ago(failure.last_at), rank=2, right=True),
    Column(title="error", text=lambda failure: masked_text(failure.last_error), rank=1, loose=True),
)


_LATE_COLUMNS: Sequence[Column] = (
    Column(title="schedule", text=lambda late: late[0]),
    Column(title="late", text=lambda late: span(late[1]), right=True),
)


@app.command(cls=needs(Right.READ), epilog="Example: qw status")
def status(output: Output = OutputFormat.TABLE) -> None:
    """Show queues, workers, failures of the last day, late schedules and the broker."""
    from qw.cli.session import with_client

    overview = with_client(_overview)
    if output is OutputFormat.TABLE:
        _print(overview)
    else:
        show_record(as_record(overview), output)


async def _overview(client: Client) -> Overview:
    return await client.health.overview()


def as_record(overview: Overview) -> dict[str, Any]:
    """Return *overview* as JSON for programs, with stable names."""
    return {
        "queues": [queue_record(queue) for queue in overview.queues],
        "workers": record(overview.workers),
        "failures": record(overview.failures),
        "late_schedules": [{"schedule": name, "late_seconds": late.total_seconds()} for name, late in overview.late],
        "events": relaying_record(overview.relaying),
    }


def queue_record(queue: QueueOverview) -> dict[str, Any]:
    return {
        **record(queue.stats),
        "is_paused": queue.pause is not None,
        "paused_at": record(queue.pause.paused_at) if queue.pause else None,
        "paused_by": queue.pause.paused_by if queue.pause else None,
        "limits": queue.limits.document() if queue.limits else None,
        "oldest_seconds": queue.oldest.total_seconds() if queue.oldest else None,
    }


def state_of(worker: WorkerRow) -> str:
    return "; ".join(filter(None, ("draining" if worker.draining else "", printable(worker.trouble or ""))))


def slots_of(worker: WorkerRow) -> str:
    return ", ".join(f"{size} {kind}" for kind, size in worker.slots.items())


def pause_of(queue: QueueOverview) -> str:
    """Return ``paused 3 m ago by zoe@host``, or an empty text if the queue is not paused."""
    if queue.pause is None:
        return ""
    by = f" by {queue.pause.paused_by}" if queue.pause.paused_by else ""
    return f"paused {ago(queue.pause.paused_at)}{by}"


def _print(overview: Overview) -> None:
    from qw.cli.output.tables import print_table
    from qw.store.tasks import MOST_FAILURES

    if overview.queues:
        print_table(QUEUE_COLUMNS, overview.queues)
    else:
        print("no tasks yet; enqueue one with: qw enqueue noop")
    print()
    if overview.workers:
        print_table(WORKER_COLUMNS, overview.workers)
    else:
        print(_lonely(overview))
    if overview.failures:
        print()
        print_table(_FAILURE_COLUMNS, overview.failures)
        if overview.more_failed:
            print(f"only the last {MOST_FAILURES:,} failed tasks are counted here")
    if overview.late:
        print()
        print_table(_LATE_COLUMNS, overview.late)
    if overview.relaying.relays or overview.relaying.unpublished or overview.relaying.blocked.count:
        print()
        print_relaying(overview.relaying)


def _lonely(overview: Overview) -> str:
    waiting = sum(queue.stats.pending + queue.stats.retrying for queue in overview.queues)
    waits = f" and {counted(waiting, 'task')} {'waits' if waiting == 1 else 'wait'}" if waiting else ""
    return printable(f"no worker is running{waits}; start one: qw daemon")
