"""Metrics in Prometheus' text format, read from small tables and running counts. Labels contain no ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from qw import __version__
from qw.client import Client
from qw.config import Settings
from qw.core.task import Status, measure
from qw.core.task.measure import BOUNDS, Measure
from qw.store.overview import Gauges
from qw.store.schedules import ScheduleStats
from qw.store.tasks import QueueStats
from qw.store.workers import WorkerRow

MEDIA = "text/plain; version=0.0.4; charset=utf-8"

_FINAL = [status.value for status in Status if status.is_final]
# Counters of these results are there, with 0, once a type has run in a queue: Prometheus sees no increase in a counter
# that begins with 1.
_ALWAYS = (*_FINAL, measure.LOST)

Requests = Mapping[tuple[str, str, int], int]  # by method, route and status


async def exposition(client: Client, settings: Settings, requests: Requests) -> bytes:
    completed, failed = settings.retention_completed, settings.retention_failed
    stats, workers = await client.queues.stats(), await client.workers.all()
    types = sorted({type for worker in workers for type in worker.types})
    families = [
        *_queues(stats),
        *_workers(workers),
        _serving(workers, [queue.queue for queue in stats]),
        *_gauges(await client.health.gauges()),
        _behind(await client.health.retention_behind(completed=completed, failed=failed)),
        *_attempts(await client.health.attempt_measures(), types),
        *_schedules(await client.health.schedule_measures()),
        *_http(requests),
    ]
    registry = CollectorRegistry()
    registry.register(_Found(families))
    return generate_latest(registry)


class _Found(Collector):
    """A collector of metrics that were already read."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, labels=labels)


def _queues(stats: list[QueueStats]) -> Iterator[Metric]:
    tasks = _gauge("qw_queue_tasks", "Number of tasks by queue and state.", "queue", "state")
    for queue in stats:
        for status in Status:
            tasks.add_metric([queue.queue, status.value], getattr(queue, status.value))
    yield tasks
    dead = _gauge("qw_dead_tasks", "Number of failed tasks.")
    dead.add_metric([], sum(queue.failed for queue in stats))
    yield dead
    enqueued = _counter("tasks_enqueued", "Tasks enqueued.", "queue")
    for queue in stats:
        enqueued.add_metric([queue.queue], queue.enqueued)
    yield enqueued


def _attempts(measures: list[Measure], types: Iterable[str]) -> Iterator[Metric]:
    """Yield the measurements of daemons. Counts of task outcomes use only the final attempts among them.

    *types*: those that running workers serve.
    """
    waited = _histogram(measure.WAIT, "Time from when a task was due until its handler started, in seconds.")
    ran = _histogram(measure.RUN, "Handler run time, in seconds.")
    attempts = _counter(measure.ATTEMPTS, "Attempts ended, by result.", "queue", "type", "result")
    completed = _counter("tasks_completed", "Tasks finished.", "queue", "type", "outcome")
    rescued = _counter(measure.RESCUED, "Tasks rescued from dead workers.", "type")
    results: dict[tuple[str, ...], int] = {}  # attempts by queue, type and result
    rescues = dict.fromkeys(types, 0)
    for counts in measures:
        if counts.name in (measure.WAIT, measure.RUN):
            (waited if counts.name == measure.WAIT else ran).add_metric(counts.labels, _buckets(counts), counts.total)
        elif counts.name == measure.RESCUED:
            rescues[counts.labels[0]] = counts.counts[0]
        elif counts.name == measure.ATTEMPTS:
            queue, type, result = counts.labels
            for never in _ALWAYS:
                results.setdefault((queue, type, never), 0)
            results[queue, type, result] = counts.counts[0]
    for labels, count in results.items():
        attempts.add_metric(labels, count)
        if labels[-1] in _FINAL:
            completed.add_metric(labels, count)
    for type, count in rescues.items():
        rescued.add_metric([type], count)
    yield from (waited, ran, attempts, completed, rescued)


def _buckets(histogram: Measure) -> list[tuple[str, float]]:
    bounds = [*map(str, BOUNDS), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))


def _histogram(name: str, about: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"qw_{name}", about, labels=("queue", "type"))


def _counter(name: str, about: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"qw_{name}", about, labels=labels)


def _workers(workers: list[WorkerRow]) -> Iterator[Metric]:
    slots = _gauge("qw_worker_slots", "Task slots of running workers.", "state")
    total = sum(sum(n for n in worker.slots.values() if isinstance(n, int)) for worker in workers)
    used = sum(worker.running for worker in workers)
    slots.add_metric(["used"], used)
    slots.add_metric(["free"], max(total - used, 0))
    yield slots
    alive = _gauge("qw_workers", "Running workers.")
    alive.add_metric([], len(workers))
    yield alive
    if workers:
        seen = _gauge(
            "qw_worker_last_heartbeat_timestamp_seconds", "Oldest last heartbeat among running workers, as Unix time."
        )
        seen.add_metric([], min(worker.seen_at for worker in workers).timestamp())
        yield seen
        skew = _gauge(
            "qw_worker_clock_skew_seconds",
            "Largest difference between a worker's clock and the database clock, in seconds.",
        )
        skew.add_metric([], max((worker.skew.total_seconds() for worker in workers), key=abs))
        yield skew


def _serving(workers: list[WorkerRow], queues: list[str]) -> Metric:
    serving = _gauge("qw_queue_workers", "Running workers that take tasks from a queue and are not stopping.", "queue")
    for queue in queues:
        takes = (not worker.queues or queue in worker.queues for worker in workers if not worker.draining)
        serving.add_metric([queue], sum(takes))
    return serving


def _gauges(gauges: Gauges) -> Iterator[Metric]:
    oldest = _gauge(
        "qw_queue_oldest_runnable_seconds", "Age of the oldest waiting task of a queue, in seconds.", "queue"
    )
    for queue, seconds in gauges.oldest.items():
        oldest.add_metric([queue], seconds)
    yield oldest
    paused = _gauge("qw_queue_paused", "1 if the queue is paused.", "queue")
    for queue in gauges.paused:
        paused.add_metric([queue], 1)
    yield paused
    runs = _gauge("qw_workflow_runs", "Workflow runs in progress.", "state")
    for state, count in gauges.open_runs.items():
        runs.add_metric([state], count)
    yield runs
    dead_rows = _gauge("qw_table_dead_rows", "Dead rows not yet removed by vacuum.", "table")
    for table, count in gauges.dead_rows.items():
        dead_rows.add_metric([table], count)
    yield dead_rows
    size = _gauge("qw_table_bytes", "Size of a table with its indexes, in bytes.", "table")
    for table, count in gauges.table_bytes.items():
        size.add_metric([table], count)
    yield size
    for name, about, value in (
        ("qw_outbox_pending", "Events waiting to be published, counted up to 10,000.", gauges.outbox),
        ("qw_outbox_oldest_seconds", "Age of the oldest event waiting to be published, in seconds.", gauges.outbox_age),
        ("qw_events_blocked", "Events that cannot be published, counted up to 10,000.", gauges.blocked),
        ("qw_db_oldest_transaction_seconds", "Age of the oldest open transaction, in seconds.", gauges.transaction_age),
        (
            "qw_db_transaction_id_age",
            "Transactions since the oldest unfrozen row of the database.",
            gauges.transaction_id_age,
        ),
    ):
        family = _gauge(name, about)
        family.add_metric([], value)
        yield family


def _behind(by: timedelta) -> Metric:
    behind = _gauge(
        "qw_retention_behind_seconds", "How far the oldest finished task is past its retention, in seconds."
    )
    behind.add_metric([], by.total_seconds())
    return behind


def _schedules(measures: list[ScheduleStats]) -> Iterator[Metric]:
    success = _gauge(
        "qw_schedule_last_success_timestamp_seconds",
        "Completion time of the last completed task or run of a schedule, as Unix time.",
        "schedule",
    )
    following = _gauge(
        "qw_schedule_next_timestamp_seconds", "Next tick of a schedule, as Unix time; in the past if late.", "schedule"
    )
    missed = _counter("schedule_missed", "Ticks skipped because no daemon was running in time.", "schedule")
    for schedule in measures:
        if schedule.succeeded_at:
            success.add_metric([schedule.name], schedule.succeeded_at.timestamp())
        if schedule.next_tick:
            following.add_metric([schedule.name], schedule.next_tick.timestamp())
        missed.add_metric([schedule.name], schedule.missed)
    yield from (success, following, missed)


def _http(requests: Requests) -> Iterator[Metric]:
    answered = _counter("http_requests", "HTTP requests.", "method", "route", "status")
    for (method, route, status), count in sorted(requests.items()):
        answered.add_metric([method, route, str(status)], count)
    yield answered
    build = _gauge("qw_build_info", "Version of qw that serves the metrics.", "version")
    build.add_metric([__version__], 1)
    yield build
