"""A payload that does not fit a handler: during a rolling deploy it may fit the same handler of another version."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from qw.core.task import Backoff
from qw.daemon.registration import offer_types
from qw.handlers import Handlers
from qw.services.execution import worker as worker_module
from qw.store import tasks
from qw.store.connection import Connection
from tests.given import column, enqueued, expect_whole, homes, new_task
from tests.services.workshop import Workshop, workshop

NEW = {"to": "a", "locale": "de"}
AT_ONCE = Backoff(delay=timedelta(0))


def old_app(**policy: Any) -> Handlers:
    app = Handlers()

    @app.handler("mail", **{"backoff": AT_ONCE, **policy})
    async def mail(to: str) -> str:
        return "old"

    return app


def new_app() -> Handlers:
    app = Handlers()

    @app.handler("mail", backoff=AT_ONCE)
    async def mail(to: str, locale: str = "en") -> str:
        return "new"

    return app


async def announce(conn: Connection, worker: int, app: Handlers) -> None:
    """Have *worker* say which payloads it takes, as a daemon does when it registers."""
    versions = json.dumps({handler.type: handler.version for handler in app})
    await conn.execute("update qw.worker set types = '{mail}', versions = %s where id = %s", [versions, worker])


async def try_once(shop: Workshop, id: UUID) -> None:
    await shop.conn.execute(
        "with due as (delete from qw.scheduled where task_id = %s returning *) insert into qw.ready"
        " (task_id, queue, priority, attempt, retries, crashes)"
        " select task_id, queue, priority, attempt, retries, crashes from due",
        [id],
    )
    await shop.claim()
    await shop.settle()


def test_handlers_of_one_type_differ_by_the_payloads_they_take() -> None:
    old, new, same = (app.get("mail") for app in (old_app(), new_app(), old_app(timeout=7)))
    assert old is not None
    assert new is not None
    assert same is not None

    assert old.version == same.version != new.version


async def test_it_is_left_to_a_worker_with_another_version_at_no_cost(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "LEFT_SECONDS", 0.0)
    old, new = old_app(max_retries=1), new_app()
    async with workshop(url, old) as first, workshop(url, new) as second:
        await announce(first.conn, first.number, old)
        await announce(first.conn, second.number, new)
        [id] = await enqueued(first.conn, new_task("mail", payload=NEW))
        for _ in range(4):  # whoever comes first
            await try_once(first, id)
        left = await first.task(id)
        assert await homes(first.conn, id) == ["ready"]
        await try_once(second, id)
        done = await first.task(id)

        assert (left.status, left.retries, left.crashes) == ("pending", 0, 0)
        assert (done.status, done.result) == ("completed", "new")
        history = await tasks.attempts(first.conn, id)
        assert {(a.outcome, a.error) for a in history} == {
            ("misfit", "payload of mail: locale: Extra inputs are not permitted")
        }
        await expect_whole(first.conn)


async def test_for_a_moment_the_type_is_left_in_its_lane(url: str) -> None:
    old, new = old_app(), new_app()
    async with workshop(url, old) as first, workshop(url, new) as second:
        await announce(first.conn, first.number, old)
        await announce(first.conn, second.number, new)
        [id] = await enqueued(first.conn, new_task("mail", payload=NEW))
        for _ in range(3):
            await try_once(first, id)

        assert (await first.task(id)).attempt == 1


async def test_one_that_fits_no_version_fails_after_its_attempts_with_what_is_wrong(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "LEFT_SECONDS", 0.0)
    monkeypatch.setattr(worker_module, "MISFIT_PATIENCE", timedelta())
    old, new = old_app(), new_app()
    async with workshop(url, old) as first, workshop(url, new) as second:
        await announce(first.conn, first.number, old)
        await announce(first.conn, second.number, new)
        [id] = await enqueued(first.conn, new_task("mail", payload={"wrong": 1}, max_retries=2))
        await try_once(first, id)  # left to the new one
        await try_once(second, id)  # which knows that the old one has met it
        assert (await first.task(id)).retries == 1
        await try_once(first, id)

        task = await first.task(id)
        assert (task.status, task.retries) == ("failed", 2)
        assert "to: Field required" in (task.error or "")


async def test_without_another_version_it_is_parked_until_one_starts(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = old_app(max_retries=1), new_app()
    async with workshop(url, old) as first:
        await announce(first.conn, first.number, old)
        [id, other] = await enqueued(first.conn, new_task("mail", payload=NEW), new_task("mail", payload=NEW))
        await first.claim()
        await first.settle()

        parked = await first.task(id)
        assert (parked.status, parked.retries, parked.reason) == ("pending", 0, "misfit")
        assert await column(first.conn, "select outcome from qw.attempt") == ["misfit", "misfit"]
        assert [record.message for record in caplog.records] == [
            "payload fits no version of the handler; such tasks are parked"
        ]
        await expect_whole(first.conn)

        async with workshop(url, new) as second:
            await announce(first.conn, second.number, new)
            await offer_types(first.conn, new)
            await second.claim()
            await second.settle()
            assert {(await first.task(each)).result for each in (id, other)} == {"new"}


async def test_the_time_that_it_waits_doubles_and_ends(url: str) -> None:
    old = old_app(max_retries=1)
    async with workshop(url, old) as first:
        await announce(first.conn, first.number, old)
        [id] = await enqueued(first.conn, new_task("mail", payload=NEW))
        pauses = []
        for known in (0, 4, 30, 100):
            await first.conn.execute("update qw.attempt set ended_at = now() - %s * interval '1 s'", [known])
            await try_once(first, id)
            pauses += await column(
                first.conn, "select round(extract(epoch from run_at - statement_timestamp()))::int from qw.scheduled"
            )
        await first.conn.execute("update qw.attempt set ended_at = now() - interval '3 min'")
        await try_once(first, id)

        assert all(abs(pause - right) <= 3 for pause, right in zip(pauses, (5, 5, 30, 100), strict=True))
        assert (await first.task(id)).status == "failed"


async def test_a_draining_worker_with_another_version_does_not_count(url: str) -> None:
    old, new = old_app(), new_app()
    async with workshop(url, old) as first, workshop(url, old) as same, workshop(url, new) as gone:
        await announce(first.conn, first.number, old)
        await announce(first.conn, same.number, old)
        await announce(first.conn, gone.number, new)
        await first.conn.execute("update qw.worker set draining = true where id = %s", [gone.number])
        [id] = await enqueued(first.conn, new_task("mail", payload=NEW))
        await try_once(first, id)

        assert (await first.task(id)).reason == "misfit"


async def test_a_version_that_serves_another_queue_does_not_count(url: str) -> None:
    old, new = old_app(), new_app()
    async with workshop(url, old) as first, workshop(url, new) as second:
        await announce(first.conn, first.number, old)
        await announce(first.conn, second.number, new)
        await first.conn.execute("update qw.worker set queues = '{other}' where id = %s", [second.number])
        [id] = await enqueued(first.conn, new_task("mail", payload=NEW))
        await try_once(first, id)

        assert (await first.task(id)).reason == "misfit"
