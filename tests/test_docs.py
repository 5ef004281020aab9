"""The Python code of the documentation runs as it stands there."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import qw
from qw import Filter, Status, testing
from qw.client import Client
from qw.core import errors
from qw.core.task import Policy
from qw.store import types
from qw.store.connection import Connection
from tests.services.workshop import Workshop, workshop

PAGE = (Path(__file__).parent.parent / "docs" / "tasks-in-python.md").read_text()
BLOCK = re.compile(r"(?ms)^```python\n(.*?)^```$")
MODULE, *PROGRAMS = BLOCK.findall(PAGE)
CLIENT_PAGE = (Path(__file__).parent.parent / "docs" / "python.md").read_text()
CLIENT_PROGRAMS = [
    pytest.param(program, id=f"{page}-{number}")
    for page in ("python", "connections")
    for number, program in enumerate(
        BLOCK.findall((Path(__file__).parent.parent / "docs" / f"{page}.md").read_text()), start=1
    )
]


@pytest.fixture
def greetings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of the page's first block."""
    (tmp_path / "greetings.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        yield importlib.import_module("greetings")
    finally:
        sys.modules.pop("greetings", None)


async def work(shop: Workshop, done: asyncio.Event) -> None:
    """Run what is enqueued, until *done*. Not cancelled: a connection that is opened right then would stay open."""
    while not done.is_set():
        await shop.claim()
        await shop.settle()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(1, len(PROGRAMS) + 1))
async def test_the_programs_of_the_page_about_tasks_run(program: str, greetings: Any, url: str) -> None:
    names: dict[str, Any] = {}
    exec(compile(program, "docs/tasks-in-python.md", "exec"), names)
    async with workshop(url, greetings.app) as shop:
        done = asyncio.Event()
        working = asyncio.create_task(work(shop, done))
        try:
            if inspect.iscoroutinefunction(names["main"]):
                await asyncio.wait_for(names["main"](url), 30)
            else:
                await asyncio.to_thread(names["main"], url)
        finally:
            done.set()
            await working


def test_every_block_of_the_page_about_tasks_is_one_of_these() -> None:
    assert len(PROGRAMS) == 5
    assert all("def main(url: str) -> None:" in program for program in PROGRAMS)


@pytest.mark.parametrize("program", CLIENT_PROGRAMS)
async def test_the_programs_of_the_pages_about_client_and_connections_run(
    program: str, url: str, conn: Connection
) -> None:
    await types.serve(conn, {"resize": ({"type": "object"}, Policy())})  # some worker was there before
    names: dict[str, Any] = {}
    exec(compile(program, "docs", "exec"), names)
    if inspect.iscoroutinefunction(names["main"]):
        await asyncio.wait_for(names["main"](url), 30)
    else:
        await asyncio.to_thread(names["main"], url)


async def test_the_application_of_the_page_about_handlers_runs(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = BLOCK.findall((Path(__file__).parent.parent / "docs" / "handlers.md").read_text())
    (tmp_path / "around.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    app = importlib.import_module("around")
    try:
        async with Client(url) as client, testing.worker(url, app.app) as worker:
            await app.quote.options(headers={"customer": "Ada"}).enqueue(client, "tea")
            (task,) = await worker.run_until_empty()
    finally:
        sys.modules.pop("around", None)

    assert task.result == "tea for Ada: 350"


async def test_the_application_of_the_page_for_users_of_celery_runs(
    qw_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, block, _ = BLOCK.findall((Path(__file__).parent.parent / "docs" / "from-celery.md").read_text())
    (tmp_path / "with_qw.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    shop = importlib.import_module("with_qw")
    try:
        async with Client(qw_database) as client, testing.worker(qw_database, shop.app) as worker:
            await shop.place(client)
            ended = await worker.run_until_empty(with_scheduled=True)
    finally:
        sys.modules.pop("with_qw", None)

    assert sorted(int(str(task.result)) for task in ended if task.status == "completed") == [100, 200, 300, 700, 700]


async def test_the_patterns_of_the_page_for_users_of_celery_run(
    qw_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, block = BLOCK.findall((Path(__file__).parent.parent / "docs" / "from-celery.md").read_text())
    (tmp_path / "patterns.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    patterns = importlib.import_module("patterns")
    try:
        async with Client(qw_database) as client, testing.worker(qw_database, patterns.app) as worker:
            used = asyncio.create_task(patterns.use(client))
            while not used.done():
                await worker.advance(timedelta(seconds=6))  # of the rate
                await asyncio.sleep(0.01)
            chain = await patterns.one_after_the_other.enqueue(client)
            await worker.run_until_empty(with_scheduled=True)
            await worker.advance(timedelta(seconds=30))  # of the periodic task

            assert used.result() == 6
            assert await client.result(chain.id, int) == 6
            assert "total.periodic" in {task.type for task in await client.tasks.find(Filter(status=Status.COMPLETED))}
            (cancelled,) = await client.tasks.find(Filter(status=Status.CANCELLED))
            assert (cancelled.type, cancelled.queue) == ("add", "sums")
    finally:
        sys.modules.pop("patterns", None)


async def test_the_page_about_the_client_names_verbs_that_exist(url: str) -> None:
    async with Client(url, size=1) as client:
        for namespace, verbs in re.findall(r"(?m)^\| `client\.(\w+)` \| (.*) \|$", CLIENT_PAGE):
            for verb in re.findall(r"`(\w+)`", verbs):
                assert callable(getattr(getattr(client, namespace), verb)), f"{namespace}.{verb}"


def test_every_error_can_be_imported_from_the_package_and_stands_on_the_page() -> None:
    ours = [name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)]

    for name in ours:
        assert getattr(qw, name) is getattr(errors, name)
        assert name in CLIENT_PAGE


def test_every_public_name_can_be_imported() -> None:
    assert all(getattr(qw, name) is not None for name in qw.__all__)


async def test_the_program_of_the_page_about_batches_runs(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, program = BLOCK.findall((Path(__file__).parent.parent / "docs" / "batches.md").read_text())
    (tmp_path / "search.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    search = importlib.import_module("search")
    names: dict[str, Any] = {}
    exec(compile(program, "docs/batches.md", "exec"), names)
    try:
        await names["main"](url)
        async with Client(url) as client, testing.worker(url, search.app) as worker:
            empty = await search.index.enqueue(client, search.Document(id=0, text=""))
            await worker.run_until_empty()
            counts = [
                await client.tasks.count(Filter(status=status))
                for status in (Status.COMPLETED, Status.FAILED, Status.RETRYING)
            ]
            assert [total.count for total in counts] == [1001, 0, 1]
            assert [attempt.error for attempt in await client.tasks.attempts(empty.id)] == ["no text"]
    finally:
        sys.modules.pop("search", None)
