from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from qw.config import Settings, load, shown
from qw.config.values import Transport
from qw.core.errors import Misconfigured
from qw.core.event import DISPATCHING, LOUD, TYPES, EventFormat
from qw.daemon import brokers
from qw.store.events import EventLog
from qw.store.pool import Pool


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no qw.toml."""
    monkeypatch.chdir(tmp_path)


def of(**environ: str) -> Settings:
    return load(environ)


def log(url: str) -> EventLog:
    return EventLog(Pool(url, size=1, name="qw test").connection)


@pytest.mark.parametrize(
    ("environ", "kind", "address"),
    [
        ({"QW_BROKER": "rabbitmq"}, Transport.RABBITMQ, "amqp://guest:guest@localhost:5672/"),
        ({"MESSAGING_TRANSPORT": "rmq", "RABBITMQ_URL": "amqp://mq/"}, Transport.RABBITMQ, "amqp://mq/"),
        (
            {"MESSAGING_TRANSPORT": "rabbitmq", "RABBITMQ_HOST": "mq", "RABBITMQ_PORT": "5673",
             "RABBITMQ_USERNAME": "u", "RABBITMQ_PASSWORD": "p@ss", "RABBITMQ_VHOST": "/shop"},
            Transport.RABBITMQ, "amqp://u:p%40ss@mq:5673/shop",
        ),
        ({"QW_BROKER": "nats", "NATS_SERVERS": "a:4222, nats://b"}, Transport.NATS, "nats://a:4222,nats://b"),
        ({"QW_BROKER": "redis", "REDIS_HOST": "cache"}, Transport.REDIS, "redis://cache/0"),
        (
            {"QW_BROKER": "redis", "REDIS_HOST": "cache", "REDIS_PORT": "6380", "REDIS_PASSWORD": "x", "REDIS_DB": "2"},
            Transport.REDIS, "redis://:x@cache:6380/2",
        ),
        ({"QW_BROKER_URL": "amqps://mq/"}, Transport.RABBITMQ, "amqps://mq/"),
        ({"QW_BROKER_URL": "tls://n1,tls://n2"}, Transport.NATS, "tls://n1,tls://n2"),
        ({"QW_BROKER_URL": "rediss://r/1", "QW_BROKER": "redis"}, Transport.REDIS, "rediss://r/1"),
    ],
)  # fmt: skip
def test_a_broker_is_found_by_its_name_its_url_or_its_own_variables(
    environ: dict[str, str], kind: Transport, address: str
) -> None:
    settings = of(**environ)

    assert brokers.transport(settings) is kind
    assert brokers.address(settings, kind) == address
    made = brokers.broker(settings)
    assert made is not None
    assert made.name == kind.value


def test_without_a_broker_nothing_is_wanted(url: str) -> None:
    assert brokers.transport(of(RABBITMQ_URL="amqp://mq/")) is Transport.NONE
    assert brokers.targets(of(), "/qw/x", log(url)) is None
    assert brokers.targets(of(QW_BROKER="none"), "/qw/x", log(url)) is None


def test_postgres_is_the_event_log(url: str) -> None:
    goals = brokers.targets(of(QW_BROKER="postgres"), "/qw/x", log(url))

    assert goals is not None
    assert (goals.broker, goals.name) == (None, "postgres")
    assert goals.wanted == goals.logged == frozenset(TYPES) - LOUD
    assert brokers.log_age(of(QW_BROKER="postgres")) == timedelta(hours=24)


def test_the_log_can_be_kept_beside_a_broker(url: str) -> None:
    goals = brokers.targets(of(QW_BROKER="nats", QW_EVENT_LOG="2h", QW_EVENT_FORMAT="nest"), "/qw/x", log(url))

    assert goals is not None
    assert goals.name == "nats"
    assert goals.types == DISPATCHING
    assert goals.logged == frozenset(TYPES) - LOUD
    assert brokers.targets(of(QW_EVENT_LOG="0"), "/qw/x", log(url)) is None


def test_chosen_events_are_told_and_no_others(url: str) -> None:
    goals = brokers.targets(of(QW_BROKER="nats", QW_EVENTS="task.started, worker.*"), "/qw/x", log(url))

    assert goals is not None
    assert goals.wanted == {"task.started", "worker.up", "worker.lost"}


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"QW_BROKER": "kafka"}, "not one of none, postgres, rabbitmq, nats, redis"),
        ({"QW_BROKER_URL": "kafka://x"}, "starting with amqp://"),
        ({"QW_EVENTS": "task.complete"}, "did you mean 'task.completed'"),
        ({"QW_EVENT_FORMAT": "nesst"}, "did you mean 'nest'"),
        ({"RABBITMQ_HOST": "mq", "RABBITMQ_PORT": "many"}, "RABBITMQ_PORT"),
    ],
)
def test_settings_that_are_wrong_are_refused(environ: dict[str, str], complaint: str) -> None:
    with pytest.raises(Misconfigured, match=complaint):
        of(**environ)


def test_a_name_and_a_url_that_disagree_are_refused() -> None:
    with pytest.raises(Misconfigured, match="is of nats, and QW_BROKER says redis"):
        brokers.transport(of(QW_BROKER="redis", QW_BROKER_URL="nats://x"))


@pytest.mark.parametrize("queue", ["task-queue", "qw.events", "qw:events", "qw.unrouted"])
def test_commands_do_not_come_from_where_events_go(queue: str) -> None:
    with pytest.raises(Misconfigured, match="qw publishes its events to"):
        brokers.inbox(of(QW_BROKER="rabbitmq", QW_CONSUME="1", QW_COMMAND_QUEUE=queue))


def test_commands_need_a_broker_that_has_queues() -> None:
    assert brokers.inbox(of(QW_BROKER="redis")) is None
    assert brokers.inbox(of(QW_BROKER="redis", QW_CONSUME="1")) is not None
    with pytest.raises(Misconfigured, match="set QW_BROKER to"):
        brokers.inbox(of(QW_BROKER="postgres", QW_CONSUME="1"))


def test_no_password_of_a_broker_is_shown() -> None:
    settings = of(
        QW_BROKER="rabbitmq", RABBITMQ_HOST="mq", RABBITMQ_USERNAME="u", RABBITMQ_PASSWORD="s3cret",
        NATS_SERVERS="nats://a:s3cret@b", QW_BROKER_URL="amqp://u:s3cret@mq/",
    )  # fmt: skip

    assert settings.event_format is EventFormat.CLOUDEVENTS
    assert not any("s3cret" in line.value for line in shown(settings))
    assert "s3cret" not in repr(settings)
