"""What the database knows about why a task waits."""

from __future__ import annotations

from qw.core.why import reasons
from qw.store import why
from qw.store.connection import Connection
from tests.given import enqueued, new_task, registered


async def test_losses_are_told_apart_from_crashes(conn: Connection) -> None:
    [id] = await enqueued(conn, new_task("noop"))
    for fence, death in enumerate(("silent", "crashed", "silent", "survived"), 1):
        worker = await registered(conn)
        await conn.execute("update qw.worker set dead_at = now(), death = %s where id = %s", [death, worker])
        await conn.execute(
            "insert into qw.attempt (task_id, fence, outcome, attempt, worker) values (%s, %s, 'worker_died', 1, %s)",
            [id, fence, worker],
        )

    facts = await why.facts(conn, id)

    assert facts is not None
    assert facts.losses == 3
    assert "lost" in [reason.code for reason in reasons(facts)]


async def test_the_last_attempt_tells_that_a_payload_did_not_fit(conn: Connection) -> None:
    [id] = await enqueued(conn, new_task("noop"))
    await conn.execute(
        "insert into qw.attempt (task_id, fence, outcome, attempt, worker, error)"
        " values (%s, 1, 'misfit', 1, 7, 'locale: Extra inputs are not permitted')",
        [id],
    )

    facts = await why.facts(conn, id)

    assert facts is not None
    [text] = [reason.text for reason in reasons(facts) if reason.code == "misfit"]
    assert "worker 7" in text
