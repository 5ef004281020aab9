"""The series of invoice numbers, on a real database: whatever fails, dies or waits, it has no hole and no repeat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from qw.config import Settings
from qw.core.task import NewTask
from qw.core.task.handler_api import Context, Retry
from qw.daemon.handlers import StoredNumbers, built_in
from qw.handlers import Handlers
from qw.handlers.invoice import InvoiceOptions, add_create_invoice
from qw.services.upkeep.artifacts import ArtifactFolders
from qw.services.upkeep.promoter import LONG_AGO
from qw.store import claims, invoices
from qw.store.connection import Connection, connect
from qw.store.ids import new_id
from tests.given import column, new_task, value
from tests.services.workshop import Workshop, workshop

ORDERS = {"customerId": "c", "orders": [{"id": "o", "totalAmount": 5}]}
NUMBERS = "select number from qw.invoice_number order by number"


class LatePool:
    """That of a workshop which is not open yet."""

    shop: Workshop

    def connection(self) -> Any:
        return self.shop.pool.connection()


@asynccontextmanager
async def invoicing(url: str, around: Callable[[Context], Awaitable[None]] | None = None) -> AsyncIterator[Workshop]:
    """A worker whose attempts do *around* when they have their number."""
    app, pool = Handlers(), LatePool()
    add_create_invoice(app, InvoiceOptions(directory=Path(), numbers=StoredNumbers(pool)))
    if around:

        @app.middleware
        async def after(context: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
            result = await call_next()
            await around(context)
            return result

    async with workshop(url, app) as shop:
        pool.shop = shop
        yield shop


def wanted(n: int) -> list[NewTask]:
    return [new_task("create_invoice", payload=ORDERS, max_retries=50) for _ in range(n)]


async def numbers_told(shop: Workshop) -> list[str]:
    """By the invoices that were made."""
    return await column(shop.conn, "select result -> 'invoice' ->> 'invoiceNumber' from qw.finished order by 1")


async def all_completed(conn: Connection) -> bool:
    return bool(await value(conn, "select count(*) = (select count(*) from qw.task) from qw.finished"))


async def work_off(shop: Workshop) -> None:
    """Until every task is completed, retries without their delay."""
    async with asyncio.timeout(120):
        while not await all_completed(shop.conn):
            await shop.conn.execute("update qw.scheduled set run_at = statement_timestamp()")
            await claims.promote(shop.conn, cursor=LONG_AGO, limit=100)
            await shop.claim()
            await shop.settle()


async def test_two_workers_and_failing_attempts_leave_no_hole(url: str) -> None:
    failed: set[UUID] = set()

    async def fail_once(context: Context) -> None:
        if context.task_id.int % 3 and context.task_id not in failed:
            failed.add(context.task_id)
            raise Retry("after the number was taken")

    async with invoicing(url, fail_once) as one, invoicing(url, fail_once) as other:
        await one.enqueue(*wanted(30))
        await asyncio.gather(work_off(one), work_off(other))
        year = await value(one.conn, "select year from qw.invoice_series")
        told = await numbers_told(one)

    assert len(failed) > 5
    assert told == [f"INV-{year}-{n:05}" for n in range(1, 31)]


async def test_a_session_that_dies_with_a_number_gives_it_back(url: str) -> None:
    killed: list[int] = []

    async def kill(context: Context) -> None:
        """The session that holds the number, from outside."""
        if len(killed) < 3:
            async with await connect(url, name="qw test killer") as conn:
                killed.append(await value(
                    conn,
                    "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity"
                    " where application_name = 'qw handler' and datname = current_database()",
                ))  # fmt: skip

    async with invoicing(url, kill) as shop:
        await shop.enqueue(*wanted(6))
        await work_off(shop)
        told = await numbers_told(shop)

    assert sum(killed) >= 3
    assert [number[-5:] for number in told] == [f"{n:05}" for n in range(1, 7)]


async def test_a_task_that_is_done_again_keeps_its_number(conn: Connection) -> None:
    task = new_id()

    first = await invoices.take(conn, task, series="s", zone="UTC")
    again = await invoices.take(conn, task, series="s", zone="UTC")
    other = await invoices.take(conn, new_id(), series="s", zone="UTC")

    assert first == again
    assert other.number == first.number + 1


async def test_sellers_have_series_of_their_own(conn: Connection) -> None:
    numbers = [(await invoices.take(conn, new_id(), series=series, zone="UTC")).number for series in "abab"]

    assert numbers == [1, 1, 2, 2]


async def test_a_series_begins_anew_with_the_year_of_the_seller(conn: Connection) -> None:
    await conn.execute("insert into qw.invoice_series select 's', extract(year from now() - interval '1 year'), 41")

    assert (await invoices.take(conn, new_id(), series="s", zone="UTC")).number == 1
    zones = {zone: await invoices.take(conn, new_id(), series=zone, zone=zone) for zone in ("Etc/GMT+12", "Etc/GMT-14")}
    for zone, row in zones.items():
        local = await value(conn, "select extract(year from %s at time zone %s)::int", row.given_at, zone)
        assert row.year == local


async def test_a_credit_note_has_one_number_and_frees_the_task_for_a_new_invoice(conn: Connection) -> None:
    task, undo = new_id(), new_id()
    invoice = await invoices.take(conn, task, series="s", zone="UTC")

    note = await invoices.credit(conn, task, by=undo, zone="UTC")
    again = await invoices.credit(conn, task, by=new_id(), zone="UTC")
    anew = await invoices.take(conn, task, series="s", zone="UTC")
    second = await invoices.credit(conn, task, by=undo, zone="UTC")

    assert note is not None
    assert second is not None
    assert again == note
    assert [row.number for row in (invoice, note, anew, second)] == [1, 2, 3, 4]
    assert await invoices.credit(conn, new_id(), by=undo, zone="UTC") is None


async def test_a_daemons_own_handler_gives_numbers_and_takes_them_back(url: str, tmp_path: Path) -> None:
    pool = LatePool()
    settings = Settings(database_url=url, home=tmp_path, output_dir=tmp_path)
    app, close = built_in(settings, {}, pool, {}, ArtifactFolders(tmp_path))
    async with workshop(url, app) as shop:
        pool.shop = shop
        task = await shop.run_one(new_task("create_invoice", payload=ORDERS))
        undo = await shop.run_one(new_task("compensation", payload={"originalTaskId": str(task.id)}))
        numbers = await column(shop.conn, NUMBERS)
    await close()

    assert task.status == "completed", task.error
    assert undo.status == "completed", undo.error
    assert numbers == [1, 2]


@pytest.mark.parametrize("given", [{"orders": []}, {"orders": [{"id": "o", "invoiced": True, "totalAmount": 5}]}])
async def test_what_is_not_invoiced_takes_no_number(url: str, given: dict[str, Any]) -> None:
    async with invoicing(url) as shop:
        task = await shop.run_one(new_task("create_invoice", payload={**ORDERS, **given}))

        assert task.status == "failed"
        assert await column(shop.conn, NUMBERS) == []
