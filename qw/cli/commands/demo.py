"""``qw demo``"""

from __future__ import annotations

import asyncio
import logging
import shlex
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qw.cli.command import Verb, verbs
from qw.cli.output.records import say
from qw.cli.settings import FLAGS
from qw.core.errors import Conflict, Invalid, QwError

if TYPE_CHECKING:
    from datetime import timedelta
    from uuid import UUID

    from qw.client import Client
    from qw.client.runs import RunDetails
    from qw.config import Settings
    from qw.core.workflow.run import StepState
    from qw.daemon.database import Database
    from qw.handlers.invoice.documents import Order

app = verbs()

CUSTOMER = "zoe"  # in the orders that come with qw
_CHECK_SECONDS = 0.05
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
    open_browser: Annotated[
        bool, typer.Option("--open", help="Show the run in the browser, until interrupted.")
    ] = False,
) -> None:
    """Start PostgreSQL and a daemon, run the sample invoice workflow, show the result, and stop again."""
    from datetime import timedelta

    from qw.cli.settings import load_settings

    if orders is not None and not orders.is_file():
        raise Invalid(f"--orders: no such file: {orders}")
    source = None if orders is None else str(orders.absolute())
    who = customer or (CUSTOMER if orders is None else _first_customer(orders))
    settings, log = _for_demo(load_settings(orders_url=source))
    try:
        done = asyncio.run(
            _demo(settings, who, keep=keep, limit=timedelta(minutes=5), alone=source is not None, shows=open_browser)
        )
    except QwError as error:
        if not isinstance(error, (Conflict, Invalid)):
            say(f"qw: the log of the demo is in {log}")
        raise
    _show(done, settings, log)
    raise typer.Exit(0 if done.is_good else 1)


@dataclass(frozen=True, kw_only=True)
class Done:
    """The outcome of the demo. ``undone`` holds the entries that the compensation recorded."""

    database: Database
    customer: str
    run: RunDetails
    undone: list[dict[str, Any]]

    @property
    def is_good(self) -> bool:
        return self.run.run.error is None and self.run.run.status == "completed"

    def result(self, type: str) -> dict[str, Any]:
        """Return the result of the step of this type; empty if there is none."""
        for step in self.run.steps:
            if step.type == type and isinstance(step.result, dict):
                return step.result
        return {}


def _for_demo(settings: Settings) -> tuple[Settings, Path]:
    """Return the settings of the demo and the file that the daemon logs to."""
    from qw.daemon.logs import move_to, set_up

    set_up(settings)
    log = settings.output_dir / "demo.log"
    move_to(log)
    logging.getLogger().handlers[0].addFilter(lambda record: "attempt_log" not in record.name)  # the demo prints them
    return replace(settings, http_allow=(*settings.http_allow, *LOOPBACK)), log


def _first_customer(file: Path) -> str:
    """Return the first customer in *file* with orders to bill. Raise Invalid if there is none."""
    from qw.handlers.invoice.orders import read_orders

    for order in read_orders(file):
        if _is_due(order) and order.customer_id is not None:
            return order.customer_id
    raise Invalid(
        f"{file}: no customer has a delivered order that is not invoiced yet; name a customer with --customer"
    )


def _is_due(order: Order) -> bool:
    return order.status == "delivered" and not order.invoiced and order.delivery_date is not None


async def _demo(settings: Settings, customer: str, *, keep: bool, limit: timedelta, alone: bool, shows: bool) -> Done:
    """Run the demo. *alone*: raise Conflict if other workers use the database, since they would bill other orders.

    *shows*: open the run in the browser and serve it until interrupted.
    """
    from qw import embedded
    from qw.client import Client
    from qw.daemon.database import ready

    _step("database", "connecting …" if settings.database_url is not None else "starting PostgreSQL …")
    database = await ready(settings)
    _step("database", f"ready: {_where(database, settings)}")
    try:
        async with Client(database.url, size=2, name="qw demo") as client:
            if alone:
                await _check_alone(client)
            _step("daemon", "starting …")
            async with _daemon(settings, database):
                _step("daemon", "ready")
                run_id = await client.runs.start("invoice", {"customerId": customer})
                _step("workflow", f"invoice for {customer}, run {run_id}")
                run = await _followed(client, run_id, limit)
                if shows:
                    await _show_in_browser(settings, database, run_id)
                return Done(database=database, customer=customer, run=run, undone=await _undone(client, run))
    finally:
        if database.started and not keep:
            await asyncio.to_thread(embedded.stop, settings.home)


async def _show_in_browser(settings: Settings, database: Database, run_id: UUID) -> None:
    """Serve the dashboard and open the run in the browser, until ^C."""
    from qw.daemon.http import open_in_browser, serving

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with serving(settings, database.url, required=True) as address:
        _step("dashboard", f"{address}ui/runs/{run_id} (stop with ^C)")
        loop.add_signal_handler(signal.SIGINT, stopped.set)
        try:
            await open_in_browser(f"{address}ui/runs/{run_id}")
            await stopped.wait()
        finally:
            loop.remove_signal_handler(signal.SIGINT)


async def _check_alone(client: Client) -> None:
    if workers := await client.workers.all():
        names = ", ".join(f"{worker.id} ({worker.host}:{worker.pid})" for worker in workers)
        raise Conflict(
            f"--orders is for the demo's own daemon, and worker {names} on the same database would bill other orders; "
            "stop it, or take another database: qw demo --home DIR --orders FILE"
        )


async def _followed(client: Client, run_id: UUID, limit: timedelta) -> RunDetails:
    """Wait for the run to end and return it; print each step as soon as it has ended."""
    waiting = asyncio.ensure_future(client.runs.wait(run_id, timeout=limit))
    shown: set[str] = set()
    print(f"\n{'step':<9}{'type':<16}{'status':<11}{'took':>8}", flush=True)
    while True:
        await asyncio.wait([waiting], timeout=_CHECK_SECONDS)
        run = await client.runs.get(run_id)
        for step in run.steps:
            if step.status.is_final and step.step_id not in shown:
                shown.add(step.step_id)
                _show_step(step)
        if waiting.done() and run.run.status.is_final:
            return await waiting


def _show_step(step: StepState) -> None:
    from qw.cli.output.text import printable
    from qw.cli.output.views import took

    error = f"  {step.error}" if step.error else ""
    print(printable(f"{step.step_id:<9}{step.type:<16}{step.status:<11}{took(step):>8}{error}"), flush=True)


@asynccontextmanager
async def _daemon(settings: Settings, database: Database) -> AsyncIterator[None]:
    """Run a daemon in this process."""
    from qw.cli.definition_files import of_start
    from qw.daemon.daemon import Daemon, DaemonOptions

    options = DaemonOptions(definitions=await of_start(database.url), http=False)
    async with Daemon(settings, database, options) as daemon:
        serving = asyncio.create_task(daemon.run())
        try:
            yield
        finally:
            daemon.hurry()
            await serving


async def _undone(client: Client, run: RunDetails) -> list[dict[str, Any]]:
    undone: list[dict[str, Any]] = []
    for step in run.steps:
        if step.type == "compensation" and step.task_id is not None:
            result = (await client.tasks.get(step.task_id)).result
            entries = result.get("compensated") if isinstance(result, dict) else None
            undone += [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return undone


# -- output


def _step(what: str, text: str) -> None:
    print(f"{what:<10}{text}", flush=True)


def _where(database: Database, settings: Settings) -> str:
    from qw import embedded

    if database.is_private:
        return f"private PostgreSQL in {embedded.place(settings.home)}"
    return "the configured database"


def _show(done: Done, settings: Settings, log: Path) -> None:
    print()
    (_show_invoice if done.is_good else _show_failure)(done)
    print()
    _show_next(done, settings, log)


def _address(settings: Settings) -> str:
    return f"http://{settings.host}:{settings.port}/"


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


def _show_next(done: Done, settings: Settings, log: Path) -> None:
    run = done.run.run.id
    print(f"All data is in {_where(done.database, settings).replace('private', 'the private')}.")
    if done.database.is_private:
        print("Any qw command starts it again.")
    print(f"The log of the daemon is in {log}.")
    from qw.cli.this_program import this_program

    print("Try next:")
    program = this_program() + (f" --home {shlex.quote(str(FLAGS['home']))}" if "home" in FLAGS else "")
    for meaning, words in (
        ("the run and its steps", f"workflow show {run}"),
        (f"the dashboard, with the run at\n  # {_address(settings)}ui/runs/{run}", "ui --open"),
        ("the tasks it made", "task list"),
        ("run a worker, in another terminal", "daemon"),
        ("a shell command as a task", "run -f -- echo hello"),
    ):
        print(f"  # {meaning}\n  {program} {words}")
