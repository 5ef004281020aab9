"""A database without qw: what only looks makes nothing there, what puts something in makes the schema and says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.cli.program import Qw, environment
from tests.databases import Server, template

ID = "01a20c90-d33f-79f9-940d-9081ef355e8e"
LOOKS = [
    "status", "task list", f"task show {ID}", f"why {ID}", f"logs {ID}", f"wait {ID}", "workflow list", "workflow runs",
    "schedule list", "queue list", "worker list", "events state", "events tail", f"task cancel {ID}",
    "queue pause default", "apply --history",
]  # fmt: skip


@pytest.fixture
def bare_url(server: Server) -> Iterator[str]:
    with template(server, lambda url: None) as made, made.clone() as url:
        yield url


@pytest.fixture
def qw(bare_url: str, tmp_path: Path) -> Qw:
    home = str(tmp_path / "home")
    return Qw(environment(QW_DATABASE_URL=bare_url, QW_HOME=home, HOME=str(tmp_path)), tmp_path)


def has_schema(url: str) -> bool:
    with psycopg.connect(url) as conn:
        return conn.execute("select 1 from pg_namespace where nspname = 'qw'").fetchone() is not None


def test_what_only_looks_makes_no_schema(qw: Qw, bare_url: str) -> None:
    for words in LOOKS:
        done = qw(*words.split())

        assert done.err == "qw: this database has no qw schema; create it with: qw db migrate\n", words
        assert done.code == 78, words
    assert (qw("db", "status").code, qw("doctor").code) == (1, 1)
    assert not has_schema(bare_url)


def test_what_only_looks_makes_no_private_database(qw: Qw, tmp_path: Path) -> None:
    del qw.environ["QW_DATABASE_URL"]
    for words in (*LOOKS, "db status"):
        done = qw(*words.split())

        assert (done.code, "there is no private database" in done.err) == (78, True), (words, done.err)
    assert qw("doctor").code == 1
    assert not (tmp_path / "home").exists()


def test_what_puts_something_in_makes_the_schema_and_says_so(qw: Qw) -> None:
    done = qw("enqueue", "noop")

    assert done.code == 0
    assert done.err.startswith("made the schema of qw in this database: 0001_initial")
    assert "schema" not in qw("enqueue", "noop").err


def test_doctor_names_the_one_remedy(qw: Qw, bare_url: str) -> None:
    assert "qw db migrate" in qw("doctor").out
    assert qw("db", "migrate").code == 0
    with psycopg.connect(bare_url, autocommit=True) as conn:
        conn.execute("insert into qw.migration (version, name, digest) values (9999, 'later', '')")

    said = qw("doctor").out

    assert "upgrade qw" in said
    assert "qw db migrate" not in said
