"""Creates the broker for events and the queue of commands, by name or by the scheme of a URL."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from qw.brokers import Broker, Inbox
from qw.brokers.calls import RemoteCaller
from qw.brokers.postgres import PostgresBroker
from qw.config import Settings
from qw.config.values import Transport
from qw.core.errors import Fault, Misconfigured
from qw.core.event import EventFormat, default_types, select
from qw.core.event.webhook import Webhook
from qw.definitions import Definitions
from qw.services.events.relay import Targets
from qw.store.events import EventLog

if TYPE_CHECKING:
    from qw.services.events.relay import Webhooks

KEPT = timedelta(hours=24)

_OF_SCHEME = {
    "amqp": Transport.RABBITMQ,
    "amqps": Transport.RABBITMQ,
    "nats": Transport.NATS,
    "tls": Transport.NATS,
    "redis": Transport.REDIS,
    "rediss": Transport.REDIS,
    "postgres": Transport.POSTGRES,
    "postgresql": Transport.POSTGRES,
}
_ON_THIS_MACHINE = {
    Transport.RABBITMQ: "amqp://guest:guest@localhost:5672/",
    Transport.NATS: "nats://localhost:4222",
    Transport.REDIS: "redis://localhost:6379/0",
}


def transport(settings: Settings) -> Transport:
    """The broker named in *settings*, or `Transport.NONE`."""
    if settings.broker_url:
        of_url = _OF_SCHEME[urlsplit(settings.broker_url).scheme.lower()]
        if settings.broker not in (None, of_url):
            message = f"is of {of_url}, and QW_BROKER says {settings.broker}"
            raise Misconfigured(Fault(path="QW_BROKER_URL", message=message))
        return of_url
    return settings.broker or Transport.NONE


def address(settings: Settings, kind: Transport) -> str:
    """The URL of the broker: as set, else from its own documented variables, else on this machine."""
    own = {
        Transport.RABBITMQ: settings.rabbitmq_url,
        Transport.NATS: settings.nats_servers,
        Transport.REDIS: settings.redis_url,
    }
    return settings.broker_url or own[kind] or _ON_THIS_MACHINE[kind]


def broker(settings: Settings) -> Broker | None:
    """An unconnected provider for the broker of *settings*. None for PostgreSQL, which is the event log."""
    kind, format = transport(settings), settings.event_format
    if kind is Transport.RABBITMQ:
        from qw.brokers.rabbitmq import RabbitBroker

        return RabbitBroker(address(settings, kind), format=format, queue=settings.rabbitmq_queue)
    if kind is Transport.NATS:
        from qw.brokers.nats import NatsBroker

        return NatsBroker(address(settings, kind), format=format)
    if kind is Transport.REDIS:
        from qw.brokers.redis import RedisBroker

        return RedisBroker(address(settings, kind), format=format)
    return None


def log_age(settings: Settings) -> timedelta | None:
    """How long relayed events are kept in the log; None: not at all. PostgreSQL as a broker needs the log."""
    if settings.event_log is None:
        return KEPT if transport(settings) is Transport.POSTGRES else None
    return settings.event_log or None


def types(settings: Settings) -> frozenset[str]:
    """The event types that the broker receives."""
    return select(settings.events, path="QW_EVENTS") if settings.events else default_types(settings.event_format)


def targets(
    settings: Settings, source: str, log: EventLog, webhooks: Webhooks | None = None, *, has_readers: bool = False
) -> Targets | None:
    """The targets of a daemon's relay; None: there are none, so no relay is started and no events are written.

    With *has_readers* (HTTP is served) and no setting to the contrary, the log is kept while it is being read.
    """
    chosen = broker(settings)
    on_demand = has_readers and settings.event_log is None and log_age(settings) is None
    is_logged = on_demand or log_age(settings) is not None
    if chosen is None and not is_logged and not (webhooks and webhooks.types):
        return None
    return Targets(
        source=source,
        broker=chosen,
        format=settings.event_format,
        types=types(settings) if chosen else frozenset(),
        log=PostgresBroker(log) if is_logged else None,
        logged=_logged(settings) if is_logged else frozenset(),
        webhooks=webhooks,
        log_on_demand=on_demand,
    )


def _logged(settings: Settings) -> frozenset[str]:
    return select(settings.events, path="QW_EVENTS") if settings.events else default_types(EventFormat.CLOUDEVENTS)


def declared(definitions: Sequence[Definitions]) -> list[Webhook]:
    return [hook for definition in definitions for hook in definition.webhooks.values()]


def inbox(settings: Settings) -> Inbox | None:
    """The source of commands; None: there is none. Refuses the name that events are published to."""
    if not settings.consume:
        return None
    kind, queue = transport(settings), settings.command_queue
    if kind not in _ON_THIS_MACHINE:
        raise Misconfigured(
            Fault(
                path="QW_CONSUME",
                message=f"{kind} cannot deliver commands; set QW_BROKER to {' or '.join(_ON_THIS_MACHINE)}",
            )
        )
    if queue in _published_to(settings):
        raise Misconfigured(
            Fault(path="QW_COMMAND_QUEUE", message=f"qw publishes its events to {queue}; choose another name")
        )
    make: Callable[..., Inbox]
    if kind is Transport.RABBITMQ:
        from qw.brokers.rabbitmq_inbox import RabbitInbox as make
    elif kind is Transport.NATS:
        from qw.brokers.nats_inbox import NatsInbox as make
    else:
        from qw.brokers.redis_inbox import RedisInbox as make
    return make(address(settings, kind), queue)


def caller(settings: Settings) -> RemoteCaller | None:
    """The dispatcher of remote types; None: the settings name no broker that supports them."""
    from qw.brokers import calls

    kind = transport(settings)
    if kind not in _ON_THIS_MACHINE:
        return None
    makers: dict[Transport, Callable[[str], RemoteCaller]] = {
        Transport.RABBITMQ: calls.RabbitCaller,
        Transport.NATS: calls.NatsCaller,
        Transport.REDIS: calls.RedisCaller,
    }
    return makers[kind](address(settings, kind))


def _published_to(settings: Settings) -> set[str]:
    from qw.brokers import rabbitmq, redis

    names = {rabbitmq.EXCHANGE, rabbitmq.UNROUTED, redis.STREAM, settings.rabbitmq_queue}
    return names | {f"{settings.rabbitmq_queue}.{rabbitmq.FAILED}"}


def quiet_logger() -> None:
    """Stop broker libraries from logging what their exceptions already say."""
    for name in ("aio_pika", "aiormq", "nats", "redis"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
