from __future__ import annotations

import os
from collections.abc import AsyncIterator

import nats
import pytest
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from qw.brokers import LoginRefused, Refused, SetupRefused
from qw.brokers.nats import NatsBroker, covers
from qw.brokers.nats_inbox import NatsInbox
from qw.core.errors import Unavailable
from qw.core.event import EventFormat
from tests.brokers.places import told
from tests.brokers_services import private


def broker(url: str) -> NatsBroker:
    return NatsBroker(url, format=EventFormat.CLOUDEVENTS)


async def test_wrong_credentials_are_told_without_them() -> None:
    with private("nats", "--user", "qw", "--pass", "right") as server:
        right = broker(server.url.replace("//", "//qw:right@"))
        wrong = broker(server.url.replace("//", "//qw:s3cret-word@"))
        message = told()

        with pytest.raises(LoginRefused, match="Authorization Violation") as refused:
            await wrong.publish([message])
        confirmed = await right.publish([message])
        await right.close()

    assert "s3cret-word" not in str(refused.value)
    assert confirmed == {message.id}


async def test_the_limit_of_the_server_is_known_and_one_message_over_it_harms_no_other() -> None:
    with private("nats") as server:
        made = broker(server.url)
        await made.open()
        good, long = told(), told(size=1024 * 1024)

        assert made.max_bytes is not None
        assert 900_000 < made.max_bytes < len(long.body)
        with pytest.raises(Unavailable):
            await made.publish([long])
        assert await made.publish([good]) == {good.id}
        await made.close()


async def test_without_jetstream_the_reason_is_said() -> None:
    with private("nats") as server:
        server.stop()
        server.command = [word for word in server.command if word != "-js"]
        server.start()
        made = broker(server.url)

        with pytest.raises(Unavailable, match="nats"):
            await made.publish([told()])
        await made.close()


async def test_a_stream_that_is_full_refuses_what_is_too_much_and_says_why() -> None:
    import nats
    from nats.js.api import DiscardPolicy, StreamConfig

    with private("nats") as server:
        client = await nats.connect(server.url)
        subjects = ["qw.task.>", "qw.workflow.>", "qw.schedule.>", "qw.queue.>", "qw.worker.>"]
        config = StreamConfig(name="QW", subjects=subjects, max_msgs=1, discard=DiscardPolicy.NEW)
        await client.jetstream().add_stream(config)
        made = broker(server.url)
        first, second = told(), told()

        confirmed = await made.publish([first, second])
        with pytest.raises(Unavailable, match="maximum messages exceeded") as full:
            await made.publish([second])
        await client.jetstream().purge_stream("QW")
        again = await made.publish([second])
        await made.close()
        await client.close()

    assert (confirmed, again) == ({first.id}, {second.id})
    assert full.type is not Refused  # the stream is to blame, and no event is blocked


@pytest.mark.parametrize(
    ("wide", "narrow", "does"),
    [
        ("qw.>", "qw.task.>", True), ("qw.*.>", "qw.task.>", True), ("qw.task.>", "qw.task.>", True),
        ("qw.task.*", "qw.task.>", False), ("qw.task.completed.>", "qw.task.>", False), ("qw.r.>", "qw.task.>", False),
        ("qw.*", "qw.commands", True), ("qw.commands", "qw.*", False), (">", "a.b", True), ("a.b.>", "a.b", False),
        ("a.b", "a.b.c", False), ("a.b.c", "a.b", False),
    ],
)  # fmt: skip
def test_a_subject_covers_those_that_it_matches_all_of(wide: str, narrow: str, does: bool) -> None:
    assert covers(wide, narrow) is does


@pytest.fixture
async def jetstream(nats_url: str) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(nats_url)
    yield client.jetstream()
    await client.close()


@pytest.mark.parametrize("own_name", [True, False])
async def test_a_stream_that_covers_the_subjects_is_used_as_it_is(
    nats_url: str, jetstream: JetStreamContext, own_name: bool
) -> None:
    name = f"qw-test-{os.urandom(5).hex()}"
    theirs = name if own_name else f"{name}-theirs"
    await jetstream.add_stream(StreamConfig(name=theirs, subjects=[f"{name}.>"]))
    made = NatsBroker(nats_url, format=EventFormat.CLOUDEVENTS, stream=name, prefix=name)
    inbox = NatsInbox(nats_url, f"{name}.commands")
    message = told()

    assert await made.publish([message]) == {message.id}
    await inbox.open()
    await jetstream.publish(f"{name}.commands", b"{}")
    assert [each.body for each in await inbox.receive(10, 2.0)] == [b"{}"]
    await inbox.close()
    await made.close()

    info = await jetstream.stream_info(theirs)
    assert info.config.subjects == [f"{name}.>"]
    await jetstream.delete_stream(theirs)


async def test_a_stream_that_takes_a_part_of_a_subject_only_is_named(
    nats_url: str, jetstream: JetStreamContext
) -> None:
    name = f"qw-test-{os.urandom(5).hex()}"
    await jetstream.add_stream(StreamConfig(name=f"{name}-theirs", subjects=[f"{name}.task.completed.>"]))
    made = NatsBroker(nats_url, format=EventFormat.CLOUDEVENTS, stream=name, prefix=name)

    with pytest.raises(SetupRefused, match=rf"stream {name}-theirs takes a part of {name}.task.> only"):
        await made.open()

    await made.close()
    await jetstream.delete_stream(f"{name}-theirs")
