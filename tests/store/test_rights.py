"""What each right of a database role is enough for, and what not: statement by statement."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql as composing
from psycopg.conninfo import make_conninfo

from qw import sql
from qw.core.errors import LacksRight
from qw.core.rights import EXCLUSIVE, OWNERS_FUNCTIONS, SEQUENCES, WRITES, Right
from qw.core.task import NewTask
from qw.store import grants, tasks
from qw.store.connection import connect
from qw.store.ids import new_id
from qw.store.pool import Pool
from tests.databases import Template
from tests.given import new_task

NOBODY = "none"
LOOKS = {Right.READ, Right.OPERATE, Right.WORK}
ENQUEUES = {Right.ENQUEUE, Right.OPERATE, Right.WORK}
STEERS = {Right.OPERATE, Right.WORK}  # a daemon does the same for runs and schedules

STATEMENTS = {f"{noun}.{verb}": text for noun in sql.nouns() for verb, text in sql.statements(noun).items()}


def changes(noun: str) -> set[str]:
    """The statements of *noun* that write or lock."""
    words = re.compile(r"insert into|delete from|update qw\.|for update")
    return {name for name, text in STATEMENTS.items() if name.startswith(f"{noun}.") and words.search(text)}


# Who may run each statement that is more than a look at qw's tables.
# The later ones go before the earlier ones.
MAY: Sequence[tuple[Collection[Right], Collection[str]]] = (
    (set(Right), {"type.names", "completion.types"}),
    (ENQUEUES, {"task.enqueue_checked", "task.get_own", "task.read_own_logs", "run.start_checked"}),
    (STEERS, {*changes("advance"), *changes("run"), *changes("fire"), *changes("schedule"), *changes("workflow")}),
    (STEERS, {
        "task.enqueue", "task.enqueue_one", "task.enqueue_keyed_many", "task.release_keys",
        "task.copy_tasks", "task.copy_ready", "task.copy_scheduled",
        "task.count_enqueued", "queue.prune_rates", "queue.clamp_rates",
    }),
    ({Right.WORK}, {*changes("claim"), *changes("worker"), *changes("event"), *changes("measure"), *changes("type")}),
    ({Right.WORK}, {*changes("history"), "bulk.prune", "audit.prune", "stack.prune"}),
    ({Right.OPERATE}, {"bulk.start", "bulk.progress", "bulk.finish", "bulk.stop"}),
    (STEERS, {"task.prune_keys", "audit.add", "stack.ask", "stack.answer"}),
    ({Right.WORK}, {"task.write_logs", "task.write_progress", "task.fold_tally"}),
    ({Right.WORK}, {"checkpoint.keep", "checkpoint.begin_wait", "checkpoint.resume"}),
    ({Right.OPERATE}, {"checkpoint.signal"}),
    ({Right.WORK}, {"task.prune_history", "schedule.lower_marks"}),
    ({Right.WORK}, {"task.prune", "fire.prune", "run.prune", "run.prune_versions"}),
    ({Right.WORK}, {"apply.prune"}),
    ({Right.WORK}, changes("invoice")),
    ({Right.WORK}, {"event.keep", "queue.admit", "seed.fill", "right.may_work"}),
    (STEERS, {"claim.promote", "claim.release_unserved", "claim.record_lost", "event.replay"}),
    (STEERS, {"worker.drain", "worker.resize"}),
    (STEERS, {"event.drop_blocked", "event.forget"}),
    ({Right.OPERATE}, {"schedule.add", "schedule.change", "schedule.pause", "schedule.remove", "workflow.delete"}),
    ({Right.OPERATE}, {"apply.lock", "apply.own", "apply.disown", "apply.remove_workflow", "apply.record"}),
    ({Right.OPERATE}, {"queue.pause", "queue.resume", "queue.set_limits", "run.signal"}),
    ({Right.OPERATE}, {"task.retry", "task.edit", "task.erase", "task.remove", "task.remove_logs"}),
    ({Right.OPERATE}, {"right.may_operate"}),
    ((), {"seed.clear"}),
)  # fmt: skip
RUN_BY = {name: frozenset(rights) for rights, names in MAY for name in names}

Roles = Mapping[str, psycopg.Connection[tuple[Any, ...]]]


def role(right: str) -> str:
    return f"qw_test_{os.getpid()}_{right}"


@contextmanager
def roles(url: str) -> Iterator[None]:
    """A role for each right, and one without any, for as long as this lasts."""
    names = [composing.Identifier(role(right)) for right in (*Right, NOBODY)]
    with psycopg.connect(url, autocommit=True) as conn:
        for name in names:
            conn.execute(composing.SQL("create role {} login").format(name))
    try:
        yield
    finally:
        with psycopg.connect(url, autocommit=True) as conn:
            for name in names:
                conn.execute(composing.SQL("drop owned by {}").format(name))
                conn.execute(composing.SQL("drop role {}").format(name))


async def grant_all(url: str) -> None:
    async with await connect(url) as conn:
        for right in Right:
            await grants.run(conn, await grants.granting(conn, role(right), right))


@pytest.fixture(scope="module")
def granted_url(migrated_template: Template) -> Iterator[str]:
    with migrated_template.clone() as url, roles(url):
        asyncio.run(grant_all(url))
        yield url


@pytest.fixture(scope="module")
def sessions(granted_url: str) -> Iterator[Roles]:
    opened = {
        right: psycopg.connect(as_role(granted_url, right), autocommit=True, prepare_threshold=None)
        for right in (*Right, NOBODY)
    }
    yield opened
    for conn in opened.values():
        conn.close()


def as_role(url: str, right: str) -> str:
    return make_conninfo(url, user=role(right))


def may_run(conn: psycopg.Connection[tuple[Any, ...]], statement: str) -> bool:
    """Whether the role of *conn* has every privilege that *statement* needs. Nothing is changed."""
    names: dict[str, int] = {}
    text = re.sub(r"%\((\w+)\)s", lambda m: f"${names.setdefault(m[1], len(names) + 1)}", statement).replace("%%", "%")
    nulls = f"({', '.join(['null'] * len(names))})" if names else ""
    try:
        with conn.transaction(force_rollback=True):
            if statement.startswith("copy"):
                with conn.cursor().copy(statement.encode()) as copy:
                    copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\xff\xff")
            elif statement.startswith(("truncate", "lock")):
                conn.execute(statement.encode())
            else:
                conn.execute(f"prepare asked as {text}".encode())
                conn.execute(f"explain execute asked{nulls}".encode())
    except psycopg.errors.InsufficientPrivilege:
        return False
    finally:
        conn.execute("deallocate all")
    return True


def test_a_statement_is_for_those_whose_right_says_so(sessions: Roles) -> None:
    able = {name: {right for right in Right if may_run(sessions[right], STATEMENTS[name])} for name in RUN_BY}

    assert able == RUN_BY
    assert [name for name in RUN_BY if may_run(sessions[NOBODY], STATEMENTS[name])] == []


def test_every_other_statement_is_a_look_for_those_who_may_look(sessions: Roles) -> None:
    others = {name: text for name, text in STATEMENTS.items() if name not in RUN_BY}
    of_tables = re.compile(r"\b(from|join|into|update) qw\.(?!migration\b)")

    hidden = {name for name, text in others.items() if not all(may_run(sessions[right], text) for right in LOOKS)}
    told = {name for name, text in others.items() if may_run(sessions[Right.ENQUEUE], text) and of_tables.search(text)}

    assert (hidden, told) == (set(), set())


def test_who_may_only_enqueue_has_no_right_on_a_table(granted_url: str) -> None:
    with psycopg.connect(granted_url) as conn:
        found = conn.execute(
            """
            select relname, string_agg(privilege, ',') from pg_class c,
                   unnest(array['select', 'insert', 'update', 'delete', 'truncate']) privilege
             where relnamespace = 'qw'::regnamespace and relkind in ('r', 'v')
               and case when privilege in ('select', 'insert', 'update')
                     then has_any_column_privilege(%(role)s, c.oid, privilege)
                     else has_table_privilege(%(role)s, c.oid, privilege) end
             group by 1
            """,
            {"role": role(Right.ENQUEUE)},
        ).fetchall()

    assert found == [("migration", "select")]


def test_nobody_may_do_anything_until_it_is_granted(granted_url: str) -> None:
    with psycopg.connect(granted_url) as conn:
        assert conn.execute("select has_schema_privilege('public', 'qw', 'usage')").fetchone() == (False,)
        open_to_all = conn.execute("""
            select proname from pg_proc
             where pronamespace = 'qw'::regnamespace and has_function_privilege('public', oid, 'execute')
            union all
            select relname from pg_class c
             where relnamespace = 'qw'::regnamespace and relkind in ('r', 'v')
               and has_table_privilege('public', c.oid, 'select, insert, update, delete')
        """).fetchall()
        assert open_to_all == []


def test_every_function_with_the_owners_rights_belongs_to_a_right(granted_url: str) -> None:
    with psycopg.connect(granted_url) as conn:
        ours = "select proname from pg_proc where pronamespace = 'qw'::regnamespace and prosecdef"
        known = conn.execute(ours).fetchall()

    assert {name for (name,) in known} == {name for names in OWNERS_FUNCTIONS.values() for name in names}


def test_every_table_sequence_and_function_has_its_place_among_the_rights(granted_url: str) -> None:
    with psycopg.connect(granted_url) as conn:
        relations = conn.execute("""
            select relname, relkind = 'S' from pg_class c
             where relnamespace = 'qw'::regnamespace and relkind in ('r', 'p', 'S')
               and not exists (select 1 from pg_depend d where d.objid = c.oid and d.deptype = 'i')  -- of an identity
        """).fetchall()
        functions = {
            name
            for (name,) in conn.execute(
                "select proname from pg_proc where pronamespace = 'qw'::regnamespace"
            ).fetchall()
        }
    written = {name for tables in WRITES.values() for name in tables}
    assert {name for name, is_sequence in relations if not is_sequence} == {*written, "migration"}
    assert {name for name, is_sequence in relations if is_sequence} == {
        name for names in SEQUENCES.values() for name in names
    }
    assert {*EXCLUSIVE, *(f"may_{right}" for right in Right)} <= functions


@pytest.mark.parametrize("right", [Right.READ, Right.OPERATE, Right.WORK])
def test_who_may_look_sees_every_table_and_view(granted_url: str, right: Right) -> None:
    with psycopg.connect(granted_url) as conn:
        hidden = conn.execute(
            """
            select relname from pg_class c where relnamespace = 'qw'::regnamespace and relkind in ('r', 'p', 'v', 'm')
               and not has_table_privilege(%s, c.oid, 'select')""",
            [role(right)],
        ).fetchall()

    assert hidden == []


async def test_a_role_sees_of_the_tasks_only_what_it_enqueued(granted_url: str) -> None:
    mine, theirs = new_task(payload={"a": 1}), new_task()
    async with await connect(granted_url) as owner, await connect(as_role(granted_url, Right.ENQUEUE)) as conn:
        await tasks.enqueue(owner, [theirs])
        assert await tasks.enqueue(conn, [mine]) == {mine.id}
        assert await tasks.enqueue(conn, [mine]) == set()

        [seen] = await tasks.get(conn, [mine.id, theirs.id])

        assert (seen.id, seen.payload, seen.headers) == (mine.id, {"a": 1}, {"qw-role": role(Right.ENQUEUE)})
        assert await tasks.read_logs(conn, theirs.id) == []


@pytest.mark.parametrize("type", ["http_request", "command"])
async def test_a_role_that_only_enqueues_waits_for_its_own_tasks_only(granted_url: str, type: str) -> None:
    def after(*ids: object) -> NewTask:
        return new_task(type, payload={"after": {"tasks": [str(id) for id in ids], "when": "done"}})

    mine, theirs, third = new_task(), new_task(), new_task().id
    async with await connect(granted_url) as owner, await connect(as_role(granted_url, Right.ENQUEUE)) as conn:
        await tasks.enqueue(owner, [theirs])
        await tasks.enqueue(conn, [mine])

        assert len(await tasks.enqueue(conn, [after(mine.id), new_task(type, payload={"after": "noon"})])) == 2
        for other in (theirs.id, third, theirs.id.hex, "x"):
            with pytest.raises(psycopg.Error, match=f"enqueued no task {other}; it may wait for its own tasks only"):
                await tasks.enqueue(conn, [after(mine.id, other)])
        async with await connect(as_role(granted_url, Right.OPERATE)) as operator:
            assert len(await tasks.enqueue(operator, [after(theirs.id)])) == 1
            await operator.execute("select qw.enqueue(%s, %s)", [type, json.dumps(after(theirs.id).payload)])


async def test_the_acting_role_is_the_one_that_was_set(granted_url: str) -> None:
    """As poolers and PostgREST do it: one login, and a SET ROLE for each request."""
    with psycopg.connect(granted_url) as conn:
        conn.execute(composing.SQL("set role {}").format(composing.Identifier(role(Right.ENQUEUE))))
        id = conn.execute("select qw.enqueue('noop')").fetchone()
        assert id is not None
        assert conn.execute("select headers from qw.own_tasks(array[%s])", id).fetchone() == (
            {"qw-role": role(Right.ENQUEUE)},
        )
        conn.execute(composing.SQL("set role {}").format(composing.Identifier(role(Right.OPERATE))))
        assert conn.execute("select count(*) from qw.own_tasks(array[%s])", id).fetchone() == (0,)
        conn.execute("select qw.queue_pause('mail')")
        paused = conn.execute("select paused_by from qw.queue where name = 'mail'").fetchone()
        assert paused == (role(Right.OPERATE),)
        conn.rollback()


async def test_hidden_columns_cannot_be_set_in_bulk(granted_url: str) -> None:
    async with await connect(as_role(granted_url, Right.ENQUEUE)) as conn:
        for column in ("run_id", "step", "created_at", "fence"):
            task = json.dumps([{"type": "noop", column: "x"}])
            with pytest.raises(psycopg.Error, match=f"{column} is not a parameter of qw.enqueue"):
                await conn.execute("select * from qw.enqueue_many(%s)", (task,))


async def test_a_function_is_not_led_astray_by_what_its_caller_puts_in_the_way(granted_url: str) -> None:
    async with await connect(as_role(granted_url, Right.ENQUEUE)) as conn:
        for statement in (
            "create temp table task (id uuid)",
            "create function pg_temp.now() returns timestamptz language sql as $$ select 'epoch'::timestamptz $$",
            "create function pg_temp.acting_role() returns text language sql as $$ select 'boss' $$",
            "create function pg_temp.octet_length(text) returns integer language sql as $$ select 0 $$",
            "set search_path = pg_temp, pg_catalog, qw",
        ):
            await conn.execute(statement.encode())

        with pytest.raises(psycopg.Error, match="at most 1048576"):
            await conn.execute("select qw.enqueue('noop', jsonb_build_object('a', repeat('x', 1100000)))")
        id = await (await conn.execute("select qw.enqueue('noop')")).fetchone()
        own = await conn.execute("select headers from qw.own_tasks(array[%s])", id)
        assert await own.fetchone() == ({"qw-role": role(Right.ENQUEUE)},)


@pytest.mark.parametrize(
    ("right", "statement", "needed"),
    [
        (NOBODY, "select 1 from qw.tasks", "enqueue"),
        (Right.ENQUEUE, "select 1 from qw.tasks", "read"),
        (Right.READ, "select qw.enqueue('noop')", "enqueue"),
        (Right.READ, "select qw.cancel(qw.new_id())", "operate"),
        (Right.READ, "update qw.queue set paused_at = now()", "operate"),
        (Right.OPERATE, "delete from qw.running", "work"),
        (Right.WORK, "select qw.retry(qw.new_id())", "operate"),
        (Right.WORK, "select qw.may_operate()", "operate"),
    ],
)
async def test_what_is_refused_names_the_right_that_is_lacking(
    granted_url: str, right: str, statement: str, needed: str
) -> None:
    pool = Pool(as_role(granted_url, right), size=1, name="qw test")
    await pool.open()
    try:
        with pytest.raises(LacksRight) as caught:
            async with pool.connection() as conn, conn.transaction():
                await conn.execute(statement.encode())
    finally:
        await pool.close()

    remedy = f"the owner grants it with: qw db grant {role(right)} {needed}"
    assert str(caught.value) == f"role {role(right)} lacks the right '{needed}'; {remedy}"


async def test_only_the_owner_may_what_no_right_is_for(granted_url: str) -> None:
    pool = Pool(as_role(granted_url, Right.OPERATE), size=1, name="qw test")
    await pool.open()
    try:
        with pytest.raises(LacksRight, match="only the owner of schema qw may: permission denied for table migration"):
            async with pool.connection() as conn:
                await conn.execute("delete from qw.migration")
    finally:
        await pool.close()


@pytest.mark.usefixtures("granted_url")  # for its roles
async def test_a_right_that_is_revoked_leaves_the_others(migrated_template: Template) -> None:
    with migrated_template.clone() as url:
        async with await connect(url) as conn:
            one = role(NOBODY)
            for right in (Right.WORK, Right.ENQUEUE):
                await grants.run(conn, await grants.granting(conn, one, right))
            assert await grants.granted(conn) == {one: [Right.ENQUEUE, Right.WORK]}

            await grants.run(conn, await grants.revoking(conn, one, Right.WORK))

            assert await grants.granted(conn) == {one: [Right.ENQUEUE]}
            with psycopg.connect(as_role(url, NOBODY), autocommit=True) as theirs:
                theirs.execute("select qw.enqueue('noop')")
                for refused in ("select 1 from qw.tasks", "update qw.schedule set mark = now()"):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        theirs.execute(refused.encode())
            await grants.run(conn, await grants.revoking(conn, one, Right.ENQUEUE))
            refused_at = pytest.raises(psycopg.errors.InsufficientPrivilege, match="schema qw")
            with psycopg.connect(as_role(url, NOBODY), autocommit=True) as theirs, refused_at:
                theirs.execute("select qw.enqueue('noop')")


@pytest.mark.usefixtures("granted_url")  # for its roles
async def test_what_a_migration_adds_is_covered_by_rights_granted_before(migrated_template: Template) -> None:
    with migrated_template.clone() as url:
        await grant_all(url)
        async with await connect(url) as conn:
            await conn.execute("create table qw.new_in_2 (id integer)")
            await conn.execute("create function qw.new_helper() returns integer language sql as 'select 1'")

            await grants.renew(conn)

        with psycopg.connect(as_role(url, Right.READ), autocommit=True) as theirs:
            theirs.execute("select qw.new_helper() from qw.new_in_2")
        refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
        with psycopg.connect(as_role(url, Right.ENQUEUE), autocommit=True) as theirs, refused:
            theirs.execute("select qw.new_helper()")


RUN_INPUT = json.dumps(
    {
        "steps": [{"id": "a", "type": "noop"}],
        "input": {"n": "integer", "d": {"type": "date", "default": None}},
    }
)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ('{"n": 1}', ""),
        ('{"n": 1, "d": "2026-02-28"}', ""),
        ('{"n": 1, "d": null}', ""),
        ("{}", "input.n: is missing"),
        ('{"n": 1.5}', "input.n: must be of type integer"),
        ('{"n": true}', "input.n: must be of type integer"),
        ('{"n": 1, "d": "2026-02-30"}', "input.d: must be of type date"),
        ('{"n": 1, "m": 2}', "input.m: is not an input of the workflow; there are: d, n"),
        ("[]", "input: must be a JSON object"),
    ],
)
async def test_sql_checks_the_input_of_a_run(granted_url: str, given: str, why: str) -> None:
    async with await connect(granted_url) as owner, await connect(as_role(granted_url, Right.ENQUEUE)) as conn:
        async with owner.transaction():
            await owner.execute("insert into qw.workflow (name, version) values ('checked', 0) on conflict do nothing")
            await owner.execute(
                "insert into qw.workflow_version (workflow_id, digest, document)"
                " select id, 'x', %s from qw.workflow where name = 'checked' on conflict do nothing",
                (RUN_INPUT,),
            )
            await owner.execute("update qw.workflow set version = (select max(id) from qw.workflow_version)")

        start = "select qw.start_workflow('checked', %s, %s)"
        if why:
            with pytest.raises(psycopg.Error, match=re.escape(why)):
                await conn.execute(start, (given, new_id()))
        else:
            id = new_id()
            await conn.execute(start, (given, id))
            found = await owner.execute(
                "select input ? 'd' and input ? 'n', (select count(*) from qw.advance a where a.run_id = r.id)"
                "  from qw.run r where r.id = %s",
                (id,),
            )
            assert await found.fetchone() == (True, 1)
