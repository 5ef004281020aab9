from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from qw.store.pool import Pool
from tests.brokers.places import NatsPlace, Place, PostgresPlace, RabbitPlace, RedisPlace
from tests.brokers_services import nats_url, rabbitmq_url, redis_url

__all__ = ["nats_url", "rabbitmq_url", "redis_url"]

NETWORKED = ("rabbitmq", "nats", "redis")


async def started(kind: str, request: pytest.FixtureRequest) -> Place:
    name = f"qw-test-{os.urandom(5).hex()}"
    place: Place
    match kind:
        case "rabbitmq":
            place = RabbitPlace(request.getfixturevalue("rabbitmq_url"), name)
        case "nats":
            place = NatsPlace(request.getfixturevalue("nats_url"), name)
        case "redis":
            place = RedisPlace(request.getfixturevalue("redis_url"), name)
        case _:
            place = PostgresPlace(request.getfixturevalue("pool"))
    await place.start()
    return place


@pytest.fixture(params=[*NETWORKED, "postgres"])
async def place(request: pytest.FixtureRequest, pool: Pool) -> AsyncIterator[Place]:
    """Each broker in turn."""
    made = await started(request.param, request)
    yield made
    await made.close()


@pytest.fixture(params=NETWORKED)
async def far_place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """Each broker that is reached over a network of its own."""
    made = await started(request.param, request)
    yield made
    await made.close()
