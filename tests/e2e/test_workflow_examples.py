"""The workflows in `examples/`, run by a real daemon."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from qw.client import Client
from qw.client.runs import RunDetails
from qw.core.errors import Conflict
from qw.core.task.payload import JsonObject
from tests.e2e.daemon_process import ROOT, Daemons

FILES = ("diamond", "map", "approval", "saga", "sub-workflow", "shell")


@pytest.fixture
async def client(daemons: Daemons) -> Client:
    """A client of a database on which a daemon has the examples."""
    files = [word for name in FILES for word in ("--workflows", str(ROOT / "examples" / f"{name}.yaml"))]
    daemons("--allow-commands", *files).ready()
    return Client(daemons.url, size=2)


async def ran(client: Client, name: str, given: JsonObject | None = None) -> RunDetails:
    id = await client.runs.start(name, given)
    return await client.runs.wait(id, timeout=timedelta(seconds=20))


async def test_parallel_map_sub_workflow_and_shell(client: Client) -> None:
    async with client:
        diamond = await ran(client, "diamond")
        lengths = await ran(client, "word-lengths")
        order = await ran(client, "order-with-shipping")
        orders = await ran(client, "ship-all")
        lines = await ran(client, "count-lines", {"text": "$(echo pasted)\n; rm -rf /\n"})

    assert [step.step_id for step in diamond.steps] == ["begin", "left", "right", "end"]
    assert lengths.run.output == {"count": 5}
    measured = next(step.result for step in lengths.steps if step.step_id == "measure")
    assert [one["result"] for one in measured] == [7, 4, 5, 2, 10]  # type: ignore[index,union-attr,call-overload]
    assert order.run.output == {"sent": "parcel of 4711"}
    assert orders.run.output == {"last": "parcel of 4713"}
    assert lines.run.output == {"lines": 2}


async def test_the_saga_undoes_what_it_did_in_reverse(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "trip"
    folder.mkdir()
    async with client:
        failed = await ran(client, "trip", {"folder": str(folder)})

    assert (failed.run.status, failed.run.detail) == ("failed", "compensated")
    assert (folder / "booked").read_text().split() == ["flight", "hotel"]
    assert (folder / "cancelled").read_text().split() == ["hotel", "flight"]
    assert (folder / "told").read_text().startswith("step pay: ")
    assert (folder / "how").read_text() == "failed"


async def test_the_release_waits_for_a_person_a_signal_and_a_timer(client: Client) -> None:
    async with client:
        id = await client.runs.start("release", {"version": "1.2"})
        await client.runs.signal(id, "deployed", {"version": "1.2"})
        await client.runs.approve(id, "review", by="zoe")
        with pytest.raises(Conflict):
            await client.runs.reject(id, "review", by="adam")
        done = await client.runs.wait(id, timeout=timedelta(seconds=20))

    assert done.run.output == {"version": "1.2", "approvedBy": "zoe"}
