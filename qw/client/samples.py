"""`Client.samples`: sample data for trying out the API."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from qw.client.connections import Namespace
from qw.client.workflows import Workflows
from qw.core.errors import Unavailable
from qw.core.task.payload import JsonObject
from qw.store import overview

TYPES = (
    "http_request", "data_processing", "compensation", "fetch_orders", "create_invoice", "generate_pdf", "send_email",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sampled:
    workflows: int = 0
    tasks: int = 0
    lines: int = 0


class Samples(Namespace):
    async def add(self, *, per_type: int) -> Sampled:
        """Add finished tasks and workflows; do nothing if the database has tasks."""
        async with self._db.connection() as conn, conn.transaction():
            if not await overview.is_empty(conn):
                return Sampled()
            tasks, lines = await overview.fill(conn, TYPES, per_type)
        samples = _workflows()
        for title, document in samples.items():
            await Workflows(self._db).create(title, document)
        return Sampled(workflows=len(samples), tasks=tasks, lines=lines)

    async def clear(self) -> None:
        """Delete all tasks, workflows and runs. Safe while workers are running."""
        for pause in (0.05, 0.2, 0.8):
            try:
                return await self._clear()
            except Unavailable:  # a deadlock with a worker, which locks tables in another order
                await asyncio.sleep(pause)
        return await self._clear()

    async def _clear(self) -> None:
        async with self._db.connection() as conn:
            await overview.clear(conn)


def _workflows() -> dict[str, JsonObject]:
    report: JsonObject = {"type": "data_processing", "payload": {"dataset": "customer_data_2024"}}
    order: JsonObject = {"type": "data_processing", "payload": {"operation": "process_order"}}
    request: JsonObject = {"type": "http_request", "payload": {"url": "https://example.com/orders"}}
    mail: JsonObject = {"type": "send_email", "payload": {"customerId": "sample", "invoiceId": "INV-SAMPLE"}}
    return {
        "Order processing": {"initialTask": request, "transitions": {"http_request": order}},
        "Report": {"initialTask": report, "transitions": {}},
        "Report by e-mail": {"initialTask": report, "transitions": {"data_processing": mail}},
        "Reminder": {"initialTask": mail, "transitions": {}},
    }
