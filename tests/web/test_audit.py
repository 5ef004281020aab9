"""Every act leaves a row: who, through what, which verb, on what, how many, with which outcome."""

from __future__ import annotations

import asyncio
import getpass
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from qw.client import Client
from qw.core.errors import NotFound
from qw.store.ids import new_id
from tests.cli.program import QW, Qw, environment
from tests.web.live import Live, live, until
from tests.web.test_guard import TOKENS, bearer

if TYPE_CHECKING:
    from tests.databases import Template


@pytest.fixture(scope="module")
def place(migrated_template: Template) -> Iterator[tuple[str, Live]]:
    with migrated_template.clone() as url, live(url, {"QW_API_TOKENS": TOKENS}) as started:
        started.api.headers.update(bearer("s3cret-o"))
        yield url, started


def entries(server: Live, **filters: object) -> list[Any]:
    found: list[Any] = server.get("/api/audit", params=filters)["entries"]
    return found


def test_an_act_over_http_names_the_token_and_what_it_was_done_to(place: tuple[str, Live]) -> None:
    _, server = place
    id = server.task(queue="http")
    server.post(f"/api/task/{id}/cancel")
    server.post("/api/queues/http/pause")

    pause, cancel = entries(server, actor="bob", limit=2)

    assert (cancel["verb"], cancel["target"], cancel["count"], cancel["outcome"]) == ("task cancel", id, 1, "done")
    assert (pause["verb"], pause["target"], pause["via"], pause["actor"]) == ("queue pause", "http", "http", "bob")


def test_an_act_of_the_dashboard_is_told_from_one_of_a_program(place: tuple[str, Live]) -> None:
    _, server = place
    server.post("/api/queues/dash/pause", headers={"X-QW-Client": "dashboard"})

    assert entries(server, via="dashboard")[0]["target"] == "dash"


def test_a_bulk_act_leaves_one_row_with_its_search_and_its_count(place: tuple[str, Live]) -> None:
    _, server = place
    for _ in range(3):
        server.task(queue="many")
    id = server.api.post("/api/bulk", json={"action": "cancel", "q": "queue:many"}).json()["id"]
    until(lambda: server.get(f"/api/bulk/{id}")["state"] == "done")

    found = until(lambda: [each for each in entries(server) if each["target"] == "queue:many"])

    assert [(each["verb"], each["count"], each["actor"]) for each in found] == [("task cancel", 3, "bob")]


def test_a_bulk_act_that_changed_nothing_leaves_one_row(place: tuple[str, Live]) -> None:
    _, server = place
    ids = [server.task(queue="gone") for _ in range(3)]
    for id in ids:
        server.post(f"/api/task/{id}/cancel")
    bulk = server.api.post("/api/bulk", json={"action": "cancel", "ids": ids}).json()["id"]
    until(lambda: server.get(f"/api/bulk/{bulk}")["state"] == "done")
    server.post("/api/queues/gone/pause")  # noted after all that the act noted

    found = [each for each in entries(server) if each["target"] == "3 tasks"]

    assert [(each["verb"], each["count"], each["outcome"]) for each in found] == [("task cancel", 0, "done")]


def test_an_act_on_the_command_line_names_the_user(place: tuple[str, Live], tmp_path: Path) -> None:
    url, server = place
    id = server.task()

    done = Qw({"QW_DATABASE_URL": url}, tmp_path)("task", "cancel", id)

    assert done.code == 0, done.err
    entry = entries(server, via="cli")[0]
    assert (entry["verb"], entry["target"], entry["actor"]) == ("task cancel", id, getpass.getuser())


def test_the_import_of_a_crontab_is_an_act(place: tuple[str, Live], tmp_path: Path) -> None:
    url, server = place
    (tmp_path / "crontab").write_text("0 3 * * * /bin/true\n5 4 * * * /bin/false\n")

    done = Qw({"QW_DATABASE_URL": url}, tmp_path)("schedule", "import", "crontab", "crontab", "--owner", "me", "--yes")

    assert done.code == 0, done.err
    (entry,) = entries(server, verb="schedule import")
    assert (entry["verb"], entry["target"], entry["count"]) == ("schedule import crontab", "me", 2)


def test_an_act_in_sql_names_the_role(place: tuple[str, Live]) -> None:
    url, server = place
    id = server.task()
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("select qw.cancel(%s)", [id])
        conn.execute("select qw.retry(%s)", [id])
        conn.execute("select qw.queue_pause('sql')")
        conn.execute("select qw.queue_resume('sql')")
        conn.execute("select qw.schedule_add('sql', 'noop', '{}', cron => '0 0 1 1 *')")
        conn.execute("select qw.schedule_remove('sql')")
        conn.execute("select qw.schedule_remove('not there')")
        row = conn.execute("select session_user::text").fetchone()

    found = entries(server, via="sql")

    assert [each["verb"] for each in reversed(found)] == [
        "task cancel", "task retry", "queue pause", "queue resume", "schedule add", "schedule remove",
    ]  # fmt: skip
    assert {each["actor"] for each in found} == {row[0] if row else None}


def test_a_refused_act_is_noted_with_the_reason_and_one_of_python_with_the_role(place: tuple[str, Live]) -> None:
    url, server = place
    missing = new_id()

    async def act() -> None:
        async with Client(url, size=1) as client:
            with pytest.raises(NotFound):
                await client.runs.cancel(missing)

    asyncio.run(act())

    entry = entries(server, via="python")[0]
    assert (entry["verb"], entry["target"], entry["outcome"]) == ("workflow cancel", str(missing), "refused")
    assert str(missing) in entry["detail"]


def test_a_look_at_what_is_masked_leaves_a_row(place: tuple[str, Live]) -> None:
    _, server = place
    id = server.task(payload={"apiToken": "s3cret"})

    server.get(f"/api/task/{id}", params={"reveal": "true"})

    assert entries(server, verb="task reveal")[0]["target"] == id


def test_a_verb_is_searched_whole_or_by_its_noun(place: tuple[str, Live]) -> None:
    _, server = place
    server.post("/api/queues/noun/pause")

    assert {each["verb"] for each in entries(server, verb="queue")} <= {"queue pause", "queue resume"}
    assert entries(server, verb="queue pause")
    assert entries(server, verb="que") == []


def test_pages_of_the_audit_follow_each_other(place: tuple[str, Live]) -> None:
    _, server = place
    for _ in range(3):
        server.post("/api/queues/paged/pause")

    first = server.get("/api/audit", params={"limit": 2})
    second = server.get("/api/audit", params={"limit": 2, "before": first["nextCursor"]})

    ids = [each["id"] for each in first["entries"] + second["entries"]]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 4


def test_the_command_shows_the_audit(place: tuple[str, Live], tmp_path: Path) -> None:
    url, server = place
    server.post("/api/queues/shown/pause")

    qw = Qw({"QW_DATABASE_URL": url}, tmp_path)
    table = qw("audit", "--verb", "queue", "--limit", "1")
    records = qw("audit", "--verb", "queue", "--limit", "1", "-o", "json")

    assert "queue pause" in table.out
    assert "bob" in table.out
    assert records.json[0]["target"] == "shown"


@contextmanager
def audit_closed(url: str) -> Iterator[psycopg.Connection[Any]]:
    """No row can be added within, so that whoever wants to waits."""
    with psycopg.connect(url) as closing, psycopg.connect(url, autocommit=True) as watching:
        closing.execute("lock table qw.audit in share mode")
        yield watching


def waiting(watching: psycopg.Connection[Any]) -> list[int]:
    """The sessions that wait to add a row."""
    rows = watching.execute(
        "select pid from pg_locks where relation = 'qw.audit'::regclass and not granted "
        "and database = (select oid from pg_database where datname = current_database())"
    )
    return [row[0] for row in rows.fetchall()]


def pauses(server: Live, queue: str) -> tuple[bool, bool]:
    """Whether the queue is paused, and whether the audit says that it was."""
    is_paused = any(each["name"] == queue and each["pausedAt"] for each in server.get("/api/queues")["queues"])
    return is_paused, any(each["target"] == queue for each in entries(server, verb="queue pause"))


def test_an_act_whose_process_is_killed_before_its_row_was_never_done(place: tuple[str, Live], tmp_path: Path) -> None:
    url, server = place
    server.task(queue="killed")
    command = [*QW, "queue", "pause", "killed"]
    with audit_closed(url) as watching:
        process = subprocess.Popen(command, env=environment(QW_DATABASE_URL=url, HOME=str(tmp_path)))
        (session,) = until(lambda: waiting(watching))
        process.kill()
        process.wait()

    with psycopg.connect(url, autocommit=True) as watching:
        alive = "select 1 from pg_stat_activity where pid = %s"
        until(lambda: watching.execute(alive, [session]).fetchone() is None)
    assert pauses(server, "killed") == (False, False)


def test_an_act_over_http_whose_session_ends_before_its_row_was_never_done(place: tuple[str, Live]) -> None:
    url, server = place
    server.task(queue="cut")
    with audit_closed(url) as watching, ThreadPoolExecutor() as pool:
        answer = pool.submit(server.api.post, "/api/queues/cut/pause", headers={"X-QW-Client": "dashboard"})
        (session,) = until(lambda: waiting(watching))
        watching.execute("select pg_terminate_backend(%s)", [session])

    assert answer.result().status_code == 503
    assert pauses(server, "cut") == (False, False)


def test_a_purge_is_one_act_with_its_count(place: tuple[str, Live]) -> None:
    _, server = place
    for _ in range(3):
        server.task(queue="purged", delay="1h")

    assert server.api.post("/api/queues/purged/purge", json={"confirm": "purged"}).json()["cancelled"] == 3

    found = [each for each in entries(server) if each["target"] == "purged"]
    assert [(each["verb"], each["count"]) for each in found if each["count"]] == [("queue purge", 3)]
