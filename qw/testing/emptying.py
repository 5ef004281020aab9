"""Empties what a test has put into the tables of qw, where a database serves several tests."""

from __future__ import annotations

import psycopg

from qw.core.errors import Misconfigured
from qw.testing.clock import NOT_OURS

# Types stay: those that come with qw are rows of the schema, and a type that is known does no harm.
_EMPTY = """
do $$
declare filled text[] := '{}'; name text; has_rows boolean;
begin
  for name in
    select oid::regclass from pg_class
     where relnamespace = 'qw'::regnamespace and relkind = 'r' and relname not in ('migration', 'type')
  loop
    execute format('select exists (select from %s)', name) into has_rows;
    if has_rows then filled := filled || name; end if;
  end loop;
  if cardinality(filled) > 0 then execute 'truncate ' || array_to_string(filled, ', '); end if;
end $$
"""


def empty(url: str) -> None:
    """Remove all tasks, runs, schedules and what else qw stores in a test database. Its clock stays where it is.

    For tests that do not get a database each. Raise Misconfigured for a database that was not made for tests.
    """
    with psycopg.connect(url, autocommit=True) as conn:
        row = conn.execute("select to_regclass('qw_testing.clock') is not null").fetchone()
        if row != (True,):
            raise Misconfigured(f"this database is not emptied: {NOT_OURS}")
        conn.execute(_EMPTY)
