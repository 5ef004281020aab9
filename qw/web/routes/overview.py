"""The overview page of the dashboard in one request, and the data of its charts."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import quote

from typing_extensions import TypedDict

from qw.client.events import Relaying
from qw.client.health import Glance
from qw.client.history import Rates
from qw.clock import clock
from qw.core.health import HealthProblem
from qw.core.history import ChartRange
from qw.core.task.masking import masked_error
from qw.core.task.measure import ALL_QUEUES
from qw.store.tasks import Failures
from qw.web.fields import Form, Id, Stamp
from qw.web.route import Request, get
from qw.web.routes.queues import QueueEntity, WorkerEntity, queue_entity, worker_entity
from qw.web.serializers import stamp, stamp_of_seconds


class HistoryQuery(Form):
    """``range``: the period until now. ``queue``: only this queue; default: all queues."""

    range: ChartRange = ChartRange.HOUR
    queue: str = ALL_QUEUES


class ProblemEntity(TypedDict):
    code: str
    severity: Literal["error", "warning"]
    text: str
    advice: str
    link: str | None


class HealthEntity(TypedDict):
    ok: bool
    problems: list[ProblemEntity]


class Totals(TypedDict):
    pending: int
    processing: int
    retrying: int
    completed: int
    failed: int
    cancelled: int


class RatesEntity(TypedDict):
    inPerMinute: float
    outPerMinute: float
    failedPerMinute: float


class Quantiles(TypedDict):
    p50: float | None
    p95: float | None
    p99: float | None


class BusyQueueEntity(QueueEntity):
    inPerMinute: float
    outPerMinute: float
    failedPerMinute: float
    sparkline: list[int]


class FailuresEntity(TypedDict):
    type: str
    failed: int
    lastAt: Stamp
    lastError: str | None
    lastTaskId: Id


class LateSchedule(TypedDict):
    name: str
    lateSeconds: float


class BrokerEntity(TypedDict):
    name: str | None
    state: str
    pending: int
    oldestSeconds: float | None
    blocked: int


class OverviewEntity(TypedDict):
    at: Stamp
    health: HealthEntity
    totals: Totals
    rates: RatesEntity
    wait: Quantiles
    queues: list[BusyQueueEntity]
    failures: list[FailuresEntity]
    moreFailed: bool
    workers: list[WorkerEntity]
    lateSchedules: list[LateSchedule]
    broker: BrokerEntity


class QuantileColumns(TypedDict):
    p50: list[float | None]
    p95: list[float | None]
    p99: list[float | None]


HistoryEntity = TypedDict(
    "HistoryEntity",
    {
        "from": Stamp,
        "to": Stamp,
        "stepSeconds": int,
        "times": list[int],
        "outcomes": dict[str, list[int]],
        "enqueued": list[int | None],
        "depth": list[int | None],
        "running": list[int | None],
        "oldestSeconds": list[float | None],
        "wait": QuantileColumns,
        "run": QuantileColumns,
    },
)

_LINKS = {
    "no_worker": "ui/workers",
    "worker_trouble": "ui/workers",
    "events_blocked": "ui/events",
    "broker_down": "ui/events",
    "queue_late": "ui/queues/{}",
    "queue_paused": "ui/queues/{}",
    "schedule_late": "ui/schedules/{}",
    "failures": "ui/tasks?q=status:failed%20type:{}",
    "long_transaction": "ui/database",
}


async def overview(call: Request[None, None]) -> OverviewEntity:
    """Get the whole state: problems, queues, rates, waits, failures, workers, schedules, the broker.

    Rates are per minute, of the last five; ``sparkline`` is how many attempts ended in each of the last 60 minutes, the
    current one last; waits are of the last hour, in seconds; failures of the last day, the newest 1,000 if
    ``moreFailed``. At most a second old.
    """
    return _overview(await call.site.glance.get())


async def history(call: Request[None, HistoryQuery]) -> Any:
    """Get the data of the charts: attempts by result, tasks enqueued, waiting and running, waits and run times.

    All columns have the length of ``times``, the start times of the intervals in seconds since 1970; the last interval
    is still running. Null: there is no sample, or nothing ran. The counts are those of ``/metrics``.
    """
    samples = await call.client.history.chart(call.query.range, queue=call.query.queue)
    step = int(samples.step.total_seconds())
    entity: HistoryEntity = {
        "from": stamp_of_seconds(samples.times[0]),
        "to": stamp_of_seconds(samples.times[-1] + step),
        "stepSeconds": step,
        "times": [*samples.times],
        "outcomes": {result: [*counts] for result, counts in samples.outcomes.items()},
        "enqueued": [*samples.enqueued],
        "depth": [*samples.waiting],
        "running": [*samples.running],
        "oldestSeconds": [*samples.oldest],
        "wait": {"p50": [*samples.wait["p50"]], "p95": [*samples.wait["p95"]], "p99": [*samples.wait["p99"]]},
        "run": {"p50": [*samples.run["p50"]], "p95": [*samples.run["p95"]], "p99": [*samples.run["p99"]]},
    }
    return entity


def _overview(glance: Glance) -> OverviewEntity:
    seen, none = glance.overview, Rates()
    stats = [queue.stats for queue in seen.queues]
    return {
        "at": stamp(clock.now()),
        "health": {"ok": not glance.problems, "problems": [problem_entity(problem) for problem in glance.problems]},
        "totals": {
            "pending": sum(stat.pending for stat in stats),
            "processing": sum(stat.processing for stat in stats),
            "retrying": sum(stat.retrying for stat in stats),
            "completed": sum(stat.completed for stat in stats),
            "failed": sum(stat.failed for stat in stats),
            "cancelled": sum(stat.cancelled for stat in stats),
        },
        "rates": _rates(glance.rates.get(ALL_QUEUES, none)),
        "wait": {"p50": glance.waits["p50"], "p95": glance.waits["p95"], "p99": glance.waits["p99"]},
        "queues": [
            {**queue_entity(queue), **_rates(rates), "sparkline": rates.recent}
            for queue in seen.queues
            for rates in (glance.rates.get(queue.stats.queue, none),)
        ],
        "failures": [_failures(failure) for failure in seen.failures],
        "moreFailed": seen.more_failed,
        "workers": [worker_entity(worker) for worker in seen.workers],
        "lateSchedules": [{"name": name, "lateSeconds": late.total_seconds()} for name, late in seen.late],
        "broker": _broker(seen.relaying),
    }


def problem_entity(problem: HealthProblem) -> ProblemEntity:
    link = _LINKS.get(problem.code)
    return {
        "code": problem.code,
        "severity": problem.severity,
        "text": problem.text,
        "advice": problem.advice,
        "link": link.format(quote(problem.subject or "", safe="")) if link else None,
    }


def _rates(rates: Rates) -> RatesEntity:
    return {
        "inPerMinute": round(rates.enqueued, 3),
        "outPerMinute": round(rates.ended, 3),
        "failedPerMinute": round(rates.failed, 3),
    }


def _failures(failures: Failures) -> FailuresEntity:
    return {
        "type": failures.type,
        "failed": failures.failed,
        "lastAt": stamp(failures.last_at),
        "lastError": masked_error(failures.last_error),
        "lastTaskId": str(failures.last_id),
    }


def _broker(relaying: Relaying) -> BrokerEntity:
    """Return the broker state: the worst state of all relays."""
    states = [relay.state for relay in relaying.relays]
    return {
        "name": ", ".join(sorted({relay.broker for relay in relaying.relays})) or None,
        "state": next((state for state in ("down", "held") if state in states), "up" if states else "none"),
        "pending": relaying.unpublished,
        "oldestSeconds": relaying.oldest.total_seconds() if relaying.oldest else None,
        "blocked": relaying.blocked.count,
    }


ROUTES = (
    get("/api/overview", overview, OverviewEntity),
    get("/api/history", history, HistoryEntity, query=HistoryQuery),
)
