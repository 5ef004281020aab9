"""Durable functions under crashes and late messages: each effect is recorded once, and nothing waits for ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qw.core.task import NewTask, Policy
from qw.core.task.ending import WorkerDied, end
from qw.core.task.handler_api import Context
from qw.handlers import Handlers
from qw.services.upkeep.promoter import LONG_AGO
from qw.store import checkpoints, claims
from qw.store.claims import EndedAttempt
from tests.given import EmptiedDatabase, expect_whole, new_task, status, value
from tests.services.workshop import Workshop, workshop

DAY = timedelta(days=1)
MOMENTS = (
    "step",
    "sleep",
    "signal",
    "call",
    "gather",
    "end",
)  # after which a worker may die, before the outcome is stored


class Killed(BaseException):
    """The process ended here: no outcome of the attempt is written."""


class Story:
    """One durable function, whose worker dies when it is told to."""

    def __init__(self, dies_at: list[str]) -> None:
        self.dies_at = list(dies_at)
        self.effects: Counter[str] = Counter()
        self.app = Handlers()

        @self.app.task()
        async def double(n: int) -> int:
            self.effects[f"double {n}"] += 1
            return 2 * n

        @self.app.handler("story", max_retries=2)
        async def story(context: Context) -> list[Any]:
            first = await context.step("first", self.act, "first")
            self.moment("step")
            try:
                await context.sleep("nap", DAY)
            finally:
                self.moment("sleep")
            try:
                answer = await context.wait_signal("answer")
            finally:
                self.moment("signal")
            try:
                called = await context.call(double, 1)
            finally:
                self.moment("call")
            try:
                gathered = await context.gather(context.call(double, 2), context.call(double, 3))
            finally:
                self.moment("gather")
            last = await context.step("last", self.act, "last")
            self.moment("end")
            return [first, answer, called, *gathered, last]

    async def act(self, what: str) -> str:
        self.effects[what] += 1
        return what

    def moment(self, name: str) -> None:
        if self.dies_at and self.dies_at[0] == name:
            self.dies_at.pop(0)
            raise Killed


class World:
    """The workers and services around one story; each method is something that may happen at any time."""

    def __init__(self, shop: Workshop, story: Story) -> None:
        self.shop, self.story = shop, story

    async def signal(self, task: NewTask) -> None:
        await checkpoints.signal(self.shop.conn, task.id, "answer", "yes", by=None)

    async def time(self) -> None:
        await self.shop.conn.execute(
            "update qw.checkpoint set due_at = due_at - interval '1 day' where outcome is null"
        )
        await self.shop.conn.execute(
            "update qw.scheduled set run_at = run_at - interval '1 day' where isfinite(run_at)"
        )
        await claims.promote(self.shop.conn, cursor=LONG_AGO, limit=100)

    async def resume(self) -> None:
        await checkpoints.resume(self.shop.conn, limit=100)

    async def run(self) -> None:
        """Claim what is ready and run it. An attempt whose worker died writes nothing; the rescuer ends it."""
        await self.shop.claim()
        async with asyncio.timeout(60):
            # not until their states say "ending": the text of an error is read in a thread after that
            while len(self.shop.outcomes) < len(self.shop.in_flight):
                await asyncio.sleep(0.001)
        dead = {ended.fence for ended in self.shop.outcomes._pending if "Killed" in (ended.ending.error or "")}
        killed = [ended for ended in self.shop.outcomes._pending if ended.fence in dead]
        for ended in killed:
            self.shop.outcomes._pending.remove(ended)
            self.shop.in_flight.pop(ended.fence)
        await self.shop.settle()
        for ended in killed:
            await self.rescue(ended)

    async def rescue(self, ended: EndedAttempt) -> None:
        [(retries, crashes)] = await (
            await self.shop.conn.execute("select retries, crashes from qw.running where task_id = %s", [ended.id])
        ).fetchall()
        died = end(WorkerDied(worker=1), retries=retries, crashes=crashes, policy=Policy(), chance=0)
        await claims.end(self.shop.conn, [ended._replace(ending=died, seconds=None)])


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    dies_at=st.lists(st.sampled_from(MOMENTS), max_size=3, unique=True).map(
        lambda some: sorted(some, key=MOMENTS.index)
    ),
    signalled_after=st.integers(0, 4),
    order=st.lists(st.sampled_from(["time", "resume", "run"]), max_size=6),
)
def test_whatever_dies_in_whatever_order_each_effect_is_recorded_once(
    emptied_database: EmptiedDatabase, dies_at: list[str], signalled_after: int, order: list[str]
) -> None:
    async def drive() -> None:
        story, task = Story(dies_at), new_task("story")
        async with workshop(emptied_database.url, story.app) as shop:
            world = World(shop, story)
            await shop.enqueue(task)
            for n, what in enumerate([*order, *["run", "time", "resume"] * 12]):
                if n == signalled_after:
                    await world.signal(task)
                await getattr(world, what)()
                if n > signalled_after and await status(shop.conn, task.id) == "completed":
                    break
            found = await shop.task(task.id)

            assert (found.status, found.error) == ("completed", None)
            assert found.result == ["first", "yes", 2, 4, 6, "last"]
            steps = await checkpoints.of_task(shop.conn, task.id)
            assert all(one.outcome == "completed" for one in steps)
            assert len({one.key for one in steps}) == len(steps) == 7
            assert await value(shop.conn, "select count(*) from qw.task") == 4
            assert all(story.effects[f"double {n}"] == 1 for n in (1, 2, 3))
            assert story.effects["first"] == story.effects["last"] == 1
            assert not shop.slots.taken
            await expect_whole(shop.conn)

    try:
        asyncio.run(drive())
    finally:
        emptied_database.empty()
