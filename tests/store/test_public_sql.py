from __future__ import annotations

import json
import time
from typing import Any

import psycopg
import pytest

from qw.core.errors import Conflict, Invalid, NotFound, QwError
from qw.core.ids import millis_of
from qw.core.task.ending import Failed
from qw.store import tasks
from qw.store.connection import Connection, translated
from qw.store.ids import new_id
from tests.given import column, enqueued, expect_whole, finished, homes, new_task, running, status, value


async def call(conn: Connection, function: str, *args: object, **named: object) -> Any:
    params = ", ".join(["%s"] * len(args) + [f"{name} => %s" for name in named])
    with translated():
        return await value(conn, f"select {function}({params})", *args, *named.values())


async def test_an_enqueue_belongs_to_the_transaction_of_its_caller(conn: Connection, other: Connection) -> None:
    async with other.transaction(force_rollback=True):
        await call(other, "qw.enqueue", "noop")
    async with other.transaction():
        id = await call(other, "qw.enqueue", "noop", '{"a": 1}', unique_key="k", idempotency_key="i")
        assert await value(conn, "select count(*) from qw.task") == 0

    assert await homes(conn, id) == ["ready"]
    assert await value(conn, "select count(*) from qw.task") == 1
    await expect_whole(conn)


async def test_ids_made_in_sql_are_of_now_and_ascend(conn: Connection) -> None:
    first = await value(conn, "select qw.new_id()")
    await conn.execute("select pg_sleep(0.002)")
    second = await value(conn, "select qw.new_id()")

    assert first.version == 7
    assert first.variant == "specified in RFC 4122"
    assert first < second
    assert abs(time.time() * 1000 - millis_of(second)) < 60_000


async def test_everything_that_can_be_said_is_stored(conn: Connection) -> None:
    id = await call(
        conn, "qw.enqueue", "send_email", '{"a": 1}', "mail", 2, delay="1 hour", max_retries=4, timeout="9 s",
        unique_key="k", headers='{"x": "y"}', parent_id=new_id(),
    )  # fmt: skip

    row = await (await conn.execute(
        "select type, queue, priority, max_retries, timeout::text, unique_key, headers, status from qw.tasks"
    )).fetchone()  # fmt: skip
    assert row == ("send_email", "mail", 2, 4, "00:00:09", "k", {"x": "y"}, "pending")
    assert await homes(conn, id) == ["scheduled"]


BAD: list[tuple[dict[str, object], str]] = [
    ({"type": None}, "must not be null"),
    ({"payload": None}, "must not be null"),
    ({"payload": "[1]"}, "payload: must be a JSON object"),
    ({"payload": json.dumps({"a": "x" * 1_050_000})}, "at most 1048576"),
    ({"priority": 10}, "priority 10 is not between"),
    ({"priority": 2**31}, ""),
    ({"priority": -1}, "priority -1 is not between"),
    ({"max_retries": 0}, "max_retries 0 is not between"),
    ({"max_retries": 40_000}, "max_retries 40000 is not between"),
    ({"timeout": "0 s"}, "timeout must be greater than 0"),
    ({"type": "no spaces"}, "type: 'no spaces' is not a name"),
    ({"queue": ""}, "queue: '' is not a name"),
    ({"queue": "q" * 129}, "is not a name"),
    ({"unique_key": ""}, "unique_key must be text of 1 to 512 characters"),
    ({"unique_key": "k" * 513}, "unique_key must be text of 1 to 512 characters"),
    ({"idempotency_key": "k" * 513}, "idempotency_key must be text of 1 to 512 characters"),
    ({"idempotency_key": "requeue x"}, "reserved"),
    ({"run_at": "2030-01-01", "delay": "1 s"}, "run_at or delay, not both"),
    ({"on_conflict": None}, "on_conflict must be error or skip"),
    ({"headers": "[1]"}, "headers must be an object with string values, not array"),
    ({"headers": '"x"'}, "headers must be an object with string values, not string"),
    ({"headers": "null"}, "headers must be an object with string values, not null"),
    ({"headers": '{"a": 1}'}, "headers.a: must be text"),
    ({"headers": '{"a": null}'}, "headers.a: must be text"),
    ({"headers": '{"": "a"}'}, "under a name of 1 to 128"),
    ({"headers": json.dumps({"a": "x" * 4097})}, "headers.a: must be text of at most 4096"),
    ({"headers": json.dumps({str(n): "" for n in range(51)})}, "headers: at most 50"),
    ({"headers": '{"QW-Webhook": "x"}'}, "headers.QW-Webhook: names starting with qw- are reserved"),
    ({"headers": '{"qw-role": "boss"}'}, "reserved"),
    ({"headers": '{"workflowId": "x"}'}, "must be the id of a workflow"),
    ({"run_at": "infinity"}, "run_at must be a time"),
    ({"run_at": "-infinity"}, "run_at must be a time"),
    ({"run_at": "20000-01-01"}, "between the years 1 and 9999"),
    ({"timeout": "3000000 years"}, "timeout is not between 0 and 36500 days"),
    ({"delay": "-1 s"}, "delay is not between 0 and 36500 days"),
    ({"payload": '{"n": [1e400]}'}, "payload: a number is beyond 1.7e308"),
    ({"payload": '{"n": -1e400}'}, "payload: a number is beyond 1.7e308"),
    ({"payload": '{"n":' * 101 + "1" + "}" * 101}, "payload: nested deeper than 100 levels"),
    ({"backoff": "5"}, "backoff must be an object"),
    ({"backoff": '{"delay": null}'}, "backoff has delay"),
    ({"backoff": '{"retry_on": [1]}'}, "backoff has delay"),
    ({"on_conflict": "maybe"}, "on_conflict must be error or skip"),
    ({"type": "command", "payload": '{"argv": ["rm"]}'}, "only declared commands can be run"),
    ({"type": "command", "payload": '{"run": "rm"}'}, "only declared commands can be run"),
]


@pytest.mark.parametrize(("fields", "why"), BAD, ids=[f"{next(iter(f))}-{n}" for n, (f, _) in enumerate(BAD)])
async def test_bad_values_are_refused_and_nothing_is_stored(
    conn: Connection, fields: dict[str, object], why: str
) -> None:
    with pytest.raises(QwError) as caught:
        await call(conn, "qw.enqueue", **{"type": "noop", **fields})

    assert why in str(caught.value)
    assert await value(conn, "select count(*) from qw.task") == 0
    await expect_whole(conn)


async def test_what_is_just_good_enough_can_be_loaded(conn: Connection) -> None:
    payload = '{"n":' * 100 + "1.6e308" + "}" * 100
    backoff = {"delay": 1.5, "factor": 3, "max_delay": 60, "retry_on": ["OSError"], "give_up_on": []}

    id = await call(
        conn, "qw.enqueue", "noop", payload, timeout="36500 days", run_at="9999-12-29", backoff=json.dumps(backoff)
    )

    [task] = await tasks.get(conn, [id])
    assert json.dumps(task.payload).count("{") == 100


@pytest.mark.parametrize(
    ("call_", "why"),
    [
        ("qw.schedule_add('s', 'noop', at => '20000-01-01')", "between the years 1 and 9999"),
        ("qw.schedule_add('s', 'noop', every => '200 years')", "every is not between"),
        ("qw.schedule_add('s', 'noop', '{\"n\": 1e400}', every => '1 h')", "beyond 1.7e308"),
    ],
)
async def test_a_schedule_that_no_daemon_could_load_is_refused(conn: Connection, call_: str, why: str) -> None:
    with pytest.raises(Invalid, match=why), translated():
        await conn.execute(f"select {call_}".encode())

    assert await value(conn, "select count(*) from qw.schedule") == 0


@pytest.mark.parametrize("text", ['{"a": "\\u0000"}', '{"a": NaN}', '{"a": "\\ud800"}', "{"])
async def test_what_jsonb_cannot_hold_is_refused(conn: Connection, text: str) -> None:
    with pytest.raises(psycopg.Error):
        await value(conn, "select qw.enqueue('noop', %s)", text)


async def test_keys_work_as_in_python(conn: Connection) -> None:
    first = await call(conn, "qw.enqueue", "noop", unique_key="k")

    with pytest.raises(Conflict) as caught:
        await call(conn, "qw.enqueue", "noop", unique_key="k")
    assert caught.value.holder == first
    assert await call(conn, "qw.enqueue", "noop", unique_key="k", on_conflict="skip") == first


async def test_cancel_says_whether_there_was_something_to_cancel(conn: Connection) -> None:
    [waiting] = await enqueued(conn)

    assert await call(conn, "qw.cancel", waiting) is True
    assert await call(conn, "qw.cancel", waiting) is False
    [claim] = await running(conn)
    assert await call(conn, "qw.cancel", claim.id) is True
    assert await status(conn, claim.id) == "processing"
    with pytest.raises(NotFound, match="does not exist"):
        await call(conn, "qw.cancel", new_id())


async def test_retry_says_why_it_cannot(conn: Connection) -> None:
    [failed] = await finished(conn, Failed(error="x", final=True))
    await call(conn, "qw.retry", failed)
    assert await homes(conn, failed) == ["ready"]

    with pytest.raises(Conflict, match="is pending; only failed, cancelled and retrying"):
        await call(conn, "qw.retry", failed)
    with pytest.raises(NotFound):
        await call(conn, "qw.retry", new_id())


async def test_public_functions_are_nobodys_until_granted(conn: Connection) -> None:
    open_to_all = await value(conn, """
        select array_agg(proname) from pg_proc
         where pronamespace = 'qw'::regnamespace and has_function_privilege('public', oid, 'execute')""")  # fmt: skip
    assert open_to_all is None


async def test_functions_of_the_owner_cannot_be_led_astray(conn: Connection) -> None:
    loose = await value(conn, """
        select array_agg(proname) from pg_proc
         where pronamespace = 'qw'::regnamespace and prosecdef
           and not 'search_path=pg_catalog, pg_temp' = any(proconfig)""")  # fmt: skip
    assert loose is None


async def test_the_same_id_in_one_call_after_another_is_one_task(conn: Connection) -> None:
    id = new_id()

    assert [await call(conn, "qw.enqueue", "noop", id=id) for _ in range(2)] == [id, id]
    for other in ({"type": "http_request"}, {"queue": "q"}, {"payload": '{"n": 1}'}):
        given = {"type": "noop", **other, "id": id}
        with pytest.raises(Conflict, match=f"task {id} exists with another type, queue or payload"):
            await call(conn, "qw.enqueue", **given)
    with pytest.raises(Invalid, match="5 minutes ahead of"):
        await call(conn, "qw.enqueue", "noop", id="ffffffff-ffff-7fff-bfff-ffffffffffff")
    await expect_whole(conn)


async def test_the_view_shows_each_task_in_its_state(conn: Connection) -> None:
    [failed] = await finished(conn, Failed(error="x", final=True))
    [claim] = await running(conn)
    [waiting] = await enqueued(conn, new_task())

    rows = await (await conn.execute("select id, status, error from qw.tasks")).fetchall()

    assert set(rows) == {(failed, "failed", "x"), (claim.id, "processing", None), (waiting, "pending", None)}


@pytest.mark.parametrize(
    ("tasks_", "why", "state"),
    [
        ([{"type": "a"}, {"type": "a", "priority": 10}], "tasks[1]: priority", "QW003"),
        ([{"type": "a"}, 7], "tasks[1]: must be an object", "QW003"),
        ([{"type": "a", "colour": 1}], "tasks[0]: colour is not a parameter of qw.enqueue", "QW003"),
        ([{"type": "a"}, {"type": "a"}, {"type": "a", "unique_key": "held"}], "tasks[2]: unique key held", "QW002"),
        ([{"type": "a"}, {"type": "a", "run_at": "soon"}], "tasks[1]: invalid input syntax", "22007"),
        ({"type": "a"}, "tasks must be an array of objects", "QW003"),
    ],
)
async def test_a_wrong_task_among_many_is_named_by_its_place(
    conn: Connection, tasks_: Any, why: str, state: str
) -> None:
    holder = await call(conn, "qw.enqueue", "a", unique_key="held")

    with pytest.raises(psycopg.Error) as caught:
        await conn.execute("select * from qw.enqueue_many(%s)", [json.dumps(tasks_)])

    assert (caught.value.diag.message_primary or "").startswith(why)
    assert caught.value.sqlstate == state
    assert caught.value.diag.message_detail == (str(holder) if state == "QW002" else None)
    assert await value(conn, "select count(*) from qw.task") == 1


@pytest.mark.parametrize("function", ["remove", "forget"])
async def test_one_call_deletes_a_limited_number_of_tasks(conn: Connection, function: str) -> None:
    ids = await enqueued(conn, new_task(), new_task())
    await conn.execute("select qw.cancel(id) from qw.task")
    many = [*ids, *(new_id() for _ in range(999))]

    with pytest.raises(Invalid, match="at most 1000"), translated():
        await conn.execute(f"select * from qw.{function}(%s)", [many])

    done = await column(conn, f"select outcome from qw.{function}(%s) where outcome <> 'missing'", many[:1000])
    assert len(done) == 2


async def test_a_removal_leaves_very_many_log_lines_to_another_call(conn: Connection) -> None:
    [id] = await enqueued(conn)
    await conn.execute("select qw.cancel(id) from qw.task")
    await conn.execute(
        "insert into qw.task_log (task_id, attempt, level, message)"
        " select %s, 1, 'INFO', '' from generate_series(1, 100001)",
        [id],
    )

    with pytest.raises(Invalid, match="first delete them"), translated():
        await conn.execute("select * from qw.remove(%s)", [[id]])

    assert await value(conn, "select qw.remove_logs(%s, 10000)", [id]) == 10000
    assert await column(conn, "select outcome from qw.remove(%s)", [id]) == ["removed"]
