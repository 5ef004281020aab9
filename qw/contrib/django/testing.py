"""`TasksTestCase`: a test case of Django whose tasks can be run.

class ConfirmationTest(TasksTestCase):
    def test_it_is_confirmed(self):
        order = Order.objects.create(customer="Ada")

        self.run_tasks()
        self.advance(timedelta(days=1))
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from asgiref.sync import async_to_sync
from django.test import TransactionTestCase

from qw import testing
from qw.contrib import django
from qw.contrib.django.database import the_alias, url_of
from qw.core.task import Task
from qw.handlers import Handlers


class TasksTestCase(TransactionTestCase):  # type: ignore[misc]  # Django comes without types
    """A `TransactionTestCase`: what is done in a test is committed, so that a worker sees it.

    The tables of qw are empty at the start of each test. The clock of the database, which can only be moved forward,
    stays where a test has moved it; Python's does not move.
    """

    app: Handlers | None = None
    """The handlers that run; None: those of Django's tasks."""

    def setUp(self) -> None:
        super().setUp()
        testing.empty(url_of(the_alias()))

    def run_tasks(self, *, with_scheduled: bool = False) -> list[Task]:
        """Run everything that is due and what follows from it; see `qw.testing.ManualWorker.run_until_empty`."""
        return async_to_sync(self.arun_tasks)(with_scheduled=with_scheduled)

    def advance(self, by: timedelta) -> list[Task]:
        """Move the clock forward and run what becomes due; see `qw.testing.ManualWorker.advance`."""
        return async_to_sync(self.aadvance)(by)

    async def arun_tasks(self, *, with_scheduled: bool = False) -> list[Task]:
        return await self._with_worker(lambda worker: worker.run_until_empty(with_scheduled=with_scheduled))

    async def aadvance(self, by: timedelta) -> list[Task]:
        return await self._with_worker(lambda worker: worker.advance(by))

    async def _with_worker(self, act: Callable[[testing.ManualWorker], Awaitable[list[Task]]]) -> list[Task]:
        with TemporaryDirectory(prefix="qw-") as output:
            async with testing.worker(url_of(the_alias()), self.app or django.app, output=Path(output)) as worker:
                return await act(worker)
