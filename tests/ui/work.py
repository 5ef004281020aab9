"""What is done in the shop before the dashboard is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

import psycopg

from qw.client import Client
from qw.definitions import loads
from tests.web.live import Live, live, until

_FINISHED = """
with new as (
  insert into qw.task (id, queue, type, payload, priority)
  select qw.new_id(), %(queue)s, 'noop', '{}', 5 from generate_series(1, %(count)s) returning id
), ended as (
  insert into qw.finished (task_id, status, fence, attempt, retries, crashes)
  select id, 'completed', 1, 1, 0, 0 from new
)
insert into qw.tally (queue, completed) values (%(queue)s, %(count)s)
"""


@contextmanager
def opened_shop(url: str, definitions: str) -> Iterator[Shop]:
    """A server with a daemon over the migrated database at *url*, and *definitions* applied."""
    with live(url, daemon=True, app="tests.ui.shop:app") as started:
        asyncio.run(_apply(url, definitions))
        yield Shop(started, url)


async def _apply(url: str, definitions: str) -> None:
    async with Client(url) as client:
        await client.definitions.apply([loads(definitions)], owner="shop", by="anna")


class Shop(Live):
    """A server with a daemon; each property is work of one kind, done once."""

    def __init__(self, started: Live, url: str) -> None:
        self.port, self.base, self.api = started.port, started.base, started.api
        self.url = url  # of the database

    def finished(self, queue: str, count: int) -> None:
        """Tasks of a queue that has completed them."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(_FINISHED, {"queue": queue, "count": count})

    def workflow_id(self, name: str) -> str:
        return next(str(each["id"]) for each in self.get("/api/workflows")["workflows"] if each["name"] == name)

    def start(self, workflow: str, **input: object) -> str:
        """The id of a new run."""
        return str(self.post(f"/api/workflows/{self.workflow_id(workflow)}/start", {"input": input})["runId"])

    @cached_property
    def failed(self) -> str:
        """A task that failed for good."""
        id = self.task("charge_card", {"customerId": "zoe", "amount": 99, "decline": True}, queue="payments")
        assert self.final(id)["status"] == "failed"
        return id

    @cached_property
    def synced(self) -> str:
        """A completed task with a log in colours, and markup in it."""
        id = self.task("sync_crm", {"pages": 8, "pause": 0}, queue="crm")
        assert self.final(id)["status"] == "completed"
        return id

    @cached_property
    def charged(self) -> str:
        """A completed task with numbers that no double holds."""
        id = self.task("charge_card", {"customerId": "<b>zoe</b>", "amount": 1, "big": 9007199254740993})
        assert self.final(id)["status"] == "completed"
        return id

    @cached_property
    def running(self) -> str:
        """A task that runs for long."""
        id = self.task("wait_for_import", {"seconds": 600}, queue="imports", timeout="1h")
        until(lambda: self.get(f"/api/task/{id}")["status"], lambda status: status == "processing")
        return id

    @cached_property
    def approval(self) -> str:
        """A run that waits for somebody."""
        id = self.start("order", customerId="zoe")
        until(lambda: {step["id"]: step["status"] for step in self.get(f"/api/runs/{id}")["steps"]}.get("approve"))
        return id

    @cached_property
    def undone(self) -> str:
        """A run that failed, and whose steps were undone."""
        id = self.start("trip")
        until(lambda: self.get(f"/api/runs/{id}")["status"], lambda status: status == "failed")
        return id

    @cached_property
    def release(self) -> str:
        """A run of 30 steps, some of which fail."""
        return self.start("release", version="4.2.0")


SCREENS: dict[str, Callable[[Shop], str]] = {
    "overview": lambda shop: "",
    "tasks": lambda shop: "ui/tasks",
    "failed tasks": lambda shop: "ui/tasks?q=status:failed",
    "failed task": lambda shop: f"ui/tasks/{shop.failed}",
    "completed task": lambda shop: f"ui/tasks/{shop.synced}?tab=result",
    "running task": lambda shop: f"ui/tasks/{shop.running}",
    "runs": lambda shop: "ui/runs",
    "run": lambda shop: f"ui/runs/{shop.approval}?step=charge",
    "timeline of a run": lambda shop: f"ui/runs/{shop.undone}?view=timeline",
    "workflows": lambda shop: "ui/workflows",
    "workflow": lambda shop: f"ui/workflows/{shop.workflow_id('order')}",
    "schedules": lambda shop: "ui/schedules",
    "schedule": lambda shop: "ui/schedules/heartbeat",
    "queues": lambda shop: "ui/queues",
    "queue": lambda shop: "ui/queues/payments",
    "workers": lambda shop: "ui/workers?worker=1",
    "events": lambda shop: "ui/events",
    "database": lambda shop: "ui/database",
    "audit": lambda shop: "ui/audit",
    "no such page": lambda shop: "ui/nothing",
}
