"""Explains why a task does not run or a run does not progress: reads the facts that `qw.core.why` judges."""

from __future__ import annotations

from uuid import UUID

from qw.client.connections import Connections
from qw.client.runs import Runs
from qw.core.errors import NotFound
from qw.core.why import Reason, RunFacts, reasons, run_reasons
from qw.store import runs, why, workers


async def why_waits(db: Connections, id: UUID) -> list[Reason]:
    """Return why a task does not run or a run does not progress, the most important reason first. Raise NotFound."""
    async with db.connection() as conn:
        facts = await why.facts(conn, id)
    if facts is not None:
        return reasons(facts)
    try:
        return run_reasons(await _run_facts(db, id))
    except NotFound:
        raise NotFound(f"there is no task or run with the id {id}") from None


async def _run_facts(db: Connections, id: UUID) -> RunFacts:
    from qw.engine.parsed_workflows import workflow_of  # imported here, because the reasons of a task do not need it

    details = await Runs(db).get(id)
    run = details.run
    async with db.connection() as conn:
        documents = await runs.documents(conn, [run.version])
        has_news, living = await why.waits_for_advance(conn, id), await workers.living(conn)
    workflow = workflow_of(run, documents[run.version])
    return RunFacts(
        id=id,
        status=run.status,
        detail=run.detail,
        error=run.error,
        needs={step.id: step.needs for step in workflow.steps},
        steps={step.step_id: step for step in details.steps},
        has_news=has_news,
        servers=len(living),
    )
