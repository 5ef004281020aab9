"""The handlers a daemon serves: those that come with qw, set up from the settings, and the user's own."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from uuid import UUID

from qw.config import Settings
from qw.core.event.webhook import Webhook
from qw.core.task.command import Command
from qw.core.task.handler_api import Recorded
from qw.definitions.commands import parse_command
from qw.definitions.webhooks import parse_webhook
from qw.handlers import Handlers
from qw.handlers.command import CommandOptions, add_command
from qw.handlers.compensation import add_compensation
from qw.handlers.data import DataOptions, add_data_processing
from qw.handlers.egress import Egress
from qw.handlers.http_request import HttpOptions, add_http_request
from qw.handlers.invoice import (
    InvoiceOptions,
    MailOptions,
    OrdersOptions,
    PdfOptions,
    add_create_invoice,
    add_fetch_orders,
    add_generate_pdf,
    add_send_email,
)
from qw.handlers.noop import add_noop
from qw.services.events.webhooks import Signer, receiver
from qw.services.execution.context import Connections
from qw.services.upkeep.artifacts import ArtifactFolders
from qw.store import applied, runs


class StoredRecords:
    """`qw.core.task.handler_api.Records`, from the database."""

    def __init__(self, pool: Connections) -> None:
        self._pool = pool

    async def completed_of_run(self, run_id: UUID) -> Sequence[Recorded]:
        async with self._pool.connection() as conn:
            return await runs.completed_of_run(conn, run_id)

    async def completed_task(self, task_id: UUID) -> Recorded | None:
        async with self._pool.connection() as conn:
            return await runs.completed_task(conn, task_id)


def stored_commands(pool: Connections) -> Callable[[str], Awaitable[Command | None]]:
    """What looks up the commands that were applied, by their names."""

    async def look_up(name: str) -> Command | None:
        async with pool.connection() as conn:
            document = await applied.one(conn, "command", name)
        return parse_command(name, document, lambda path: f"commands.{name}.{path}") if document is not None else None

    return look_up


def stored_webhooks(pool: Connections) -> Callable[[str], Awaitable[Webhook | None]]:
    """What looks up the webhooks that were applied, by their names."""

    async def look_up(name: str) -> Webhook | None:
        async with pool.connection() as conn:
            document = await applied.one(conn, "webhook", name)
        return parse_webhook(name, document, lambda path: f"webhooks.{name}.{path}") if document is not None else None

    return look_up


def built_in(
    settings: Settings,
    commands: Mapping[str, Command],
    pool: Connections,
    webhooks: Mapping[str, Webhook],
    artifacts: ArtifactFolders,
) -> tuple[Handlers, Callable[[], Awaitable[None]]]:
    """The handlers that come with qw, and what closes the connections they keep."""
    app = Handlers()
    add_noop(app)
    http = HttpOptions(
        egress=Egress.allowing(*settings.http_allow),
        base_url=settings.http_base_url,
        sign=Signer(webhooks, os.environ, stored_webhooks(pool)),
        exempt=partial(receiver, webhooks),
    )
    close = add_http_request(app, http)
    allowed = settings.is_private if settings.allow_commands is None else settings.allow_commands
    commanding = CommandOptions(
        allowed=allowed,
        commands=commands,
        stored=stored_commands(pool),
        inherited=settings.command_env,
        artifacts=partial(artifacts.folder, pool),
    )
    add_command(app, commanding)
    add_data_processing(app, DataOptions(directory=settings.data_dir))
    add_fetch_orders(app, OrdersOptions(orders=settings.orders_url))
    add_create_invoice(app, InvoiceOptions(directory=settings.output_dir))
    add_generate_pdf(app, PdfOptions(directory=settings.output_dir, service_url=settings.pdf_url))
    mail = MailOptions(directory=settings.output_dir, url=settings.email_url, sender=settings.mail_from)
    add_send_email(app, mail)
    add_compensation(app, StoredRecords(pool))
    return app, close
