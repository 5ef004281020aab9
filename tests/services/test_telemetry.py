"""Spans, as an exporter of the SDK gets them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

import qw
from qw import Client, Context, Handlers, NewTask, Snooze, new_id, testing
from qw.core.workflow import parse_workflow

pytestmark = pytest.mark.usefixtures("unchecked")

_exporter = InMemorySpanExporter()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """A provider for this test: the API lets a process set one only once."""
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


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
