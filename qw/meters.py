"""OpenTelemetry metrics for programs that use OpenTelemetry: enqueues, attempts and queue depths.

As for spans (`qw.telemetry`), only the API is used, and only if the program has set a meter provider. Names, units
and attributes follow the semantic conventions for messaging; names that the conventions lack begin with ``qw.``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from qw._version import __version__
from qw.core.task import measure

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Counter, Histogram, MeterProvider, Observation
    from opentelemetry.util.types import AttributeValue

SYSTEM = "qw"
_CALLS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)  # from the conventions


@dataclass(frozen=True, kw_only=True)
class Depth:
    """A sample of one queue. *tasks*: number by status. *oldest*: seconds that the oldest runnable task has waited."""

    queue: str
    tasks: Mapping[str, int]
    oldest: float


@dataclass(frozen=True, kw_only=True)
class Meters:
    """The instruments of one meter provider."""

    sent: Counter
    calls: Histogram
    consumed: Counter
    runs: Histogram
    waits: Histogram
    depths: list[Depth] = field(default_factory=list)

    @contextmanager
    def enqueuing(self, counts: Mapping[tuple[str, str], int]) -> Iterator[None]:
        """Measure one enqueue. *counts*: its tasks by queue and type; must be complete when the block ends."""
        begun, failed = time.perf_counter(), {}
        try:
            yield
        except BaseException as error:
            failed = {"error.type": type(error).__qualname__}
            raise
        finally:
            queues = {queue for queue, _ in counts}
            of_call = attributes_of("enqueue", "send", min(queues) if len(queues) == 1 else None)
            self.calls.record(time.perf_counter() - begun, of_call | failed)
            for (queue, type_), count in counts.items():
                self.sent.add(count, attributes_of("enqueue", "send", queue, type_) | failed)

    def attempt(self, queue: str, type: str, *, waited: float, ran: float, result: str, kind: str | None) -> None:
        """Record an attempt whose handler ran; times in seconds. *kind*: the kind of its error, None without one."""
        attributes = attributes_of("process", "process", queue, type)
        self.consumed.add(1, attributes)
        self.waits.record(waited, attributes)
        failed = {"error.type": kind} if kind else {}
        self.runs.record(ran, attributes | {"qw.attempt.result": result} | failed)

    def sample(self, depths: Sequence[Depth]) -> None:
        """Replace the queue depths that the gauges report."""
        self.depths[:] = depths


def current() -> Meters | None:
    """Return the instruments for the program's meter provider, None if the program has set no provider."""
    from opentelemetry.metrics import get_meter_provider

    provider = get_meter_provider()
    if type(provider).__module__.partition("._")[0] == "opentelemetry.metrics":  # the no-op providers of the API
        return None
    return _of(provider)


@lru_cache(maxsize=1)
def _of(provider: MeterProvider) -> Meters:
    from opentelemetry.metrics import Observation

    meter = provider.get_meter("qw", __version__)

    def histogram(name: str, description: str, bounds: Sequence[float]) -> Histogram:
        return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=bounds)

    meters = Meters(
        sent=meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Tasks that were enqueued, or failed to be."
        ),
        calls=histogram("messaging.client.operation.duration", "Duration of an enqueue.", _CALLS),
        consumed=meter.create_counter("messaging.client.consumed.messages", "{message}", "Attempts of tasks."),
        runs=histogram("messaging.process.duration", "Run time of a handler.", measure.BOUNDS),
        waits=histogram("qw.task.wait", "Time from when a task was due until its handler started.", measure.BOUNDS),
    )

    def tasks(options: CallbackOptions) -> Iterable[Observation]:
        for depth in meters.depths:
            for status, count in depth.tasks.items():
                yield Observation(count, _of_queue(depth) | {"qw.task.status": status})

    def oldest(options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(depth.oldest, _of_queue(depth)) for depth in meters.depths]

    meter.create_observable_gauge("qw.queue.tasks", [tasks], "{task}", "Tasks of a queue that have not ended.")
    meter.create_observable_gauge("qw.queue.oldest", [oldest], "s", "How long the first task of a queue has waited.")
    return meters


def _of_queue(depth: Depth) -> dict[str, AttributeValue]:
    return {"messaging.system": SYSTEM, "messaging.destination.name": depth.queue}


def attributes_of(name: str, kind: str, queue: str | None, type: str | None = None) -> dict[str, AttributeValue]:
    """Return the attributes of an operation, for metrics and spans."""
    found: dict[str, AttributeValue] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
    }
    if queue:
        found["messaging.destination.name"] = queue
    if type:
        found["qw.task.type"] = type
    return found
