"""The full-screen view, driven by Textual's pilot in a terminal of 80 by 24."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from qw.cli.top.app import TopApp
from qw.cli.top.overview import sparkline
from qw.client import Client
from qw.core.task import Status
from tests.cli.program import Qw
from tests.e2e.terminal import terminal


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url, size=1) as made:
        yield made


@asynccontextmanager
async def shown(client: Client, tab: str = "1") -> AsyncIterator[tuple[TopApp, Pilot[None]]]:
    app = TopApp(client, seconds=0.2)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(tab)
        yield app, pilot


async def soon(pilot: Pilot[None], holds: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while True:
            answer = holds()
            if answer if isinstance(answer, bool) else await answer:
                return
            await pilot.pause(0.02)


def rows(app: TopApp) -> list[str]:
    listed = app.screen_stack[0].query_one("#rows", OptionList)
    return [str(listed.get_option_at_index(n).prompt) for n in range(listed.option_count)]


def text(app: TopApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).content)


async def test_the_overview_says_what_is_wrong_and_lists_the_queues(client: Client) -> None:
    await client.enqueue("noop", queue="mail")
    await client.queues.pause("mail", by="zoe")

    async with shown(client) as (app, pilot):
        await soon(pilot, lambda: any("mail" in row and "paused" in row and "zoe" in row for row in rows(app)))
        summary = text(app, "#summary")

    assert "No worker is running" in summary
    assert "1 task waiting" in summary
    assert all(len(line) <= 80 for line in summary.splitlines())


async def test_a_queue_is_resumed_after_a_question(client: Client) -> None:
    await client.enqueue("noop", queue="mail")
    await client.queues.pause("mail", by="zoe")

    async def is_paused() -> bool:
        return (await client.queues.all())[0].pause is not None

    async with shown(client) as (app, pilot):
        await soon(pilot, lambda: bool(app._rows.items))
        await pilot.press("p", "n")
        await pilot.press("p")
        assert "resume queue mail" in text(app, "#question")
        assert await is_paused()
        await pilot.press("y")

        async def is_resumed() -> bool:
            return not await is_paused()

        await soon(pilot, is_resumed)


async def test_a_search_finds_tasks_and_a_wrong_one_is_explained(client: Client) -> None:
    await client.enqueue("noop", queue="mail")
    await client.enqueue("noop", queue="imports")

    async with shown(client, "2") as (app, pilot):
        await soon(pilot, lambda: len(rows(app)) == 2)
        await pilot.press("slash", *"queue:mail", "enter")
        await soon(pilot, lambda: len(rows(app)) == 1)
        assert "queue:mail" in text(app, "#summary")

        await pilot.press("slash", *"x", "backspace", "backspace", *" colour:red", "enter")
        await soon(pilot, lambda: "there is no field 'colour'" in text(app, "#summary"))
        assert len(rows(app)) == 1  # what was found before stays


async def test_a_waiting_task_is_cancelled_and_then_cannot_be_again(client: Client) -> None:
    task = await client.enqueue("noop", delay=timedelta(hours=1))

    async with shown(client, "2") as (app, pilot):
        await soon(pilot, lambda: len(app._rows.items) == 1)
        await pilot.press("c", "y")

        async def is_cancelled() -> bool:
            return (await client.tasks.get(task.id)).status is Status.CANCELLED

        await soon(pilot, is_cancelled)
        await soon(pilot, lambda: bool(app._rows.items) and app._rows.items[0].status is Status.CANCELLED)
        await pilot.press("c")
        await soon(pilot, lambda: any("it is cancelled" in each.message for each in app._notifications))


async def test_enter_opens_the_page_of_a_task_with_the_reason_why_it_waits(client: Client) -> None:
    task = await client.enqueue("noop", {"customer": "zoe"}, delay=timedelta(hours=1))

    async with shown(client, "2") as (app, pilot):
        await soon(pilot, lambda: len(app._rows.items) == 1)
        await pilot.press("enter")
        await soon(pilot, lambda: str(task.id) in text(app, "#text"))
        page = text(app, "#text")
        await pilot.press("escape")
        await soon(pilot, lambda: len(app.screen_stack) == 1)

    assert "zoe" in page
    assert "due" in page


async def test_the_selected_row_stays_selected_when_others_come_above_it(client: Client) -> None:
    first = await client.enqueue("noop")

    async with shown(client, "2") as (app, pilot):
        await soon(pilot, lambda: len(app._rows.items) == 1)
        await client.enqueue("noop")
        await soon(pilot, lambda: len(app._rows.items) == 2)
        assert app._selected_name() == str(first.id)


@pytest.mark.parametrize(("tab", "nothing"), [("3", "no runs"), ("4", "no schedules"), ("5", "no workers")])
async def test_an_empty_tab_says_so(client: Client, tab: str, nothing: str) -> None:
    async with shown(client, tab) as (app, pilot):
        await soon(pilot, lambda: rows(app) == [nothing])


def test_one_frame_is_printed_for_scripts(qw: Qw) -> None:
    qw("enqueue", "noop", "-q", "mail")

    frame = qw("top", "--once")

    assert "No worker is running" in frame.out
    assert "mail" in frame.out


def test_without_a_terminal_it_says_what_to_use(qw: Qw) -> None:
    refused = qw("top")

    assert refused.code == 2
    assert "qw top --once" in refused.err


def test_q_leaves_the_terminal_as_it_was(qw: Qw) -> None:
    with terminal(qw.environ, qw.folder, columns=80) as screen:
        screen.start(f"{shlex.quote(sys.executable)} -m qw top", until="1 overview")
        screen.press("q")
        assert "back" in screen.output("echo back")


@pytest.mark.parametrize(("numbers", "bars"), [([], ""), ([0, 0], "  "), ([1, 8, 0, 4], "▁█ ▄"), ([1, 1000], "▁█")])
def test_a_sparkline_shows_the_largest_as_a_full_bar(numbers: list[int], bars: str) -> None:
    assert sparkline(numbers) == bars
