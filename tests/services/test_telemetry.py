"""Spans and metrics, as exporters and readers of the SDK get them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

import qw
from qw import Client, Context, Handlers, NewTask, Snooze, new_id, testing
from qw.core.workflow import parse_workflow
from qw.services.upkeep.measures import Measures
from qw.store.connection import ReconnectingConnection

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """A provider for this test: the API lets a process set one only once."""
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    """The same for metrics."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(metrics._internal, "_METER_PROVIDER", provider)
    yield reader
    provider.shutdown()


def points(reader: InMemoryMetricReader, name: str, *labels: str) -> dict[tuple[Any, ...], Any]:
    """What was measured by the values of *labels*: of a histogram the count, of others the value."""
    data = reader.get_metrics_data()
    found: dict[tuple[Any, ...], Any] = {}
    for resource in data.resource_metrics if data else ():
        for metric in (each for scope in resource.scope_metrics for each in scope.metrics if each.name == name):
            for point in metric.data.data_points:
                attributes = dict(point.attributes or {})
                assert attributes["messaging.system"] == "qw"
                value = point.count if isinstance(point, HistogramDataPoint) else getattr(point, "value", None)
                found[tuple(attributes.get(label) for label in labels)] = value
    return found


def app() -> Handlers:
    handlers = Handlers()

    @handlers.handler("pay", max_retries=1)
    async def pay(context: Context, amount: int = 1) -> int:
        async def charge() -> int:
            if amount < 0:
                raise ValueError("negative")
            return amount

        return await context.step("charge", charge)

    @handlers.handler("later")
    def later() -> None:
        raise Snooze(3600, "closed")

    @handlers.handler("waits")
    async def waits(context: Context) -> None:
        await context.sleep("a day", 86_400)

    return handlers


async def work(url: str, handlers: Handlers | None = None) -> None:
    async with testing.worker(url, handlers or app()) as worker:
        await worker.run_until_empty()


def named(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = [span for span in spans.get_finished_spans() if span.name == name]
    return found


def ids(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


async def test_an_attempt_is_linked_to_its_enqueue_and_in_the_same_trace(url: str, spans: InMemorySpanExporter) -> None:
    async with Client(url) as client:
        with trace.get_tracer("test").start_as_current_span("request"):
            task = await client.enqueue("pay", queue="bank")
    await work(url)

    request, enqueue, process = named(spans, "request"), named(spans, "enqueue bank"), named(spans, "process bank")
    step = named(spans, "step charge")
    assert {ids(span)[0] for span in (request, enqueue, process, step)} == {ids(request)[0]}
    assert [(link.context.trace_id, link.context.span_id) for link in process.links] == [ids(enqueue)]
    assert (enqueue.kind, process.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert step.parent is not None
    assert step.parent.span_id == ids(process)[1]
    assert dict(process.attributes or {}) == {
        "messaging.system": "qw",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "bank",
        "messaging.message.id": str(task.id),
        "qw.task.type": "pay",
        "qw.task.attempt": 1,
    }


async def test_a_failed_attempt_has_the_error_and_one_that_waits_has_none(
    url: str, spans: InMemorySpanExporter
) -> None:
    async with Client(url) as client:
        await client.enqueue("pay", {"amount": -1}, queue="bank")
        await client.enqueue("later")
        await client.enqueue("waits", queue="bed")
    await work(url)

    failed, snoozed = named(spans, "process bank"), named(spans, "process default")
    suspended = named(spans, "process bed")
    assert (failed.status.is_ok, failed.status.description) == (False, "negative")
    assert (failed.attributes or {})["error.type"] == "ValueError"
    assert [event.name for event in failed.events] == ["exception"]
    assert snoozed.status.is_ok
    assert (snoozed.attributes or {})["qw.task.snoozed"] == "closed"
    assert suspended.status.is_ok
    assert (suspended.attributes or {})["qw.task.suspended"] is True


async def test_all_ways_to_enqueue_carry_the_context(url: str, spans: InMemorySpanExporter) -> None:
    with trace.get_tracer("test").start_as_current_span("request") as request:
        async with Client(url) as client:
            await client.enqueue_many(NewTask(type="pay", id=new_id()) for _ in range(3))
        with psycopg.connect(url) as conn:
            qw.enqueue(conn, "pay")
            rows: list[Any] = conn.execute("select headers ->> 'traceparent' from qw.task").fetchall()

    trace_id = f"{request.get_span_context().trace_id:032x}"
    assert [row[0].split("-")[1] for row in rows] == [trace_id] * 4
    assert (named(spans, "enqueue").attributes or {})["messaging.batch.message_count"] == 3


async def test_the_steps_of_a_run_are_one_trace(url: str, spans: InMemorySpanExporter) -> None:
    steps: Any = [{"id": "one", "type": "pay"}, {"id": "two", "type": "pay", "needs": ["one"]}]
    async with Client(url) as client, testing.worker(url, app()) as worker:
        await client.workflows.save(parse_workflow("both", {"steps": steps}))
        run = await client.runs.start("both")
        await worker.run_until_empty()

    made = [span for span in spans.get_finished_spans() if span.name == "process default"]
    assert {ids(span)[0] for span in made} == {run.int}
    assert [(span.attributes or {})["qw.step.id"] for span in made] == ["one", "two"]


QUEUE, TYPE, ERROR = "messaging.destination.name", "qw.task.type", "error.type"


async def test_enqueues_are_counted_and_timed(url: str, reader: InMemoryMetricReader) -> None:
    async with Client(url) as client:
        first = await client.enqueue("pay", queue="bank", unique_key="one")
        with pytest.raises(qw.Conflict):
            await client.enqueue("pay", queue="bank", unique_key="one")
        await client.enqueue_many(NewTask(type="pay", id=new_id(), queue=queue) for queue in ("a", "b", "b"))
        found = await client.tasks.get(first.id)
    with psycopg.connect(url) as conn:
        qw.enqueue(conn, "later", queue="bank")

    assert points(reader, "messaging.client.sent.messages", QUEUE, TYPE, ERROR) == {
        ("bank", "pay", None): 1,
        ("bank", "pay", "Conflict"): 1,
        ("bank", "later", None): 1,
        ("a", "pay", None): 1,
        ("b", "pay", None): 2,
    }
    assert points(reader, "messaging.client.operation.duration", QUEUE, ERROR) == {
        ("bank", None): 2,
        ("bank", "Conflict"): 1,
        (None, None): 1,
    }
    assert found.headers is None  # there are no spans whose context it could have


async def test_attempts_are_counted_and_timed_by_type_result_and_error(url: str, reader: InMemoryMetricReader) -> None:
    async with Client(url) as client:
        for amount in (1, 2, -1):
            await client.enqueue("pay", {"amount": amount}, queue="bank")
        await client.enqueue("later")
        await client.enqueue("waits")
    await work(url)

    assert points(reader, "messaging.client.consumed.messages", QUEUE, TYPE) == {
        ("bank", "pay"): 3,
        ("default", "later"): 1,
        ("default", "waits"): 1,
    }
    assert points(reader, "messaging.process.duration", TYPE, "qw.attempt.result", ERROR) == {
        ("pay", "completed", None): 2,
        ("pay", "failed", "ValueError"): 1,
        ("later", "snoozed", None): 1,
        ("waits", "suspended", None): 1,
    }
    assert points(reader, "qw.task.wait", TYPE) == {("pay",): 3, ("later",): 1, ("waits",): 1}


async def test_the_depth_of_queues_is_what_was_sampled_last(url: str, reader: InMemoryMetricReader) -> None:
    link = ReconnectingConnection(url, name="measures")
    async with Client(url) as client:
        await client.enqueue("pay", queue="bank")
        await client.enqueue("pay", queue="bank", delay=timedelta(hours=1))
        await Measures(link).step()
    await link.close()

    labels = QUEUE, "qw.task.status"
    depths = {("bank", "pending"): 2, ("bank", "processing"): 0, ("bank", "retrying"): 0}
    assert points(reader, "qw.queue.tasks", *labels) == depths
    ((queue, seconds),) = points(reader, "qw.queue.oldest", QUEUE).items()
    assert queue == ("bank",)
    assert seconds > 0


def test_the_application_of_the_page_exports_both(url: str, tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "telemetry.md"
    (block,) = re.findall(r"(?ms)^```python\n(.*?)^```$", page.read_text())
    (tmp_path / "traced.py").write_text(block)
    with psycopg.connect(url) as conn:
        qw.enqueue(conn, "pay", {"amount": 7})
    command = [
        sys.executable,
        "-m",
        "qw",
        "daemon",
        "--app",
        "traced:app",
        "--drain",
        "--no-http",
        "--database-url",
        url,
    ]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert '"name": "process default"' in done.stdout
    instruments = set(re.findall(r'"name": "((?:messaging|qw)\.[a-z.]+)"', done.stdout))
    assert {"messaging.client.consumed.messages", "messaging.process.duration", "qw.task.wait"} <= instruments
    listed = set(re.findall(r"(?m)^\| `([a-z.]+)` \| (?:counter|histogram|gauge)", page.read_text()))
    assert instruments <= listed


def test_nothing_is_imported_where_the_program_does_not_use_it(url: str) -> None:
    program = (
        "import sys, psycopg, qw\n"
        f"with psycopg.connect({url!r}) as conn: qw.enqueue(conn, 'noop')\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )

    subprocess.run([sys.executable, "-c", program], check=True)


async def test_without_a_provider_attempts_are_not_wrapped_and_tasks_have_no_headers(url: str) -> None:
    handlers = app()
    async with Client(url) as client:
        task = await client.enqueue("pay")
        await work(url, handlers)
        found = await client.tasks.get(task.id)

    handler = handlers.get("pay")
    assert handler is not None
    assert handler.is_direct
    assert found.headers is None
