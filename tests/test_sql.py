from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files

import psycopg
import pytest
from psycopg.pq import ExecStatus

from qw import sql
from qw.core.task import FIELDS, EnqueueOptions
from qw.store.migrations import known
from tests.databases import PrivateServer, template
from tests.given import migrated

STATEMENTS = [(noun, verb) for noun in sql.nouns() for verb in sql.statements(noun)]
COPIES = [(noun, verb) for noun, verb in STATEMENTS if sql.statements(noun)[verb].startswith("copy ")]


def numbered(statement: str) -> bytes:
    """*statement* with PostgreSQL's own parameters, whose types it must find out by itself."""
    names: dict[str, int] = {}
    text = re.sub(r"%\((\w+)\)s", lambda m: f"${names.setdefault(m[1], len(names) + 1)}", statement)
    return text.replace("%%", "%").encode()


def complaint(connection: psycopg.Connection, statement: str) -> str:
    """What PostgreSQL has against *statement*; empty when it is fine."""
    result = connection.pgconn.prepare(b"", numbered(statement))
    return "" if result.status == ExecStatus.COMMAND_OK else result.error_message.decode()


@pytest.fixture(scope="module")
def connection(migrated_template_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(migrated_template_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def migrated_template_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with request.getfixturevalue("migrated_template").clone() as url:
        yield url


def complaints(connection: psycopg.Connection) -> dict[str, str]:
    """What PostgreSQL has against each statement of qw that is wrong."""
    said = {f"{n}.{v}": complaint(connection, sql.statements(n)[v]) for n, v in STATEMENTS if (n, v) not in COPIES}
    return {name: text for name, text in said.items() if text}


def test_every_statement_can_be_prepared(connection: psycopg.Connection) -> None:
    assert complaints(connection) == {}


@pytest.mark.parametrize(("noun", "verb"), COPIES)
def test_every_copy_finds_its_columns(connection: psycopg.Connection, noun: str, verb: str) -> None:
    with connection.cursor().copy(sql.statements(noun)[verb].encode()) as copy:
        copy.set_types([])


def test_a_wrong_statement_would_be_noticed(connection: psycopg.Connection) -> None:
    assert "does not exist" in complaint(connection, "select nothing_like_it from qw.task where id = %(id)s")


def test_the_schema_and_its_statements_fit_the_private_postgresql_too(private_server: PrivateServer) -> None:
    with template(private_server, migrated) as made, made.clone() as url, psycopg.connect(url) as connection:
        assert connection.info.server_version >= 180000
        assert complaints(connection) == {}


@pytest.mark.parametrize("noun", sql.nouns())
def test_a_comment_holds_no_percent_sign_and_a_name_stands_once(noun: str) -> None:
    text = (files(sql) / f"{noun}.sql").read_text()

    assert [line for line in text.splitlines() if line.startswith("--") and "%" in line] == []
    names = re.findall(r"^-- name: (.*)$", text, re.MULTILINE)
    assert names == list(dict.fromkeys(names)) == list(sql.statements(noun))


def test_tables_are_written_with_their_schema() -> None:
    tables = {name for file in known() for name in re.findall(r"create (?:table|view) qw\.(\w+)", file.text)}

    def bare(text: str) -> set[str]:
        made_here = set(re.findall(r"(\w+)(?: \([^)]*\))? as (?:materialized )?\(", text))
        return set(re.findall(r"\b(?:from|join|into|update|copy) (\w+)\b(?!\.)", text)) & tables - made_here

    assert len(tables) > 20
    assert [(noun, verb) for noun, verb in STATEMENTS if bare(sql.statements(noun)[verb])] == []


def test_the_fields_of_a_new_task_are_the_parameters_of_the_public_function(connection: psycopg.Connection) -> None:
    ((names, types),) = connection.execute(
        "select proargnames, array(select format_type(t, null) from unnest(proargtypes) t)"
        "  from pg_proc where oid = 'qw.enqueue'::regproc"
    )

    called = {"integer": "smallint", "timestamp with time zone": "timestamptz"}
    parameters = {name: called.get(type, type) for name, type in zip(names, types, strict=True)}
    assert parameters.pop("on_conflict") == "text"
    assert parameters == {name: type for name, type in FIELDS.items() if name not in ("run_id", "step")}
    assert parameters.keys() == {"type", "payload", *EnqueueOptions.__annotations__}
