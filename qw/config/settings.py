"""The settings: one field each, with default, type and description."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from qw.config import values as read
from qw.config.values import LogFormat, LogLevel, Token, Transport
from qw.core.event import EventFormat
from qw.core.switch import switch
from qw.core.worker_slots import LARGEST


class Origin(StrEnum):
    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


def default_home(environ: Mapping[str, str]) -> Path:
    """``/var/lib/qw`` for root and for users without a home directory, else ``qw`` in the user's data directory."""
    data = Path(os.path.expanduser(environ.get("XDG_DATA_HOME") or "~/.local/share"))
    if os.geteuid() == 0 or not data.is_absolute():
        return Path("/var/lib/qw")
    return data / "qw"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _setting(
    about: str,
    read: Callable[[object], Any],
    default: Any = None,
    *,
    also: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """A field with metadata for `load`: additional environment variables (*also*), and whether it is a *secret*."""
    metadata = {"about": about, "read": read, "also": also, "secret": secret}
    if callable(default):
        return field(default_factory=default, metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of qw; durations are timedeltas. ``origins``: where each setting that is not a default was set."""

    database_url: str | None = _setting(
        "PostgreSQL URL; empty: libpq's PG* variables; unset: a private PostgreSQL",
        read.database,
        also=("DATABASE_URL",),
        secret=True,
    )
    listen_url: str | None = _setting(
        "direct PostgreSQL URL for LISTEN and heartbeats, needed when database_url points to a pooler",
        read.database,
        secret=True,
    )
    wait_for_database: timedelta | None = _setting(
        "how long a starting daemon waits for the database; unset: no limit", read.duration("0s")
    )
    check_tasks: bool = _setting(
        "refuse to enqueue tasks of a type that no worker has registered, and payloads that do not fit its schema",
        switch,
        True,
    )
    home: Path = _setting(
        "directory of the private PostgreSQL and of qw's own files", read.path, lambda: default_home(os.environ)
    )
    pg_bin: Path | None = _setting("directory with the PostgreSQL binaries for the private database", read.path)

    concurrency: int = _setting(
        "maximum number of async handlers running at once, per daemon", read.whole(1, LARGEST["async"]), 100
    )
    threads: int = _setting(
        "maximum number of synchronous handlers (threads) running at once, per daemon",
        read.whole(1, LARGEST["thread"]),
        32,
    )
    command_slots: int = _setting(
        "maximum number of commands and process handlers running at once, per daemon",
        read.whole(1, LARGEST["process"]),
        _cores,
    )
    queues: tuple[str, ...] = _setting(
        "queues this daemon takes tasks from, comma-separated; empty: all queues", read.listed(read.name), ()
    )
    lease: timedelta = _setting(
        "how long a worker keeps its tasks without a heartbeat", read.duration("2s"), timedelta(seconds=15)
    )
    heartbeat: timedelta = _setting(
        "interval between heartbeats of a worker", read.duration("100ms"), timedelta(seconds=1)
    )
    tick: timedelta = _setting(
        "polling interval; catches missed notifications", read.duration("50ms"), timedelta(seconds=1)
    )
    grace: timedelta = _setting(
        "how long running tasks may take to finish at shutdown", read.duration("0s"), timedelta(seconds=30)
    )
    retention_completed: timedelta = _setting(
        "how long completed tasks are kept", read.duration("0s"), timedelta(days=7), also=("QW_RETENTION",)
    )
    retention_failed: timedelta = _setting(
        "how long failed and cancelled tasks are kept",
        read.duration("0s"),
        timedelta(days=30),
        also=("QW_RETENTION",),
    )
    idempotency_retention: timedelta = _setting(
        "how long an idempotency key is remembered", read.duration("1m"), timedelta(days=7)
    )

    allow_commands: bool | None = _setting(
        "run commands defined in the database; unset: only with the private database", switch
    )
    command_env: tuple[str, ...] = _setting(
        "environment variables passed to commands in addition to PATH, HOME, LANG and similar: NAME or NAME_*",
        read.listed(read.variable),
        (),
    )
    secret_sources: tuple[str, ...] = _setting(
        "variables (NAME, NAME_*) and files (/run/secrets/*) that secrets: of applied workflows may come from; needed "
        "where commands defined in the database are not allowed",
        read.listed(read.secret_source),
        (),
    )
    http_allow: tuple[str, ...] = _setting(
        "private networks and hosts that http_request may call", read.listed(read.network), ()
    )
    http_base_url: str | None = _setting("base URL for relative URLs of http_request", read.url("http", "https"))
    data_dir: Path | None = _setting(
        "directory of the files for data_processing; unset: the bundled samples", read.path
    )
    output_dir: Path = _setting(
        "directory for PDFs and unsent mail; unset: output below home",
        read.path,
        lambda: default_home(os.environ) / "output",
    )
    artifacts_dir: Path = _setting(
        "directory of the files that steps of a run share; several hosts: a shared one; unset: artifacts below home",
        read.path,
        lambda: default_home(os.environ) / "artifacts",
    )
    orders_url: str | None = _setting(
        "source of orders, a URL or a file; unset: the bundled samples", read.orders, also=("ORDERS_URL",), secret=True
    )
    seller: Path | None = _setting(
        "TOML file with the name, address, tax id and bank of who sends invoices; unset: a demo seller", read.path
    )
    e_invoices: bool = _setting("embed the invoice as XML in its PDF (PDF/A-3, Factur-X by EN 16931)", switch, False)
    invoice_font: Path | None = _setting("TrueType font (.ttf) of PDF invoices; unset: DejaVu Sans", read.path)
    pdf_url: str | None = _setting(
        "service that renders PDFs; unset: built-in renderer",
        read.url("http", "https"),
        also=("PDF_PROCESSOR_URL",),
        secret=True,
    )
    email_url: str | None = _setting(
        "HTTP service or SMTP server that sends mail; unset: mail is written to output_dir/outbox",
        read.url("http", "https", "smtp", "smtps"),
        also=("EMAIL_SERVICE_URL",),
        secret=True,
    )
    mail_from: str = _setting("sender address of mail", read.address, "qw@localhost")

    host: str = _setting(
        "address HTTP listens on; addresses other than loopback require api_tokens", read.host, "127.0.0.1"
    )
    port: int = _setting("port HTTP listens on", read.port, 3030, also=("PORT",))
    api_tokens: tuple[Token, ...] = _setting(
        "HTTP access tokens: name:role:secret, …; roles: viewer, operator, admin", read.tokens, (), secret=True
    )
    cors_origins: tuple[str, ...] = _setting(
        "web origins allowed to call the API from a browser", read.listed(read.origin), ()
    )
    hide_payloads: bool = _setting(
        "leave payloads, results, inputs and outputs out of HTTP answers and of the dashboard", switch, False
    )
    access_log: bool = _setting("log one line per HTTP request", switch, False)
    seeder: bool = _setting("enable the routes that fill and empty the database (for demos)", switch, False)
    unhealthy_failed: int = _setting(
        "report the queue as unhealthy at this number of failed tasks", read.whole(1, 10**9), 50
    )
    unhealthy_pending: int = _setting(
        "report the queue as unhealthy at this number of pending tasks", read.whole(1, 10**9), 500
    )
    overloaded_failed: int = _setting(
        "report the queue as overloaded above this number of failed tasks", read.whole(0, 10**9), 20
    )
    overloaded_pending: int = _setting(
        "report the queue as overloaded above this number of pending tasks", read.whole(0, 10**9), 200
    )
    broker: Transport | None = _setting(
        "broker that events are published to: none, postgres, rabbitmq, nats or redis; unset: none",
        read.transport,
        also=("MESSAGING_TRANSPORT",),
    )
    broker_url: str | None = _setting(
        "URL of the broker; unset: the broker's own variables, else localhost", read.broker_url, secret=True
    )
    rabbitmq_url: str | None = _setting(
        "URL of RabbitMQ, used when it is the broker", read.url("amqp", "amqps"), also=("RABBITMQ_URL",), secret=True
    )
    rabbitmq_queue: str = _setting(
        "RabbitMQ queue for events in the nest format", read.line, "task-queue", also=("RABBITMQ_QUEUE",)
    )
    nats_servers: str | None = _setting(
        "URLs of NATS, comma-separated, used when it is the broker",
        read.nats_servers,
        also=("NATS_SERVERS",),
        secret=True,
    )
    redis_url: str | None = _setting(
        "URL of Redis, used when it is the broker",
        read.url("redis", "rediss", "unix"),
        also=("REDIS_URL",),
        secret=True,
    )
    event_format: EventFormat = _setting(
        "format of events: cloudevents or nest", read.one_of(EventFormat), EventFormat.CLOUDEVENTS
    )
    events: tuple[str, ...] = _setting(
        "event types to publish, such as task.*; unset: all except task.started and task.progressed",
        read.listed(read.event_types),
        (),
    )
    event_log: timedelta | None = _setting(
        "retention of the event log; 0: no log; unset: one day, if the log is in use or postgres is the broker",
        read.duration("0s"),
    )
    consume: bool = _setting("accept commands from the broker", switch, False)
    command_queue: str = _setting(
        "queue that commands are read from", lambda value: read.name(read.line(value)), "qw.commands"
    )

    log_format: LogFormat | None = _setting(
        "log format, text or json; unset: text on a terminal, else json", read.one_of(LogFormat)
    )
    log_level: LogLevel = _setting("log level: debug, info, warning or error", read.one_of(LogLevel), LogLevel.INFO)

    origins: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_private(self) -> bool:
        """Whether the private PostgreSQL is used, because no database URL is set."""
        return self.database_url is None
