from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import pytest
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from qw.brokers import LoginRefused, Refused, SetupRefused, rabbitmq
from qw.brokers.frames import publish_frames
from qw.brokers.rabbitmq import RabbitBroker
from qw.core.errors import Unavailable, Unreachable
from qw.core.event import EventFormat
from tests.brokers.places import told
from tests.brokers_services import Server, private, until
from tests.processes import free_port


def test_frames_made_by_hand_are_those_of_the_library() -> None:
    message = told(size=3000)
    written = publish_frames(7, "qw.events", message.topic, message, piece=1000)

    frames = []
    while written:
        size, channel, decoded = frame.unmarshal(written)
        assert channel == 7
        frames.append(decoded)
        written = written[size:]

    publish, header, *bodies = frames
    pieces = [body.value for body in bodies if isinstance(body, ContentBody)]
    assert isinstance(publish, Basic.Publish)
    assert (publish.exchange, publish.routing_key, publish.mandatory) == ("qw.events", message.topic, True)
    assert isinstance(header, ContentHeader)
    assert header.body_size == len(message.body)
    properties = header.properties
    assert properties.message_id == str(message.id)
    assert (properties.delivery_mode, properties.app_id, properties.message_type) == (2, "qw", message.type)
    assert properties.content_type == "application/cloudevents+json; charset=UTF-8"
    assert b"".join(pieces) == message.body
    assert len(pieces) == -(-len(message.body) // 1000)


async def test_what_comes_back_is_not_published(rabbitmq_url: str) -> None:
    name = f"qw-test-{os.urandom(5).hex()}"
    broker = RabbitBroker(rabbitmq_url, format=EventFormat.CLOUDEVENTS, exchange=name)
    await broker.open()
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(f"{name}.unrouted")  # now nobody takes anything

        with pytest.raises(Unavailable, match="their queue or binding is gone"):
            await broker.publish([told()])
        message = told()
        confirmed = await broker.publish([message])  # the topology was declared again
        await broker.close()

        await channel.queue_delete(f"{name}.unrouted")
        for exchange in (name, f"{name}.unrouted"):
            await channel.exchange_delete(exchange)
    assert confirmed == {message.id}


async def test_an_exchange_that_is_gone_is_no_fault_of_the_event(rabbitmq_url: str) -> None:
    name = f"qw-test-{os.urandom(5).hex()}"
    broker = RabbitBroker(rabbitmq_url, format=EventFormat.CLOUDEVENTS, exchange=name)
    await broker.open()
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        await channel.exchange_delete(name)
        message = told()

        with pytest.raises(SetupRefused, match=name):
            await broker.publish([message])
        confirmed = await broker.publish([message])
        await broker.close()

        await channel.queue_delete(f"{name}.unrouted")
        for exchange in (name, f"{name}.unrouted"):
            await channel.exchange_delete(exchange)
    assert confirmed == {message.id}


async def test_what_a_full_queue_refuses_is_not_published(rabbitmq_url: str) -> None:
    name = f"qw-test-{os.urandom(5).hex()}"
    broker = RabbitBroker(rabbitmq_url, format=EventFormat.CLOUDEVENTS, exchange=name)
    await broker.open()
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        arguments: Any = {"x-max-length": 1, "x-overflow": "reject-publish"}
        queue = await channel.declare_queue(f"{name}.full", exclusive=True, arguments=arguments)
        await queue.bind(name, "task.completed.full")
        await broker.publish([told(about="full")])
        await until(lambda: is_full(channel, queue.name))

        free, full = told(about="other"), told(about="full")
        confirmed = await broker.publish([free, full])
        with pytest.raises(Refused, match="is full"):
            await broker.publish([full])
        await broker.close()

        await channel.queue_delete(f"{name}.unrouted")
        for exchange in (name, f"{name}.unrouted"):
            await channel.exchange_delete(exchange)
    assert confirmed == {free.id}


async def is_full(channel: aio_pika.abc.AbstractChannel, queue: str) -> bool:
    return (await channel.declare_queue(queue, passive=True)).declaration_result.message_count == 1


async def test_a_queue_that_others_declared_with_other_arguments_is_used_as_it_is(rabbitmq_url: str) -> None:
    name = f"qw-test-{os.urandom(5).hex()}"
    broker = RabbitBroker(rabbitmq_url, format=EventFormat.NEST, queue=name)
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(name, durable=True)
        message = told()

        assert await broker.publish([message]) == {message.id}
        assert await queue.get(no_ack=True) is not None
        await broker.close()

        for made in (name, f"{name}.failed"):
            await channel.queue_delete(made)


async def test_an_exchange_that_others_declared_otherwise_is_used_as_it_is(rabbitmq_url: str) -> None:
    name = f"qw-test-{os.urandom(5).hex()}"
    broker = RabbitBroker(rabbitmq_url, format=EventFormat.CLOUDEVENTS, exchange=name)
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(name, "fanout", durable=True)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange)
        message = told()

        assert await broker.publish([message]) == {message.id}
        assert await queue.get(no_ack=True) is not None
        await broker.close()

        await channel.exchange_delete(name)
        await channel.exchange_delete(f"{name}.unrouted")
        await channel.queue_delete(f"{name}.unrouted")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # aiormq forgets to close a socket
async def test_no_contact_a_login_and_a_setup_that_are_refused_are_told_apart(rabbitmq_url: str) -> None:
    parts = urlsplit(rabbitmq_url)
    cases = [
        (f"amqp://guest:guest@127.0.0.1:{free_port()}/", Unreachable, "cannot be reached"),
        (parts._replace(netloc=f"nobody:wrong@{parts.hostname}:{parts.port}").geturl(), LoginRefused, "QW_BROKER_URL"),
        (parts._replace(path="/no-such-vhost").geturl(), SetupRefused, "no-such-vhost"),
    ]
    for url, kind, words in cases:
        broker = RabbitBroker(url, format=EventFormat.CLOUDEVENTS)
        with pytest.raises(kind, match=words):
            await broker.open()
        await broker.close()
    gc.collect()


@pytest.fixture
def server() -> Iterator[Server]:
    with private("rabbitmq") as made:
        yield made


@pytest.mark.slow
async def test_a_memory_alarm_is_a_reason_that_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = RabbitBroker(server.url, format=EventFormat.CLOUDEVENTS)
    await broker.publish([told()])

    control(server, "set_vm_memory_high_watermark", "0.000001")
    monkeypatch.setattr(rabbitmq, "TIMEOUT", 2.0)
    with pytest.raises(Unavailable, match="memory or disk alarm"):
        await broker.publish([told()])
    control(server, "set_vm_memory_high_watermark", "0.4")
    message = told()
    confirmed = await broker.publish([message])
    await broker.close()

    assert confirmed == {message.id}


def control(server: Server, *words: str) -> None:
    program = server.command[0].replace("rabbitmq-server", "rabbitmqctl")
    node = server.environment["RABBITMQ_NODENAME"]
    subprocess.run(
        [program, "-n", node, *words], check=True, capture_output=True, env={**os.environ, **server.environment}
    )
