"""The speed of workflow runs on one daemon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from benchmarks.place import Place
from qw.client import Client
from qw.core.task.payload import JsonObject
from qw.core.workflow import parse_workflow

RUNS = 1000
FOUR: JsonObject = {
    "steps": [
        {"id": "orders", "type": "noop", "with": {"customerId": "zoe"}},
        {"id": "invoice", "type": "noop", "needs": ["orders"], "if": "steps.orders.status == 'completed'"},
        {"id": "pdf", "type": "noop", "needs": ["invoice"], "with": {"of": "${{ steps.invoice.status }}"}},
        {"id": "email", "type": "noop", "needs": ["pdf"], "with": {"run": "${{ run.id }}"}},
    ]
}
OPEN = "select count(*) from qw.run where finished_at is null"
SPAN = """
    select extract(epoch from (select max(finished_at) from qw.run) - (select min(f.started_at) from qw.finished f))"""
HAND_OVER = """
    select percentile_cont(%s) within group (order by extract(epoch from n.started_at - f.finished_at) * 1000)
      from qw.task t join qw.finished f on f.task_id = t.id
      join qw.task u on u.run_id = t.run_id
       and (t.step, u.step) in (('orders', 'invoice'), ('invoice', 'pdf'), ('pdf', 'email'))
      join qw.finished n on n.task_id = u.id"""


async def steps(place: Place) -> AsyncIterator[str]:
    """Steps per second: a thousand runs of four no-op steps that wait when the daemon starts."""
    for _ in range(3):
        await _start(place, RUNS)
        async with place.daemon():
            while place.number(OPEN):
                await asyncio.sleep(0.05)
        yield f"{4 * RUNS / place.number(SPAN):,.0f} steps/s, {RUNS:,} runs of four steps, one daemon"
        with place.connect() as conn:
            conn.execute("truncate qw.run, qw.run_step, qw.task, qw.finished, qw.attempt")


async def hand_over(place: Place) -> AsyncIterator[str]:
    """Time from the end of a step to the start of the next, twenty runs per second."""
    async with place.daemon(), Client(place.url) as client:
        await client.workflows.save(parse_workflow("four", FOUR))
        await asyncio.sleep(2)
        for _ in range(100):
            await client.runs.start("four")
            await asyncio.sleep(0.05)
        deadline = time.monotonic() + 30
        while place.number(OPEN) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
    p50, p99 = (place.number(HAND_OVER.replace("%s", share)) for share in ("0.5", "0.99"))
    yield f"p50 {p50:.1f} ms, p99 {p99:.1f} ms from the end of a step to the start of the next"


async def _start(place: Place, count: int) -> None:
    async with Client(place.url) as client:
        await client.workflows.save(parse_workflow("four", FOUR))
        for first in range(0, count, 50):
            await asyncio.gather(*(client.runs.start("four") for _ in range(first, first + 50)))
