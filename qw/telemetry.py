"""OpenTelemetry spans for programs that use OpenTelemetry: enqueues, attempts, and the steps of a handler.

Only the API is used (extra ``otel``), and only if the program itself has imported it and set a provider; otherwise
nothing is imported or recorded. The trace context travels with the task in the header ``traceparent``. Names and
attributes follow the semantic conventions for messaging. Metrics are in `qw.meters`.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from qw._version import __version__
from qw.core.task import NewTask

if TYPE_CHECKING:
    from opentelemetry.context import Context as TraceContext
    from opentelemetry.trace import Link, Span, Tracer
    from opentelemetry.util.types import AttributeValue

    from qw.meters import Meters

T = TypeVar("T")


def is_active() -> bool:
    """Whether this program has set up OpenTelemetry, for spans or for metrics."""
    return is_tracing() or meters() is not None


def is_tracing() -> bool:
    """Whether this program has set a tracer provider."""
    trace = sys.modules.get("opentelemetry.trace")
    return trace is not None and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def meters() -> Meters | None:
    """Return the metric instruments, None if this program has set no meter provider."""
    if "opentelemetry.metrics" not in sys.modules:
        return None
    from qw.meters import current

    return current()


@contextmanager
def enqueuing(task: NewTask) -> Iterator[NewTask]:
    """Yield *task* with the context of a new span in its headers. The block is the span, measured as an enqueue."""
    attributes: dict[str, AttributeValue] = {"messaging.message.id": str(task.id), "qw.task.type": task.type}
    with _measuring({(task.queue, task.type): 1}), _producing(task.queue, attributes):
        yield _with_context(task)


@contextmanager
def enqueuing_many(tasks: Iterable[NewTask]) -> Iterator[Iterable[NewTask]]:
    """As `enqueuing`, for many tasks with one span. Yields *tasks* unchanged if OpenTelemetry is not set up."""
    if not is_active():
        yield tasks
        return
    counts: Counter[tuple[str, str]] = Counter()

    def counted() -> Iterator[NewTask]:
        for task in tasks:
            counts[task.queue, task.type] += 1
            yield _with_context(task)

    with _measuring(counts), _producing(None, {}) as span:
        yield counted()
        span.set_attribute("messaging.batch.message_count", counts.total())


async def process(context: Any, call_next: Callable[[Any], Awaitable[T]]) -> T:
    """Middleware that records an attempt as a span, in the trace of its enqueue and linked to the enqueue's span.

    The tasks of a run that have no ``traceparent`` share one trace, whose id is the run's id.
    """
    from opentelemetry.trace import SpanKind, Status, StatusCode

    from qw.core.task.checkpoint import Suspend
    from qw.core.task.handler_api import Snooze
    from qw.meters import attributes_of

    parent, links = _origin(context)
    attributes = attributes_of("process", "process", context.queue, context.type) | {
        "messaging.message.id": str(context.task_id),
        "qw.task.attempt": context.attempt,
    }
    if context.run_id is not None:
        attributes |= {"qw.run.id": str(context.run_id), "qw.step.id": context.step_id or ""}
    with _tracer().start_as_current_span(
        f"process {context.queue}",
        context=parent,
        kind=SpanKind.CONSUMER,
        attributes=attributes,
        links=links,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            return await call_next(TracedContext(context))
        except Snooze as snooze:
            span.set_attribute("qw.task.snoozed", snooze.reason)
            raise
        except Suspend:
            span.set_attribute("qw.task.suspended", True)
            raise
        except BaseException as error:
            span.record_exception(error)
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(Status(StatusCode.ERROR, str(error) or None))
            raise


class TracedContext:
    """Wraps the context of an attempt so that each step whose function runs gets a span."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def step(self, name: str, fn: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        @functools.wraps(fn)
        async def traced(*args: Any, **kwargs: Any) -> Any:
            with _tracer().start_as_current_span(f"step {name}", attributes={"qw.step.name": name}):
                return await fn(*args, **kwargs)

        return await self._context.step(name, traced, *args, **kwargs)


def _producing(queue: str | None, attributes: dict[str, AttributeValue]) -> AbstractContextManager[Span]:
    from opentelemetry.trace import SpanKind

    from qw.meters import attributes_of

    return _tracer().start_as_current_span(
        f"enqueue {queue}" if queue else "enqueue",
        kind=SpanKind.PRODUCER,
        attributes=attributes_of("enqueue", "send", queue) | attributes,
    )


def _measuring(counts: Mapping[tuple[str, str], int]) -> AbstractContextManager[None]:
    """Measure one enqueue. *counts*: its tasks by queue and type; must be complete when the block ends."""
    found = meters()
    return nullcontext() if found is None else found.enqueuing(counts)


def _with_context(task: NewTask) -> NewTask:
    from opentelemetry.propagate import inject

    headers = dict(task.headers or {})
    if "traceparent" not in headers:  # keep the caller's own
        inject(headers)
    return replace(task, headers=headers) if headers else task


def _origin(context: Any) -> tuple[TraceContext | None, list[Link]]:
    """Return the trace context of the enqueue and links to its span; without one, the run's context, if any."""
    from opentelemetry.propagate import extract
    from opentelemetry.trace import (
        Link,
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        get_current_span,
        set_span_in_context,
    )

    if "traceparent" in context.headers:
        parent = extract(context.headers)
        return parent, [Link(get_current_span(parent).get_span_context())]
    if context.run_id is None:
        return None, []
    run = context.run_id.int
    of_run = SpanContext(run, run & (2**64 - 1), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(of_run)), []


def _tracer() -> Tracer:
    from opentelemetry.trace import get_tracer

    return get_tracer("qw", __version__)
