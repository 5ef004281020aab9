"""``qw demo``"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qw.cli.command import Verb, verbs
from qw.core.errors import Invalid

if TYPE_CHECKING:
    from datetime import timedelta

    from qw.client import Client
    from qw.client.runs import RunDetails
    from qw.config import Settings
    from qw.daemon.database import Database
    from qw.handlers.invoice.documents import Order

app = verbs()

CUSTOMER = "zoe"  # of the orders that come with qw
LOOPBACK = ("127.0.0.0/8", "::1/128")


@app.command(cls=Verb, epilog="Example: qw demo --customer eleni")
def demo(
    orders: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Orders to bill (.csv or .json). Default: the sample orders.")
    ] = None,
    customer: Annotated[
        str | None, typer.Option(metavar="ID", help="Customer to bill. Default: the first one with delivered orders.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the private PostgreSQL running.")] = False,
) -> None:
    """Start PostgreSQL and a daemon, run the sample invoice workflow, show the result, and stop again."""
    from datetime import timedelta

    from qw.cli.session import load_settings

    if orders is not None and not orders.is_file():
        raise Invalid(f"--orders: no such file: {orders}")
    source = None if orders is None else str(orders.absolute())
    who = customer or (CUSTOMER if orders is None else _first_customer(orders))
    settings = _for_demo(load_settings(orders_url=source))
    done = asyncio.run(_demo(settings, who, keep=keep, limit=timedelta(minutes=5)))
    _show(done, settings)
    raise typer.Exit(0 if done.is_good else 1)


@dataclass(frozen=True, kw_only=True)
class Done:
    """What the demo did. ``undone`` is what the compensation recorded."""

    place: Database
    customer: str
    run: RunDetails
    undone: list[dict[str, Any]]

    @property
    def is_good(self) -> bool:
        return self.run.run.error is None and self.run.run.status == "completed"

    def result(self, type: str) -> dict[str, Any]:
        """The result of the step of this type; empty where there is none."""
        for step in self.run.steps:
            if step.type == type and isinstance(step.result, dict):
                return step.result
        return {}


def _for_demo(settings: Settings) -> Settings:
    from qw.config import LogLevel
    from qw.daemon.logs import set_up

    quiet = replace(settings, http_allow=(*settings.http_allow, *LOOPBACK), log_level=LogLevel.ERROR)
    set_up(quiet)
    logging.getLogger("qw.services.execution.attempt_log").setLevel(logging.CRITICAL)  # the demo shows failures itself
    return quiet


def _first_customer(file: Path) -> str:
    """The first customer in *file* with orders to bill. Raise Invalid when there is none."""
    from qw.handlers.invoice.orders import read_orders

    for order in read_orders(file):
        if _is_due(order) and order.customer_id is not None:
            return order.customer_id
    raise Invalid(
        f"{file}: no customer has a delivered order that is not invoiced yet; name a customer with --customer"
    )


def _is_due(order: Order) -> bool:
    return order.status == "delivered" and not order.invoiced and order.delivery_date is not None


async def _demo(settings: Settings, customer: str, *, keep: bool, limit: timedelta) -> Done:
    from qw import embedded
    from qw.client import Client
    from qw.daemon.database import ready

    _say("Starting PostgreSQL …")
    place = await ready(settings)
    try:
        async with _daemon(settings, place), Client(place.url, size=1, name="qw demo") as client:
            _say(f"Billing {customer} …")
            run_id = await client.runs.start("invoice", {"customerId": customer})
            run = await client.runs.wait(run_id, timeout=limit)
            return Done(place=place, customer=customer, run=run, undone=await _undone(client, run))
    finally:
        if place.started and not keep:
            await asyncio.to_thread(embedded.stop, settings.home)


@asynccontextmanager
async def _daemon(settings: Settings, place: Database) -> AsyncIterator[None]:
    """A daemon in this process."""
    from qw.cli.definition_files import of_start
    from qw.daemon.daemon import Daemon, DaemonOptions

    async with Daemon(settings, place, DaemonOptions(definitions=await of_start(place.url), http=False)) as daemon:
        serving = asyncio.create_task(daemon.run())
        try:
            yield
        finally:
            daemon.hurry()
            await serving


async def _undone(client: Client, run: RunDetails) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for step in run.steps:
        if step.type == "compensation" and step.task_id is not None:
            result = (await client.tasks.get(step.task_id)).result
            entries = result.get("compensated") if isinstance(result, dict) else None
            found += [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return found


# -- what is shown


def _say(text: str) -> None:
    import sys

    if sys.stdout.isatty():
        print(text, flush=True)


def _show(done: Done, settings: Settings) -> None:
    from qw.cli.output.tables import print_table
    from qw.cli.output.views import STEP_COLUMNS

    print()
    print_table(STEP_COLUMNS, done.run.steps)
    print()
    (_show_invoice if done.is_good else _show_failure)(done)
    print()
    _show_next(done, settings)


def _show_invoice(done: Done) -> None:
    from qw.cli.output.views import print_fields

    invoice = done.result("create_invoice").get("invoice")
    if not isinstance(invoice, dict):
        print(f"Nothing to bill: {done.customer} has no delivered orders that are not invoiced yet.")
        return
    pdf, mail = done.result("generate_pdf"), done.result("send_email")
    count = len(invoice.get("orders", []))
    print_fields(
        {
            "invoice": str(invoice["invoiceNumber"]),
            "customer": str(invoice.get("customerName") or invoice["customerId"]),
            "orders": str(count),
            "total": f"{invoice['grandTotal']:,.2f} {invoice['currency']}, of which {invoice['taxAmount']:,.2f} is tax",
            "PDF": str(pdf.get("pdfPath") or pdf.get("pdfUrl") or ""),
            "mail": str(mail.get("path") or f"sent to {mail.get('to')}"),
        }
    )


def _show_failure(done: Done) -> None:
    from qw.cli.output.text import printable

    run = done.run.run
    print(printable(f"The run is {run.status}: {run.error or 'no error was recorded'}"))
    for entry in done.undone:
        print(printable(f"  {entry.get('type')}: {entry.get('action')}"))
    if not done.undone:
        print("  no compensation was needed")


def _show_next(done: Done, settings: Settings) -> None:
    run = done.run.run.id
    where = f"the private PostgreSQL in {settings.home}" if done.place.is_private else "your database"
    print(f"All data is in {where}; any qw command starts it again." if done.place.is_private else f"It is in {where}.")
    print("Try next:")
    for command, meaning in (
        (f"qw workflow show {run}", "the run and its steps"),
        ("qw task list", "the tasks it made"),
        ("qw daemon", "run a worker, in another terminal"),
        ("qw run -f -- echo hello", "a shell command as a task"),
    ):
        print(f"  {command:<56}{meaning}")
