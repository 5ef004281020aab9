"""Schedules that an application declares beside its functions."""

from __future__ import annotations

import importlib
import logging
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from qw import Client, Handlers, testing
from qw.core.errors import Conflict, Invalid
from qw.core.rights import Right
from qw.daemon.registration import offer_schedules, offer_types
from qw.store.connection import connect
from qw.store.pool import Pool

DAY = timedelta(days=1)


def nightly(*crons: str) -> Handlers:
    """An application with the schedules ``s0``, ``s1``, …"""
    app = Handlers()

    @app.task()
    async def report(n: int = 0) -> int:
        return n

    for number, cron in enumerate(crons):
        app.periodic(cron, name=f"s{number}", payload={"n": number}, timezone="Europe/Berlin")(report)
    return app


async def start(pool: Pool, app: Handlers, owner: str = "app shop:app") -> None:
    """What the start of a daemon does for the schedules of its application."""
    async with pool.connection() as conn:
        await offer_types(conn, app)
    await offer_schedules(pool, app, owner=owner, by="test")


async def stored(url: str) -> dict[str, tuple[str | None, bool]]:
    async with Client(url, size=1) as client:
        return {one.name: (one.schedule.cron, one.paused_at is not None) for one in await client.schedules.page()}


async def test_a_start_stores_what_the_code_has_and_removes_what_it_has_no_more(url: str, pool: Pool) -> None:
    await start(pool, nightly("0 4 * * *", "0 5 * * *"))
    both = await stored(url)
    await start(pool, nightly("30 4 * * *"))

    assert both == {"s0": ("0 4 * * *", False), "s1": ("0 5 * * *", False)}
    assert await stored(url) == {"s0": ("30 4 * * *", False)}
    await start(pool, nightly())
    assert await stored(url) == {}


async def test_a_second_start_changes_nothing_and_a_paused_schedule_stays_paused(url: str, pool: Pool) -> None:
    await start(pool, nightly("0 4 * * *"))
    async with Client(url, size=1) as client:
        await client.schedules.pause("s0")
        before = await client.definitions.history()
        await start(pool, nightly("0 4 * * *"))
        after = await client.definitions.history()

    assert await stored(url) == {"s0": ("0 4 * * *", True)}
    assert before == after


async def test_schedules_of_others_are_neither_removed_nor_taken(url: str, pool: Pool) -> None:
    await start(pool, nightly("0 4 * * *"), owner="app other:app")
    await start(pool, nightly())

    with pytest.raises(Conflict, match="schedule s0 belongs to app other:app"):
        await start(pool, nightly("0 6 * * *"))
    assert await stored(url) == {"s0": ("0 4 * * *", False)}


async def test_a_role_that_may_only_work_starts_without_its_schedules(
    url: str, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    role = f"qw_periodic_{uuid4().hex}"
    async with await connect(url, name="qw test") as conn:
        await conn.execute(f'create role "{role}" login'.encode())
        try:
            async with Client(url, size=1) as client:
                await client.rights.grant(role, Right.WORK)
            own = Pool(re.sub(r"//[^@/]*@", f"//{role}@", url), size=1, name="qw test")
            await own.open()
            with caplog.at_level(logging.ERROR):
                await start(own, nightly("0 4 * * *"))
            await own.close()
        finally:
            await conn.execute(f'drop owned by "{role}"; drop role "{role}"'.encode())

    assert "schedules of the application not stored" in caplog.messages
    assert await stored(url) == {}


def test_what_cannot_be_a_schedule_is_refused_at_import() -> None:
    app = Handlers()

    @app.task()
    async def needs(name: str) -> None: ...

    @app.task()
    async def free() -> None: ...

    def refused(task: Any, message: str, *args: Any, **kwargs: Any) -> None:
        with pytest.raises(Invalid, match=message):
            app.periodic(*args, **kwargs)(task)

    async def plain() -> None: ...

    refused(free, r"periodic free: cron: .*hour", "0 25 * * *")
    refused(free, r"needs one of cron:, every: and at:")
    refused(free, r"periodic free: timezone", "0 4 * * *", timezone="Europe/Berln")
    refused(needs, r"periodic: needs: missing a required argument: 'name'; give", "0 4 * * *")
    refused(plain, r"plain is not a task; put @app.periodic above @app.task\(\)", "0 4 * * *")
    app.periodic("0 4 * * *")(free)
    refused(free, r"two schedules 'free'; name one", "0 5 * * *")
    assert list(app.schedules) == ["free"]


async def test_the_application_of_the_page_runs_at_its_times(
    qw_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text()
    (block,) = re.findall(r"(?ms)^```python\n# nightly.py\n(.*?)^```$", page)
    (tmp_path / "nightly.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    app = importlib.import_module("nightly").app
    sys.modules.pop("nightly")

    async with testing.worker(qw_database, app) as worker:
        early = await worker.advance(timedelta(minutes=16))
        ended = await worker.advance(DAY)

    assert sorted({str(task.result) for task in early} & {"polled eu", "polled us"}) == ["polled eu", "polled us"]
    cleaned = [str(task.result) for task in (*early, *ended) if task.type == "clean_up"]
    assert re.fullmatch(r"cleaned up at \d{4}-\d\d-\d\dT0[23]:00:00.*", cleaned[0])
