"""The settings: one field each, with its default, its unit in the type, and a line about it."""

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
from qw.core.event import Format


class Origin(StrEnum):
    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


def default_home(environ: Mapping[str, str]) -> Path:
    """``/var/lib/qw`` for root and who has no home, ``qw`` in the user's data directory for everyone else."""
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
    """A field with what `load` must know: variables besides its own (*also*), and whether it may hold a *secret*."""
    metadata = {"about": about, "read": read, "also": also, "secret": secret}
    if callable(default):
        return field(default_factory=default, metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting of qw. ``origins`` has the place of each that is not its default."""

    database_url: str | None = _setting(
        "PostgreSQL URL; empty: libpq's own variables; none: a private PostgreSQL",
        read.database,
        also=("DATABASE_URL",),
        secret=True,
    )
    listen_url: str | None = _setting(
        "direct PostgreSQL URL for LISTEN and heartbeat, where database_url is a pooler", read.database, secret=True
    )
    wait_for_database: timedelta | None = _setting(
        "how long a starting daemon waits for the database; unset: until it is there", read.lasting("0s")
    )
    home: Path = _setting("where the private PostgreSQL and its files are", read.path, lambda: default_home(os.environ))
    pg_bin: Path | None = _setting("directory of the PostgreSQL programs that run the private database", read.path)

    concurrency: int = _setting("async handlers at once, per daemon", read.whole(1, 10_000), 100)
    threads: int = _setting("plain handlers at once, per daemon", read.whole(1, 1_000), 32)
    command_slots: int = _setting("commands and process handlers at once, per daemon", read.whole(1, 1_000), _cores)
    queues: tuple[str, ...] = _setting(
        "queues a daemon serves; empty: all, new ones included", read.listed(read.name), ()
    )
    lease: timedelta = _setting("how long a silent worker keeps its tasks", read.lasting("2s"), timedelta(seconds=15))
    heartbeat: timedelta = _setting("interval of a worker's heartbeat", read.lasting("100ms"), timedelta(seconds=1))
    tick: timedelta = _setting("between two looks for work nobody told of", read.lasting("50ms"), timedelta(seconds=1))
    grace: timedelta = _setting(
        "what running tasks get to end when a daemon stops", read.lasting("0s"), timedelta(seconds=30)
    )
    retention_completed: timedelta = _setting(
        "how long completed tasks are kept", read.lasting("0s"), timedelta(days=7), also=("QW_RETENTION",)
    )
    retention_failed: timedelta = _setting(
        "how long failed and cancelled tasks are kept", read.lasting("0s"), timedelta(days=30), also=("QW_RETENTION",)
    )
    idempotency_retention: timedelta = _setting(
        "how long an idempotency key is known", read.lasting("1m"), timedelta(days=7)
    )

    allow_commands: bool | None = _setting(
        "run commands that stand in the database; unset: only in the private one", read.switch
    )
    command_env: tuple[str, ...] = _setting(
        "variables of the daemon that commands get, too, beside PATH, HOME, LANG and the like: NAME, or NAME_*",
        read.listed(read.variable),
        (),
    )
    http_allow: tuple[str, ...] = _setting(
        "private networks and hosts that http_request may call", read.listed(read.network), ()
    )
    http_base_url: str | None = _setting(
        "what a relative url of http_request is resolved against", read.url("http", "https")
    )
    data_dir: Path | None = _setting("files for data_processing; unset: the samples that come with qw", read.path)
    output_dir: Path = _setting(
        "where PDFs and unsent mail go; unset: output in home", read.path, lambda: default_home(os.environ) / "output"
    )
    orders_url: str | None = _setting(
        "where orders come from, a URL or a file; unset: samples", read.orders, also=("ORDERS_URL",), secret=True
    )
    pdf_url: str | None = _setting(
        "service that makes PDFs; unset: qw does",
        read.url("http", "https"),
        also=("PDF_PROCESSOR_URL",),
        secret=True,
    )
    email_url: str | None = _setting(
        "service or server that sends mail; unset: an outbox in output_dir",
        read.url("http", "https", "smtp", "smtps"),
        also=("EMAIL_SERVICE_URL",),
        secret=True,
    )
    mail_from: str = _setting("sender of mail", read.address, "qw@localhost")

    host: str = _setting("address that HTTP listens on; other than loopback needs api_tokens", read.host, "127.0.0.1")
    port: int = _setting("port that HTTP listens on", read.port, 3030, also=("PORT",))
    api_tokens: tuple[Token, ...] = _setting(
        "who may use HTTP: name:role:secret, …; roles viewer, operator, admin", read.tokens, (), secret=True
    )
    cors_origins: tuple[str, ...] = _setting(
        "web origins that may call the API from a browser", read.listed(read.origin), ()
    )
    access_log: bool = _setting("log a line per HTTP request", read.switch, False)
    seeder: bool = _setting("serve the routes that fill and empty the database, for demonstrations", read.switch, False)
    unhealthy_failed: int = _setting("failed tasks from which the queue is unhealthy", read.whole(1, 10**9), 50)
    unhealthy_pending: int = _setting("pending tasks from which the queue is unhealthy", read.whole(1, 10**9), 500)
    overloaded_failed: int = _setting("failed tasks above which the queue is overloaded", read.whole(0, 10**9), 20)
    overloaded_pending: int = _setting("pending tasks above which the queue is overloaded", read.whole(0, 10**9), 200)
    broker: Transport | None = _setting(
        "where events go: none, postgres, rabbitmq, nats or redis; unset: nowhere",
        read.transport,
        also=("MESSAGING_TRANSPORT",),
    )
    broker_url: str | None = _setting(
        "URL of the broker; unset: its own variables, else this machine", read.broker_url, secret=True
    )
    rabbitmq_url: str | None = _setting(
        "URL of RabbitMQ, when that is the broker", read.url("amqp", "amqps"), also=("RABBITMQ_URL",), secret=True
    )
    rabbitmq_queue: str = _setting(
        "queue that nest consumers share on RabbitMQ", read.line, "task-queue", also=("RABBITMQ_QUEUE",)
    )
    nats_servers: str | None = _setting(
        "URLs of NATS, with commas, when that is the broker", read.nats_servers, also=("NATS_SERVERS",), secret=True
    )
    redis_url: str | None = _setting(
        "URL of Redis, when that is the broker",
        read.url("redis", "rediss", "unix"),
        also=("REDIS_URL",),
        secret=True,
    )
    event_format: Format = _setting(
        "how events are written: cloudevents, or nest", read.one_of(Format), Format.CLOUDEVENTS
    )
    events: tuple[str, ...] = _setting(
        "event types that are told, such as task.*; unset: all but task.started and task.progressed",
        read.listed(read.event_types),
        (),
    )
    event_log: timedelta | None = _setting(
        "how long the event log keeps events, 0: none; unset: a day, while somebody reads it or postgres is the broker",
        read.lasting("0s"),
    )
    consume: bool = _setting("take commands from the broker", read.switch, False)
    command_queue: str = _setting(
        "queue that commands come by", lambda value: read.name(read.line(value)), "qw.commands"
    )

    log_format: LogFormat | None = _setting(
        "text or json; unset: text on a terminal, else json", read.one_of(LogFormat)
    )
    log_level: LogLevel = _setting("debug, info, warning or error", read.one_of(LogLevel), LogLevel.INFO)

    origins: Mapping[str, Origin] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_private(self) -> bool:
        """No database is named, so the private one is meant."""
        return self.database_url is None
