"""What every broker does, and what every broker does in trouble."""

from __future__ import annotations

from time import monotonic

import pytest

from qw import brokers
from qw.core.errors import Unavailable
from tests.brokers.places import Place, ids, told
from tests.brokers_services import Mood, proxied, until


async def test_what_is_published_is_there(place: Place) -> None:
    broker = place.broker()
    messages = [told() for _ in range(50)]

    confirmed = await broker.publish(messages)

    assert confirmed == {message.id for message in messages}
    await until(lambda: got(place, 50))
    bodies = await place.got()
    assert ids(bodies) == [message.id for message in messages]
    assert {body["specversion"] for body in bodies} == {"1.0"}
    assert bodies[0]["data"]["taskId"] == bodies[0]["subject"] == str(messages[0].task_id)
    await broker.close()


async def test_opening_twice_and_closing_twice_is_harmless(place: Place) -> None:
    broker = place.broker()

    await broker.open()
    await broker.open()
    await broker.close()
    await broker.close()
    message = told()
    confirmed = await broker.publish([message])
    await broker.close()

    assert confirmed == {message.id}


async def test_publishing_again_changes_no_id(place: Place) -> None:
    broker = place.broker()
    messages = [told() for _ in range(5)]

    await broker.publish(messages)
    confirmed = await broker.publish(messages)
    await broker.close()

    assert confirmed == {message.id for message in messages}
    bodies = await place.got()
    assert set(ids(bodies)) == confirmed


async def test_long_bodies_and_strange_types_arrive_whole(place: Place) -> None:
    broker = place.broker()
    long = told(size=300_000)
    strange = told(about="a..b/c:d-é." + "e" * 200)

    confirmed = await broker.publish([long, strange])
    await broker.close()

    assert confirmed == {long.id, strange.id}
    bodies = await place.got()
    assert len(bodies[0]["data"]["result"]) == 300_000
    assert bodies[1]["data"]["taskType"].startswith("a..b")


async def test_a_message_without_task_or_listener_is_taken(place: Place) -> None:
    broker = place.broker()
    lonely = told("worker.up", about="host", task_id=None)

    confirmed = await broker.publish([lonely])
    await broker.close()

    assert confirmed == {lonely.id}


async def test_a_broker_that_is_down_is_unavailable_and_then_comes_back(far_place: Place) -> None:
    async with proxied(far_place.url) as proxy:
        broker = far_place.broker(proxy.url)
        first, second, third = told(), told(), told()
        await broker.publish([first])

        proxy.mood = Mood.DOWN
        for _ in range(2):
            with pytest.raises(Unavailable):
                await broker.publish([second])
        proxy.mood = Mood.OPEN
        confirmed = await broker.publish([second, third])
        await broker.close()

    assert confirmed == {second.id, third.id}
    await until(lambda: got(far_place, 3))
    assert set(ids(await far_place.got())) == {first.id, second.id, third.id}


async def test_a_broker_that_never_answers_is_given_up_in_time(
    far_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    async with proxied(far_place.url) as proxy:
        for opened in (False, True):
            broker = far_place.broker(proxy.url)
            if opened:
                proxy.mood = Mood.OPEN
                await broker.open()
            proxy.mood = Mood.MUTE

            started = monotonic()
            with pytest.raises(Unavailable):
                await broker.publish([told()])
            took = monotonic() - started

            assert took < 30
            await broker.close()


async def test_a_lost_confirm_makes_a_duplicate_with_the_same_id(
    far_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    async with proxied(far_place.url) as proxy:
        broker = far_place.broker(proxy.url)
        await broker.open()
        message = told()

        proxy.mood = Mood.DUMB
        with pytest.raises(Unavailable):
            await broker.publish([message])
        proxy.cut()
        proxy.mood = Mood.OPEN
        confirmed = await broker.publish([message])
        await broker.close()

    assert confirmed == {message.id}
    bodies = await far_place.got()
    assert 1 <= len(bodies) <= 2
    assert set(ids(bodies)) == {message.id}


async def test_what_somebody_deleted_is_declared_again(far_place: Place) -> None:
    broker = far_place.broker()
    await broker.publish([told()])
    await far_place.destroy()
    lost = told()

    try:
        confirmed = await broker.publish([lost])
    except Unavailable:
        confirmed = await broker.publish([lost])
    await broker.close()

    assert confirmed == {lost.id}


async def test_wrong_credentials_are_told_without_them(far_place: Place) -> None:
    scheme, _, rest = far_place.url.partition("://")
    host = rest.rpartition("@")[2]
    if scheme == "nats":
        return  # this one asks nobody who he is; see test_nats.py
    broker = far_place.broker(f"{scheme}://somebody:s3cret-word@{host}")

    with pytest.raises(Unavailable) as refused:
        await broker.publish([told()])
    await broker.close()

    assert "s3cret-word" not in str(refused.value)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second of timeout instead of five."""
    from qw.brokers import nats, rabbitmq, redis

    for module in (brokers, nats, rabbitmq, redis):
        monkeypatch.setattr(module, "TIMEOUT", 1.0)


async def got(place: Place, count: int) -> bool:
    return len(await place.got()) >= count
