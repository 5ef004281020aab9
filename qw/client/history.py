"""`Client.history`: throughput, waits and depth over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from qw.client.connections import Namespace
from qw.clock import clock
from qw.core.history import Chart, ChartRange, Sample, as_time, chart, times_of
from qw.core.task.measure import ALL_QUEUES, WAIT, quantile
from qw.store import history, tasks
from qw.store.connection import Connection
from qw.store.tasks import QueueStats

SPARKLINE_MINUTES = 60
CHANGING_MINUTES = 3  # the last minutes are read again, since daemons may commit their measurements late
RATE_MINUTES = 5


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Tasks of a queue per minute, averaged over the last five: enqueued, final, failed. ``recent``: the number that
    became final in each of the last 60 minutes, the current one last.
    """

    enqueued: float = 0.0
    ended: float = 0.0
    failed: float = 0.0
    recent: list[int] = field(default_factory=lambda: [0] * SPARKLINE_MINUTES)


class RecentMinutes:
    """A cache of the attempts that ended a task in each recent minute, for callers that poll.

    200 queues have 36,000 rows an hour, of which only those of the last few minutes still change.
    """

    def __init__(self) -> None:
        self._ended: dict[int, dict[str, tuple[int, int]]] = {}  # minute since 1970 -> queue -> (final, failed)

    async def read(self, conn: Connection, minute: int) -> Iterator[tuple[int, str, int, int]]:
        """Yield (minutes ago, queue, final attempts, failed ones among them); *minute* is the current minute."""
        kept = range(minute - SPARKLINE_MINUTES + 1, minute - CHANGING_MINUTES)
        missing = next((past for past in kept if past not in self._ended), kept.stop)
        by_minute = {past: self._ended.get(past, {}) for past in range(kept.start, minute + 1)}
        for row in await history.recent(conn, since=missing * 60):
            by_minute.setdefault(row.minute, {})[row.queue] = row.ended, row.failed
        self._ended = {past: by_minute[past] for past in kept}
        return (
            (max(minute - past, 0), queue, ended, failed)
            for past, queues in by_minute.items()
            for queue, (ended, failed) in queues.items()
        )


class History(Namespace):
    """Measurements of daemons by minute (kept for two days) and by hour (90 days). ``queue=""``: all queues."""

    async def chart(self, range: ChartRange = ChartRange.HOUR, *, queue: str = ALL_QUEUES) -> Chart:
        """Return attempts by result, waits, run times, and the queue's state, in equal time steps up to now."""
        times = times_of(range, clock.now())
        since, until = as_time(times[0]), as_time(times[-1]) + range.step
        async with self._db.connection() as conn:
            measures = await history.measured(conn, queue, span=range.span, step=range.step, since=since, until=until)
            samples = await history.sampled(conn, queue, span=range.span, since=since, until=until)
            stats = [queue_stats for queue_stats in await tasks.stats(conn) if queue in (ALL_QUEUES, queue_stats.queue)]
        if samples:
            enqueued = sum(queue_stats.enqueued for queue_stats in stats)
            samples.append(Sample(int(until.timestamp()), 0, 0, None, enqueued))  # tasks enqueued up to now
        return chart(range, times, measures, samples)

    async def rates(
        self, stats: Sequence[QueueStats] | None = None, minutes: RecentMinutes | None = None
    ) -> dict[str, Rates]:
        """Return the rates by queue ("": all queues). *stats*, *minutes*: data that the caller has already read."""
        async with self._db.connection() as conn:
            now = int(clock.now().timestamp()) // 60
            recent = [*await (minutes or RecentMinutes()).read(conn, now)]
            before = await history.enqueued_before(conn, seconds=RATE_MINUTES * 60)
            stats = await tasks.stats(conn) if stats is None else stats
        enqueued = {row.queue: row.enqueued for row in stats}
        enqueued[ALL_QUEUES] = sum(enqueued.values())
        came = {row.queue: max(enqueued.get(row.queue, 0) - row.total, 0) / row.seconds_ago * 60 for row in before}
        ended: dict[str, list[int]] = {}
        failed: dict[str, int] = {}
        for minutes_ago, queue, all_ended, all_failed in recent:
            ended.setdefault(queue, [0] * SPARKLINE_MINUTES)[-1 - minutes_ago] += all_ended
            if minutes_ago < RATE_MINUTES:
                failed[queue] = failed.get(queue, 0) + all_failed
        return {
            queue: Rates(
                enqueued=came.get(queue, 0.0),
                ended=sum(ended.get(queue, ())[-RATE_MINUTES:]) / RATE_MINUTES,
                failed=failed.get(queue, 0) / RATE_MINUTES,
                recent=ended.get(queue) or [0] * SPARKLINE_MINUTES,
            )
            for queue in {*enqueued, *ended}
        }

    async def waits(self, shares: dict[str, float], *, queue: str = ALL_QUEUES) -> dict[str, float | None]:
        """Return quantiles of the waits of the last hour, in seconds, by the names of *shares*; None without data."""
        until = clock.now()
        since, step = until - timedelta(hours=1), timedelta(hours=2)
        async with self._db.connection() as conn:
            measures = await history.measured(
                conn, queue, span="minute", step=step, since=since, until=until + timedelta(minutes=1)
            )
        waits = [measure for _, measure in measures if measure.name == WAIT]
        counts = [sum(column) for column in zip(*(measure.counts for measure in waits), strict=True)]
        return {name: quantile(counts, share) for name, share in shares.items()}
