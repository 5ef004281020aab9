"""Definition files that are run for real: their steps by qw's own handlers, moved on by hand."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from qw.config import load
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow import check_input
from qw.core.workflow.run import StepState
from qw.daemon.handlers import built_in
from qw.definitions import Definitions, loads
from qw.engine.advance import advance, advance_new
from qw.services.upkeep.artifacts import ArtifactFolders
from qw.store import runs
from qw.store.ids import new_id
from qw.store.runs import StoredRun
from tests.services.workshop import Workshop, workshop

SECONDS = 60.0


@dataclass(kw_only=True)
class Runner:
    """A worker with the handlers of a daemon. ``folder`` is its home."""

    shop: Workshop
    folder: Path
    artifacts: ArtifactFolders

    async def keep(self, text: str) -> Definitions:
        """Store the workflows of a file."""
        found = loads(text, "workflows.yaml")
        for workflow in found.workflows.values():
            await runs.save_workflow(self.shop.conn, workflow.name, workflow.document)
        return found

    async def run(
        self, text: str, given: JsonObject | None = None, *, name: str = "", signals: Iterable[tuple[str, Json]] = ()
    ) -> StoredRun:
        """A run of *name*, or of the first workflow in *text*, once it is over; it gets these *signals* at once."""
        found = await self.keep(text)
        workflow = found.workflows[name or next(iter(found.workflows))]
        conn, id = self.shop.conn, new_id()
        async with conn.transaction():
            assert await runs.start(conn, id, workflow.name, check_input(workflow, given or {}))
            await advance_new(conn, id)
            for signal, payload in signals:
                await runs.signal(conn, id, signal, payload, sent_by=None)
        return await self.over(id)

    async def over(self, id: UUID) -> StoredRun:
        deadline = time.monotonic() + SECONDS
        while True:
            while (await advance(self.shop.conn, limit=50))[0]:
                pass
            (run,) = await runs.get(self.shop.conn, [id])
            if run.status.is_final:
                return run
            assert time.monotonic() < deadline, await self.steps(id)
            await self.shop.claim()
            await self.shop.settle()

    async def steps(self, id: UUID) -> dict[str, StepState]:
        return {step.step_id: step for step in (await runs.steps(self.shop.conn, [id]))[id]}


@asynccontextmanager
async def runner(url: str, folder: Path, *, definitions: str = "", **environ: str) -> AsyncIterator[Runner]:
    """*definitions*: the text of the daemon's own file."""
    settings = load({"QW_HOME": str(folder), "QW_DATABASE_URL": url, "QW_ALLOW_COMMANDS": "yes", **environ})
    artifacts = ArtifactFolders(settings.artifacts_dir)
    own = [loads(definitions, "own.yaml")] if definitions else []
    shops: list[Workshop] = []

    class LatePool:
        def connection(self) -> object:
            return shops[0].pool.connection()

    app, close = built_in(settings, {}, LatePool(), {}, artifacts, lambda: own)
    async with workshop(url, app) as shop:
        shops.append(shop)
        yield Runner(shop=shop, folder=folder, artifacts=artifacts)
    await close()
