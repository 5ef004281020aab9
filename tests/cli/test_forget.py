"""``qw task forget``: what is erased, what stays, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest

from qw.store.ids import new_id
from tests.cli.program import Qw

MARK = "ann@example.com"
FLOW = """
version: 1
workflows:
  order:
    input: {email: string}
    steps:
      - {id: greet, run: 'echo hello "$EMAIL"', env: {EMAIL: "${{ input.email }}"}}
"""


@pytest.fixture
def db(url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(url, autocommit=True) as conn:
        yield conn


def enqueued(qw: Qw, *options: str, type: str = "noop", **payload: object) -> UUID:
    return qw("enqueue", type, "--payload", json.dumps(payload), *options).id


def tables_with(db: psycopg.Connection[tuple[object, ...]], text: str) -> set[str]:
    """The tables of qw with a row in which *text* stands anywhere."""
    names = [row[0] for row in db.execute("select tablename from pg_tables where schemaname = 'qw'")]
    query = "select 1 from qw.{} t where t::text like %s limit 1"
    return {str(name) for name in names if db.execute(query.format(name), [f"%{text}%"]).fetchone()}


def test_nothing_of_what_matches_is_left_and_all_else_stays(qw: Qw, db: psycopg.Connection[tuple[object, ...]]) -> None:
    db.execute("insert into qw.wanted (type) select 'task.completed' on conflict do nothing")
    mine = enqueued(qw, "--key", MARK, "--idempotency-key", MARK, customerId="ann", email=MARK)
    enqueued(qw, "--max-retries", "1", type="http_request", customerId="ann", url=f"http://127.0.0.1:1/{MARK}")
    other = enqueued(qw, customerId="bob")
    qw.drain()
    db.execute("insert into qw.task_log (task_id, attempt, level, message) values (%s, 1, 'INFO', %s)", [mine, MARK])
    db.execute("insert into qw.attempt (task_id, fence, outcome, attempt, error) values (%s, 1, 'error', 1, %s)",
               [mine, MARK])  # fmt: skip
    db.execute("update qw.finished set result = to_jsonb(%s::text) where task_id = %s", [MARK, mine])

    done = qw("task", "forget", "--match", "payload.customerId=ann", "--yes", "-o", "json")

    assert done.code == 0, done.err
    assert {"id": str(mine), "outcome": "forgotten"} in done.json
    assert tables_with(db, MARK) == set()
    shown = qw("task", "show", str(mine), "-o", "json").json
    assert (shown["status"], shown["type"], shown["payload"], shown["result"]) == ("completed", "noop", {}, None)
    assert "qw-forgotten" in shown["headers"]
    assert qw("task", "show", str(other), "-o", "json").json["payload"] == {"customerId": "bob"}


def test_a_run_is_erased_with_its_tasks(qw: Qw, db: psycopg.Connection[tuple[object, ...]]) -> None:
    (qw.folder / "flow.yaml").write_text(FLOW)
    qw("apply", "-f", "flow.yaml")
    run = qw("workflow", "start", "order", "--input", json.dumps({"email": MARK})).id
    qw.drain()
    assert {"run", "task"} <= tables_with(db, MARK)

    done = qw("task", "forget", "--match", f"payload.email={MARK}", "--yes")

    assert done.code == 0, done.err
    assert tables_with(db, MARK) == set()
    assert qw("workflow", "show", str(run)).code == 0


def test_what_is_not_finished_is_refused_and_left(qw: Qw) -> None:
    id = enqueued(qw, "--in", "1h", customerId="ann")

    done = qw("task", "forget", str(id))

    assert done.code == 4
    assert done.err == f"qw: task {id} is pending; wait until it has finished, or cancel it: qw task cancel {id}\n"
    assert qw("task", "show", str(id), "-o", "json").json["payload"] == {"customerId": "ann"}


def test_a_task_of_an_open_run_waits_for_it(qw: Qw, db: psycopg.Connection[tuple[object, ...]]) -> None:
    (qw.folder / "flow.yaml").write_text(
        FLOW.replace("    steps:", "    steps:\n      - {id: wait, type: approval, needs: [greet]}")
    )
    qw("apply", "-f", "flow.yaml")
    run = qw("workflow", "start", "order", "--input", json.dumps({"email": MARK})).id
    qw.drain()
    (row,) = db.execute("select id from qw.task where run_id = %s", [run]).fetchall()

    task, whole = qw("task", "forget", str(row[0])), qw("task", "forget", str(run))

    assert (task.code, whole.code) == (4, 4)
    assert f"qw workflow cancel {run}" in whole.err
    assert "task" in tables_with(db, MARK)


def test_all_places_that_are_given_must_hold(qw: Qw) -> None:
    one = enqueued(qw, a="1", to={"city": "Bern"})
    enqueued(qw, a="2", to={"city": "Bern"})
    qw.drain()

    done = qw("task", "forget", "--match", "payload.to.city=Bern", "--match", "payload.a=1", "--dry-run")

    assert done.out.split() == [str(one)]
    assert done.err == "1 record would be forgotten\n"


@pytest.mark.parametrize("match", ["customerId=ann", "payload=ann", "payload.=ann", "payload.customerId", "result.x=1"])
def test_a_place_that_cannot_be_meant_is_refused(qw: Qw, match: str) -> None:
    done = qw("task", "forget", "--match", match, "--yes")

    assert done.code == 2
    assert f"--match: {match!r} is not payload.KEY=TEXT" in done.err


def test_forgetting_needs_ids_or_a_match_and_a_yes(qw: Qw) -> None:
    enqueued(qw, a="1")
    qw.drain()

    assert qw("task", "forget").code == 2
    assert qw("task", "forget", str(new_id())).code == 3
    assert "repeat with --yes" in qw("task", "forget", "--match", "payload.a=1").err
