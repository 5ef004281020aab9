"""A database whose clock can be moved forward, for qw and for the SQL of the program under test.

The functions that return the time are defined again in the schema ``qw_testing``, with an offset that is stored in a
table. The search path of the database, and of those functions of qw that set one, finds them before PostgreSQL's own.
Column defaults use them because they exist before the schema of qw is created.
"""

from __future__ import annotations

from datetime import timedelta

import psycopg
from psycopg.sql import SQL, Composed, Identifier

from qw.clock import clock, steady
from qw.core.errors import Invalid, Misconfigured
from qw.store.connection import Connection
from qw.store.workers import Blocking

NOT_OURS = "it was not made by qw.testing, or by the test runner of Django with qw.contrib.django installed"
PATH = SQL('"$user", public, qw_testing, pg_catalog')

_MAKE = """
create schema qw_testing;
create table qw_testing.clock (shift interval not null);
insert into qw_testing.clock values ('0');
grant usage on schema qw_testing to public;
grant select on qw_testing.clock to public;
create function qw_testing.statement_timestamp() returns timestamptz language sql stable as
  'select pg_catalog.statement_timestamp() + shift from qw_testing.clock';
create function qw_testing.now() returns timestamptz language sql stable as
  'select pg_catalog.now() + shift from qw_testing.clock';
create function qw_testing.transaction_timestamp() returns timestamptz language sql stable as
  'select pg_catalog.now() + shift from qw_testing.clock';
create function qw_testing.clock_timestamp() returns timestamptz language sql volatile as
  'select pg_catalog.clock_timestamp() + shift from qw_testing.clock';
"""

# Functions of qw that set a search path of their own.
_FOLLOW = """
do $$ declare f regprocedure; begin
  for f in select p.oid from pg_proc p where p.pronamespace = 'qw'::regnamespace and p.proconfig is not null loop
    execute format('alter function %s set search_path = qw_testing, pg_catalog, pg_temp', f);
  end loop;
end $$
"""


def prepare(url: str, name: str) -> None:
    """Give the empty database *name* at *url* a clock that can be moved. Call it before the schema of qw is
    created.
    """
    execute(url, SQL(_MAKE))
    execute(url, use(name))


def use(name: str) -> Composed:
    """The statement that makes the sessions of the database *name* read that clock. A clone does not inherit it
    from its template.
    """
    return SQL("alter database {} set search_path = {}").format(Identifier(name), PATH)


def follow(url: str) -> None:
    """Make the functions of qw in the database at *url* read that clock."""
    execute(url, SQL(_FOLLOW))


def adopt(conn: Blocking) -> None:
    """Let later sessions of this database read its clock, if it has one that can be moved: a clone may not yet."""
    if name := (conn.execute(_UNREAD).fetchone() or [None])[0]:
        conn.execute(use(name))


_UNREAD = """
select current_database() where to_regclass('qw_testing.clock') is not null
   and 'qw_testing' <> all (current_schemas(false))
"""


async def move_clock(conn: Connection, by: timedelta) -> None:
    """Move the clock of a test database forward by *by*, for all its sessions."""
    if by < timedelta():
        raise Invalid(f"the clock of a test database only moves forward, not by {by}")
    row = await (await conn.execute("select to_regclass('qw_testing.clock') is not null")).fetchone()
    if row != (True,):
        raise Misconfigured(f"the clock of this database cannot be moved: {NOT_OURS}")
    await conn.execute("update qw_testing.clock set shift = shift + %s", [by])
    await measure(conn)


async def measure(conn: Connection) -> None:
    """Measure the clock of the database, because this process makes ids by it."""
    asked = steady()
    row = await (await conn.execute("select extract(epoch from clock_timestamp())::float8")).fetchone()
    assert row is not None
    clock.measured(asked, steady(), row[0])


def execute(url: str, statement: SQL | Composed) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(statement)
