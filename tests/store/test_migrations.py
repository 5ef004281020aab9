from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from qw.core.errors import Denied, Misconfigured, Unavailable
from qw.store import migrations
from qw.store.connection import connect
from tests.databases import Server, template
from tests.given import until_somebody_waits, value


@pytest.fixture
def bare_url(server: Server) -> Iterator[str]:
    """An empty database."""
    with template(server, lambda url: None) as made, made.clone() as url:
        yield url


async def test_an_empty_database_gets_everything_and_then_nothing(bare_url: str) -> None:
    before = await migrations.status(bare_url)
    first = await migrations.migrate(bare_url)
    second = await migrations.migrate(bare_url)

    assert [m.applied_at for m in before] == [None] * len(migrations.known())
    assert first == list(migrations.known())
    assert second == []
    assert all(m.applied_at for m in await migrations.status(bare_url))
    await migrations.check(bare_url)


async def test_many_who_migrate_at_once_do_it_once(bare_url: str) -> None:
    done = await asyncio.gather(*(migrations.migrate(bare_url) for _ in range(5)))

    assert sorted(map(len, done)) == [0, 0, 0, 0, len(migrations.known())]
    await migrations.check(bare_url)


async def test_a_migration_killed_half_way_leaves_nothing_and_is_done_again(bare_url: str) -> None:
    async with await connect(bare_url) as killer, await connect(bare_url) as holder:
        await holder.execute("begin; create schema qw; create table qw.idempotency ()")  # it will wait for this
        half_way = asyncio.create_task(migrations.migrate(bare_url))
        pid = await until_somebody_waits(killer)
        await killer.execute("select pg_terminate_backend(%s)", [pid])
        with pytest.raises(Unavailable):
            await half_way
        await holder.execute("rollback")
        assert await value(killer, "select to_regnamespace('qw')") is None

    assert await migrations.migrate(bare_url) == list(migrations.known())


async def test_a_table_that_somebody_holds_is_waited_for(bare_url: str) -> None:
    async with await connect(bare_url) as holder:
        await holder.execute("begin; select pg_advisory_xact_lock(7177, 0)")
        migrating = asyncio.create_task(migrations.migrate(bare_url))
        async with await connect(bare_url) as watcher:
            await until_somebody_waits(watcher)
        await holder.execute("rollback")

        assert await migrating == list(migrations.known())


async def test_a_database_without_qw_is_named_with_what_to_do(bare_url: str) -> None:
    with pytest.raises(Misconfigured, match=r"^this database has no qw schema; create it with: qw db migrate$"):
        await migrations.check(bare_url)


@pytest.fixture
def role_url(bare_url: str) -> Iterator[str]:
    """The empty database for a role that may do nothing in it."""
    role = f"qw_test_own_{os.getpid()}"
    with psycopg.connect(bare_url, autocommit=True) as admin:
        admin.execute(f"create role {role} login".encode())
        try:
            yield make_conninfo(bare_url, user=role)
        finally:
            admin.execute(f"drop owned by {role}; drop role {role}".encode())


async def test_the_owner_of_a_schema_made_in_advance_migrates_without_a_right_on_the_database(
    bare_url: str, role_url: str
) -> None:
    with psycopg.connect(bare_url, autocommit=True) as admin:
        with pytest.raises(Denied) as denied:
            await migrations.migrate(role_url)
        admin.execute(denied.value.remedy.rpartition(": ")[2].encode())  # the advice, followed

    assert await migrations.migrate(role_url) == list(migrations.known())
    assert await migrations.migrate(role_url) == []


async def test_advice_to_who_may_not_migrate_can_be_followed_where_the_schema_is_another_roles(
    bare_url: str, role_url: str
) -> None:
    with psycopg.connect(bare_url, autocommit=True) as admin:
        admin.execute("create schema qw")
        with pytest.raises(Denied) as denied:
            await migrations.migrate(role_url)
        admin.execute(denied.value.remedy.rpartition(": ")[2].encode())

    assert await migrations.migrate(role_url) == list(migrations.known())


async def test_nothing_to_do_needs_no_right_to_change_anything(own_url: str) -> None:
    async with await connect(own_url) as conn:
        role = f"qw_test_looks_{os.getpid()}"
        await conn.execute(f"create role {role} login; grant usage on schema qw to {role}")
        await conn.execute(f"grant select on qw.migration to {role}")
        try:
            assert await migrations.migrate(make_conninfo(own_url, user=role)) == []
        finally:
            await conn.execute(f"drop owned by {role}; drop role {role}")


async def test_a_newer_schema_is_refused(own_url: str) -> None:
    with psycopg.connect(own_url, autocommit=True) as connection:
        connection.execute("insert into qw.migration (version, name, digest) values (9999, '9999_later', '')")

    for act in (migrations.check, migrations.migrate, migrations.status):
        with pytest.raises(Misconfigured, match="made by a newer qw"):
            await act(own_url)


async def test_a_migration_that_was_edited_is_noticed(own_url: str) -> None:
    with psycopg.connect(own_url, autocommit=True) as connection:
        connection.execute("update qw.migration set digest = 'other' where version = 1")

    with pytest.raises(Misconfigured, match="differs from the one in this qw"):
        await migrations.check(own_url)


async def test_a_newer_schema_that_only_has_more_is_taken(own_url: str) -> None:
    with psycopg.connect(own_url, autocommit=True) as connection:
        connection.execute("insert into qw.migration values (9999, '9999_later', '', now(), true)")

    await migrations.check(own_url)
    assert await migrations.migrate(own_url) == []
    assert not migrations.missing(await migrations.status(own_url))


TAKES_AWAY = re.compile(
    r"\b(drop\s+(table|column|view|function|sequence|type|schema)|rename\s+(to|column)|alter\s+column\s+\w+\s+(type|set\s+not)"
    r"|add\s+column\s+\w+[^,;]*not\s+null(?![^,;]*default))",
    re.IGNORECASE,
)


@pytest.mark.parametrize(
    ("statement", "takes"),
    [
        ("alter table qw.task add column color text", False),
        ("alter table qw.task add column color text not null default 'red'", False),
        ("create table qw.color (name text not null)", False),
        ("alter table qw.task add column color text not null", True),
        ("alter table qw.task drop column type", True),
        ("alter table qw.task rename column type to kind", True),
        ("alter table qw.task alter column type set not null", True),
        ("drop function qw.enqueue(text, jsonb)", True),
    ],
)
def test_what_takes_away_is_told_from_what_adds(statement: str, takes: bool) -> None:
    assert bool(TAKES_AWAY.search(statement)) is takes


def test_every_migration_after_the_first_adds_or_says_that_it_takes_away() -> None:
    """See "Upgrade" in docs/operations.md."""
    assert [each.name for each in migrations.known()[1:] if each.expands and TAKES_AWAY.search(each.text)] == []
