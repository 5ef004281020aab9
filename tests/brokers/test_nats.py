from __future__ import annotations

import pytest

from qw.brokers.nats import NatsBroker
from qw.core.errors import Unavailable
from qw.core.event import Format
from tests.brokers.places import told
from tests.brokers_services import private


def broker(url: str) -> NatsBroker:
    return NatsBroker(url, format=Format.CLOUDEVENTS)


async def test_fault_59_wrong_credentials_are_told_without_them() -> None:
    with private("nats", "--user", "qw", "--pass", "right") as server:
        right = broker(server.url.replace("//", "//qw:right@"))
        wrong = broker(server.url.replace("//", "//qw:s3cret-word@"))
        message = told()

        with pytest.raises(Unavailable, match="Authorization Violation") as refused:
            await wrong.publish([message])
        confirmed = await right.publish([message])
        await right.close()

    assert "s3cret-word" not in str(refused.value)
    assert confirmed == {message.id}


async def test_fault_57_the_limit_of_the_server_is_known_and_one_message_over_it_harms_no_other() -> None:
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
        with pytest.raises(Unavailable, match="maximum messages exceeded"):
            await made.publish([second])
        await client.jetstream().purge_stream("QW")
        again = await made.publish([second])
        await made.close()
        await client.close()

    assert (confirmed, again) == ({first.id}, {second.id})
