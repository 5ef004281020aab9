from __future__ import annotations

import pytest
from redis.asyncio import Redis

from qw.brokers import LoginRefused, Refused, SetupRefused
from qw.brokers.redis import RedisBroker
from qw.core.errors import Unavailable
from qw.core.event import EventFormat
from tests.brokers.places import told
from tests.brokers_services import private


async def test_a_server_that_is_full_or_takes_no_writes_says_so_and_is_tried_again() -> None:
    with private("redis") as server:
        broker, message = RedisBroker(server.url, format=EventFormat.CLOUDEVENTS), told()
        async with Redis.from_url(server.url) as client:
            await client.config_set("maxmemory-policy", "noeviction")
            await client.config_set("maxmemory", "1")
            with pytest.raises(Unavailable, match="maxmemory") as full:
                await broker.publish([message])
            await client.config_set("maxmemory", "0")
            await client.replicaof("127.0.0.1", 1)
            with pytest.raises(Unavailable, match=r"read only|READONLY") as read_only:
                await broker.publish([message])
            await client.replicaof("NO", "ONE")
            confirmed = await broker.publish([message])
            stored = await client.xlen("qw:events")
        await broker.close()

    assert confirmed == {message.id}
    assert stored == 1
    assert not {full.type, read_only.type} & {Refused}  # the server is to blame, and no event is blocked


async def test_what_is_in_the_place_of_the_stream_is_told() -> None:
    with private("redis") as server:
        broker = RedisBroker(server.url, format=EventFormat.CLOUDEVENTS)
        async with Redis.from_url(server.url) as client:
            await client.set("qw:events", "somebody else's")

        with pytest.raises(SetupRefused, match=r"WRONGTYPE, key qw:events is a string"):
            await broker.publish([told(), told()])
        await broker.close()


async def test_a_login_and_a_missing_right_are_told_apart() -> None:
    with private("redis") as server:
        async with Redis.from_url(server.url) as client:
            rights = ["+@connection", "+ping"]
            await client.acl_setuser("qw", enabled=True, passwords=["+pw"], keys=["qw:events"], commands=rights)
        for user, kind in (("qw:pw", SetupRefused), ("qw:wrong", LoginRefused)):
            broker = RedisBroker(server.url.replace("//", f"//{user}@"), format=EventFormat.CLOUDEVENTS)
            with pytest.raises(kind):
                await broker.publish([told()])
            await broker.close()


async def test_a_user_who_may_not_publish_on_channels_stores_each_event_once() -> None:
    with private("redis") as server:
        broker = RedisBroker(server.url.replace("//", "//qw:pw@"), format=EventFormat.CLOUDEVENTS)
        async with Redis.from_url(server.url) as client:
            rights = ["+@connection", "+evalsha", "+script|load", "+xadd", "+publish"]
            await client.acl_setuser("qw", enabled=True, passwords=["+pw"], keys=["qw:events"], commands=rights)
            await client.acl_setuser("qw", enabled=True, reset_channels=True)
            messages = [told(), told()]

            confirmed = await broker.publish(messages)
            stored = await client.xlen("qw:events")
        await broker.close()

    assert confirmed == {message.id for message in messages}
    assert stored == 2


async def test_who_listens_on_the_channel_hears_what_is_stored() -> None:
    with private("redis") as server:
        broker, message = RedisBroker(server.url, format=EventFormat.CLOUDEVENTS), told(about="resize")
        async with Redis.from_url(server.url) as client, client.pubsub() as listener:
            await listener.psubscribe("qw:task.*")
            await listener.get_message(timeout=5)

            await broker.publish([message])
            heard = await listener.get_message(timeout=5)
        await broker.close()

    assert heard is not None
    assert heard["channel"] == b"qw:task.completed.resize"
    assert heard["data"] == message.body
