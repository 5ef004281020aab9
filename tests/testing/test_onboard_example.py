"""`examples/onboard.py`, two weeks in a moment: with a moved clock, and workers that end in between."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from qw import Client, Handlers, testing

EXAMPLE = Path(__file__).parents[2] / "examples" / "onboard.py"


def loaded() -> Any:
    """The example as a new process imports it."""
    spec = importlib.util.spec_from_file_location("onboard", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def qw_app() -> Handlers:
    app: Handlers = loaded().app
    return app


async def test_the_trial_ends_with_an_invoice_across_three_processes(
    qw_client: Client, qw_database: str, tmp_path: Path
) -> None:
    onboard = loaded().onboard
    task = await onboard.enqueue(qw_client, "ada")

    def process() -> AbstractAsyncContextManager[testing.ManualWorker]:
        return testing.worker(qw_database, loaded().app, output=tmp_path)

    async with process() as first:
        await first.run_until_empty()
    async with process() as second:
        await second.advance(timedelta(days=14))
    await qw_client.tasks.signal(task.id, "answer", {"plan": "team", "seats": 3})
    async with process() as third:
        await third.run_until_empty()

    assert await qw_client.result(task.id, str) == "INV-3-3"
    done = {str(one.key): one.outcome for one in await qw_client.tasks.checkpoints(task.id)}
    assert done == dict.fromkeys(["create", "1.0/welcome", "1.1/welcome", "trial", "answer", "bill"], "completed")


async def test_without_an_answer_the_account_is_closed(qw_client: Client, qw_worker: testing.ManualWorker) -> None:
    task = await loaded().onboard.enqueue(qw_client, "bob")

    await qw_worker.advance(timedelta(days=18))

    assert await qw_client.result(task.id) == "closed"


async def test_the_handler_alone_can_be_called_with_a_recording_context(qw_app: Handlers) -> None:
    onboard = loaded().onboard
    context = testing.context(signals={"answer": {"plan": "solo"}}, results={"welcome": "sent", "bill": "INV"})

    assert await onboard(context, "eve") == "INV"
    assert context.sleeps == [("trial", timedelta(days=14))]
    assert [call.type for call in context.calls] == ["welcome", "welcome", "bill"]
