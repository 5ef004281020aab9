"""The handlers that a daemon serves: the built-in ones, configured from the settings, and the user's."""

from __future__ import annotations

import glob
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from uuid import UUID

from qw.config import Settings
from qw.core.event.webhook import Webhook
from qw.core.task.after import AfterStatus, When
from qw.core.task.command import CommandSpec
from qw.core.task.handler_api import Context, Recorded, Reject
from qw.core.workflow import parse_workflow
from qw.definitions import Definitions
from qw.definitions.commands import parse_command
from qw.definitions.webhooks import parse_webhook
from qw.handlers import Handlers
from qw.handlers.command import CommandOptions, add_command
from qw.handlers.compensation import add_compensation
from qw.handlers.data import DataOptions, add_data_processing
from qw.handlers.egress import Egress
from qw.handlers.http_request import HttpOptions, add_http_request
from qw.handlers.invoice import (
    GivenNumber,
    InvoiceOptions,
    MailOptions,
    OrdersOptions,
    PdfOptions,
    Seller,
    add_create_invoice,
    add_fetch_orders,
    add_generate_pdf,
    add_send_email,
    read_seller,
)
from qw.handlers.noop import add_noop
from qw.handlers.secrets import Reveal, Revealed, SecretReader, no_secrets
from qw.services.events.webhooks import Signer, receiver
from qw.services.execution.context import AttemptContext, ConnectionSource
from qw.services.upkeep.artifacts import ArtifactFolders
from qw.store import applied, invoices, runs


class StoredRecords:
    """`qw.core.task.handler_api.Records`, backed by the database."""

    def __init__(self, pool: ConnectionSource) -> None:
        self._pool = pool

    async def completed_of_run(self, run_id: UUID) -> Sequence[Recorded]:
        async with self._pool.connection() as conn:
            return await runs.completed_of_run(conn, run_id)

    async def completed_task(self, task_id: UUID) -> Recorded | None:
        async with self._pool.connection() as conn:
            return await runs.completed_task(conn, task_id)


class StoredNumbers:
    """`qw.handlers.invoice.Numbers`, backed by the database."""

    def __init__(self, pool: ConnectionSource) -> None:
        self._pool = pool

    async def take(self, context: Context, seller: Seller) -> GivenNumber:
        async with context.connection() as conn:
            row = await invoices.take(conn, context.task_id, series=seller.series, zone=seller.timezone)
        return _given(row)

    async def take_back(self, invoiced: UUID, by: UUID, seller: Seller) -> GivenNumber | None:
        async with self._pool.connection() as conn:
            row = await invoices.credit(conn, invoiced, by=by, zone=seller.timezone)
        return _given(row) if row else None


def _given(row: invoices.NumberRow) -> GivenNumber:
    return GivenNumber(year=row.year, number=row.number, at=row.given_at)


def stored_commands(pool: ConnectionSource) -> Callable[[str], Awaitable[CommandSpec | None]]:
    """Return a function that looks up applied commands by name."""

    async def look_up(name: str) -> CommandSpec | None:
        async with pool.connection() as conn:
            document = await applied.one(conn, "command", name)
        return parse_command(name, document, lambda path: f"commands.{name}.{path}") if document is not None else None

    return look_up


async def _come_after(context: Context, ids: Sequence[UUID], when: When) -> Mapping[UUID, AfterStatus]:
    assert isinstance(context, AttemptContext)
    return await context.come_after(ids, when)


def stored_webhooks(pool: ConnectionSource) -> Callable[[str], Awaitable[Webhook | None]]:
    """Return a function that looks up applied webhooks by name."""

    async def look_up(name: str) -> Webhook | None:
        async with pool.connection() as conn:
            document = await applied.one(conn, "webhook", name)
        return parse_webhook(name, document, lambda path: f"webhooks.{name}.{path}") if document is not None else None

    return look_up


def step_secrets(pool: ConnectionSource, reader: Callable[[], SecretReader]) -> Reveal:
    """Return a function that reads the secrets of a step, as declared in the definition to which its run is pinned.

    A task cannot name sources itself, because anyone who may enqueue tasks could then read any variable.
    """

    async def reveal(context: Context) -> Revealed:
        if context.run_id is None:
            return await no_secrets(context)
        async with pool.connection() as conn:
            (run,) = await runs.get(conn, [context.run_id]) or (None,)
            documents = await runs.documents(conn, [run.version]) if run else {}
        if run is None:
            raise Reject("secrets: the run of this step is gone")
        workflow = parse_workflow(run.workflow, documents[run.version])
        work = workflow.work(context.step_id or "")
        if work is None:
            raise Reject(f"secrets: the workflow has no step {context.step_id} any more")
        return await reader().reveal(work.secrets, workflow.secrets)

    return reveal


def secret_reader(settings: Settings, is_allowed: bool, definitions: Sequence[Definitions]) -> SecretReader:
    """Reads the sources that the daemon's files and settings name; any source, if commands could read it anyway."""
    own = [
        secret
        for definition in definitions
        for workflow in definition.workflows.values()
        for secret in workflow.secrets.values()
    ]
    named = (*settings.secret_sources, *(glob.escape(secret.place) for secret in own))
    return SecretReader(environ=os.environ, allowed=None if is_allowed else named)


def built_in(
    settings: Settings,
    commands: Mapping[str, CommandSpec],
    pool: ConnectionSource,
    webhooks: Mapping[str, Webhook],
    artifacts: ArtifactFolders,
    definitions: Callable[[], Sequence[Definitions]] = tuple,
) -> tuple[Handlers, Callable[[], Awaitable[None]]]:
    """The built-in handlers, and a function that closes their connections."""
    app = Handlers()
    add_noop(app)
    allowed = settings.is_private if settings.allow_commands is None else settings.allow_commands
    reveal = step_secrets(pool, lambda: secret_reader(settings, allowed, definitions()))
    http = HttpOptions(
        egress=Egress.allowing(*settings.http_allow),
        base_url=settings.http_base_url,
        sign=Signer(webhooks, os.environ, stored_webhooks(pool)),
        exempt=partial(receiver, webhooks),
        reveal=reveal,
        come_after=_come_after,
    )
    close = add_http_request(app, http)
    commanding = CommandOptions(
        allowed=allowed,
        commands=commands,
        stored=stored_commands(pool),
        come_after=_come_after,
        inherited=settings.command_env,
        artifacts=partial(artifacts.folder, pool),
        reveal=reveal,
    )
    add_command(app, commanding)
    add_data_processing(app, DataOptions(directory=settings.data_dir))
    add_fetch_orders(app, OrdersOptions(orders=settings.orders_url))
    seller = read_seller(settings.seller)
    add_create_invoice(app, InvoiceOptions(directory=settings.output_dir, numbers=StoredNumbers(pool), seller=seller))
    pdf = PdfOptions(
        directory=settings.output_dir,
        service_url=settings.pdf_url,
        seller=seller,
        with_xml=settings.e_invoices,
        font=settings.invoice_font,
    )
    add_generate_pdf(app, pdf)
    mail = MailOptions(directory=settings.output_dir, url=settings.email_url, sender=settings.mail_from)
    add_send_email(app, mail)
    add_compensation(app, StoredRecords(pool))
    return app, close
