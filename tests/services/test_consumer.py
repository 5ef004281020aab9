"""Commands from a broker: what a message is to blame for, and what it is not. See tests/brokers for real brokers."""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson
import pytest

from qw.brokers import Delivery
from qw.services.execution.consumer import Consumer
from qw.store.connection import connect
from qw.store.pool import Pool
from tests.given import value


@dataclass
class MemoryInbox:
    waiting: list[Delivery]
    taken: list[Delivery] = field(default_factory=list)
    refused: list[Delivery] = field(default_factory=list)
    name: str = "memory"
    queue: str = "commands"

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def receive(self, limit: int, timeout: float) -> list[Delivery]:
        return self.waiting[:limit]

    async def take(self, delivery: Delivery) -> None:
        self.waiting.remove(delivery)
        self.taken.append(delivery)

    async def refuse(self, delivery: Delivery, reason: str) -> None:
        self.waiting.remove(delivery)
        self.refused.append(delivery)


def command(type: str, id: str) -> Delivery:
    body = orjson.dumps({"pattern": type, "data": {"taskType": type, "payload": {}}})
    return Delivery(id=id, body=body, receipt=None)


@pytest.mark.parametrize("state", ["40P01", "53100", "42501", "42703", "XX000"])
async def test_a_command_is_not_refused_for_what_it_did_not_cause(own_url: str, state: str) -> None:
    inbox = MemoryInbox([command("no_such_type", "a"), command("noop", "b")])
    async with await connect(own_url, name="qw test") as conn:
        await conn.execute(
            f"""
            create function qw.refuse() returns trigger language plpgsql as $$ begin
              raise exception 'not now' using errcode = '{state}';
            end $$;
            create trigger refuse before insert on qw.task for each row execute function qw.refuse()""".encode()
        )
        pool = Pool(own_url, size=2, name="qw test consumer")
        await pool.open()
        consumer = Consumer(pool, inbox, lambda: 1)

        await consumer.step()
        assert ([each.id for each in inbox.refused], inbox.taken, len(inbox.waiting)) == (["a"], [], 1)
        await conn.execute("drop trigger refuse on qw.task")
        await consumer.step()

        assert ([each.id for each in inbox.taken], inbox.waiting) == (["b"], [])
        assert await value(conn, "select count(*) from qw.task") == 1
        await pool.close()
