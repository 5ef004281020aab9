from __future__ import annotations

import json
import os
import re
import signal

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.cli.program import Qw, lines
from tests.databases import Server, url_of, wait_until


def codes(qw: Qw, id: object) -> list[str]:
    """The reasons that ``qw why`` gives."""
    return [reason["code"] for reason in qw("why", str(id), "-o", "json").json["reasons"]]


def test_why_finds_each_reason_in_the_database(qw: Qw) -> None:
    later, waiting = qw("enqueue", "noop", "--in", "1h").id, qw("enqueue", "noop").id
    behind, elsewhere = qw("enqueue", "noop", "-p", "6").id, qw("enqueue", "noop", "-q", "mail").id
    qw("queue", "pause", "default", "--by", "zoe")

    assert codes(qw, later) == ["not_due", "queue_paused", "no_worker"]
    assert codes(qw, waiting) == ["queue_paused", "no_worker"]
    with qw.daemon("--queues", "default"):
        assert codes(qw, elsewhere) == ["queue_unserved"]
        assert codes(qw, behind) == ["queue_paused"]
        qw("queue", "resume", "default")
        wait_until(lambda: codes(qw, behind) == ["completed"])
    assert "its queue" not in qw("why", str(waiting)).out


def test_why_counts_who_is_ahead(qw: Qw, url: str) -> None:
    qw("enqueue", "noop", "--stdin", stdin=lines([{} for _ in range(60)]))
    last = qw("enqueue", "noop").id
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("""insert into qw.worker (host, pid, version, types, queues, slots, server)
            values ('here', 1, '0', '{noop}', '{}', '{"async": 1}', pg_postmaster_start_time())""")

    assert codes(qw, last) == ["in_line"]
    assert "60 tasks ahead of it in default" in qw("why", str(last)).out


def test_why_names_the_worker_that_holds_a_task(qw: Qw) -> None:
    with qw.daemon("--allow-commands"):
        id = qw("run", "--", "sleep", "30").id
        wait_until(lambda: codes(qw, id) == ["running"])
        worker = qw("worker", "list", "-o", "json").json[0]

        text = qw("why", str(id)).out
        shown = qw("worker", "show", str(worker["id"]))

        assert f"on worker {worker['id']} ({worker['host']}:{worker['pid']})" in text
        assert str(id) in shown.out
        qw("task", "cancel", "--running", str(id))


def test_why_answers_for_a_run_too(qw: Qw) -> None:
    with qw.daemon():
        wait_until(lambda: "invoice" in qw("workflow", "list", "--quiet").out)
    id = qw("workflow", "start", "invoice", "--input", '{"customerId": "zoe"}').id

    assert codes(qw, id) == ["step_running", "waits_for_steps", "waits_for_steps", "waits_for_steps"]
    assert qw("why", "01890000-0000-7000-8000-000000000001").code == 3


def test_the_status_shows_queues_workers_and_failures(qw: Qw) -> None:
    empty = qw("status")
    qw("run", "--max-retries", "1", "--", "false")
    qw.drain()
    qw("enqueue", "noop", "-q", "mail")

    shown, found = qw("status"), qw("status", "-o", "json").json

    assert "no tasks yet" in empty.out
    assert [queue["queue"] for queue in found["queues"]] == ["default", "mail"]
    assert found["queues"][1]["oldest_seconds"] > 0
    assert [(each["type"], each["failed"], each["last_error"]) for each in found["failures"]] == [
        ("command", 1, "exit code 1")
    ]
    assert "no worker is running and 1 task waits; start one: qw daemon" in shown.out


def test_a_paused_queue_says_who_paused_it_until_it_goes_on(qw: Qw) -> None:
    qw("queue", "pause", "mail", "--by", "zoe")
    qw("queue", "pause", "mail", "--by", "ivan")

    paused = qw("queue", "list", "-o", "json").json
    first, second = qw("queue", "resume", "mail"), qw("queue", "resume", "mail")

    assert [(queue["queue"], queue["is_paused"], queue["paused_by"]) for queue in paused] == [("mail", True, "zoe")]
    assert (first.err, second.err) == ("queue mail is resumed\n", "queue mail was not paused\n")
    assert qw("queue", "pause", "a b").code == 2


def test_a_queue_that_looks_mistyped_is_refused_unless_it_is_to_be_made(qw: Qw) -> None:
    qw("enqueue", "noop", "-q", "reports")

    refused = [qw("queue", *words) for words in (["pause", "reprots"], ["limit", "reprots", "--concurrency", "1"])]
    unknown = [qw("queue", verb, "reprots") for verb in ("resume", "drain", "show", "purge", "remove")]
    before = qw("queue", "list", "--quiet").out
    made = qw("queue", "pause", "reprots", "--create")

    assert {(done.code, "did you mean 'reports'?" in done.err) for done in (*refused, *unknown)} == {(3, True)}
    assert before == "reports\n"
    assert (made.code, made.err) == (0, "queue reprots is paused; resume with: qw queue resume reprots\n")


def test_all_queues_are_paused_and_resumed_at_once(qw: Qw) -> None:
    for queue in ("mail", "reports"):
        qw("enqueue", "noop", "-q", queue)

    paused = qw("queue", "pause", "--all")
    states = {queue["queue"]: queue["is_paused"] for queue in qw("queue", "list", "-o", "json").json}
    resumed, again, neither = qw("queue", "resume", "--all"), qw("queue", "resume", "--all"), qw("queue", "pause")

    assert paused.err == "queues default, mail, reports are paused; resume with: qw queue resume --all\n"
    assert states == {"default": True, "mail": True, "reports": True}
    assert (resumed.err, again.err) == ("queues default, mail, reports are resumed\n", "no queue is resumed\n")
    assert (neither.code, neither.err) == (2, "qw: give names of queues, or --all\n")


def test_an_empty_queue_is_removed_and_one_with_tasks_is_not(qw: Qw) -> None:
    qw("queue", "limit", "old", "--rate", "1/h")
    qw("queue", "pause", "old")
    qw("enqueue", "noop", "-q", "mail")

    removed, refused = qw("queue", "remove", "old"), qw("queue", "remove", "mail")

    assert removed.err == "queue old is removed\n"
    assert (refused.code, "queue mail has 1 task; purge it first" in refused.err) == (4, True)
    assert qw("queue", "list", "--quiet").out == "mail\n"
    assert [act["verb"] for act in json.loads(qw("audit", "-o", "json").out)] == [
        "queue remove", "queue pause", "queue limit",
    ]  # fmt: skip


def test_limits_and_pauses_are_seen_at_80_columns(qw: Qw) -> None:
    qw("queue", "limit", "mail", "--concurrency", "10", "--rate", "100/m", "--key", "payload.to", "--per-key", "2")
    qw("queue", "pause", "mail", "--by", "zoe@a-machine-with-a-long-name")

    narrow, page, said = qw("queue", "list", COLUMNS="80"), qw("queue", "show", "mail"), qw("queue", "limit", "mail")

    assert re.search(r"^mail .* paused \d+ ms ago by.* 10 at once, 100/m, 2", narrow.out, re.MULTILINE)
    assert max(map(len, narrow.out.splitlines())) <= 80
    assert re.search(r"^state +paused .* by zoe@a-machine-with-a-long-name$", page.out, re.MULTILINE)
    assert "limits  10 at once, 100/m, 2 at once per to\n" in page.out
    assert said.out == "queue mail is limited: 10 at once, 100/m, 2 at once per to\n"


def test_a_long_name_of_a_queue_leaves_room_for_its_counts(qw: Qw) -> None:
    qw("enqueue", "noop", "-q", "a" * 128)

    narrow, wide = qw("queue", "list", COLUMNS="80"), qw("queue", "list")

    assert re.search(r"^a+… +1 ", narrow.out, re.MULTILINE)
    assert max(map(len, narrow.out.splitlines())) <= 80
    assert "a" * 128 in wide.out


def test_a_queue_is_limited_amended_shown_and_set_free(qw: Qw) -> None:
    first = qw("queue", "limit", "mail", "--concurrency", "2", "--rate", "100/m")
    second = qw("queue", "limit", "mail", "--concurrency", "5", "--key", "payload.to", "--per-key", "1")
    shown, listed = qw("queue", "list"), qw("queue", "list", "-o", "json").json
    over = qw("queue", "limit", "mail", "--none", "--rate", "1/s")
    none = qw("queue", "limit", "mail", "--none")

    assert first.err == "qw: queue mail is new: it has never had a task\nqueue mail is limited: 2 at once, 100/m\n"
    assert second.err == "queue mail is limited: 5 at once, 100/m, 1 at once per to\n"
    assert "1 at once per to" in shown.out
    assert [(queue["queue"], queue["limits"]) for queue in listed] == [
        ("mail", {"concurrency": 5, "rate": "100/m", "key": "payload.to", "per_key": 1})
    ]
    assert (over.err, none.err) == ("queue mail is limited: 1/s\n", "queue mail has no limits\n")


def test_a_limit_that_is_none_is_refused_with_one_that_is(qw: Qw) -> None:
    refused = {
        words: qw("queue", "limit", "mail", *words.split())
        for words in ("", "--rate fast", "--concurrency 0", "--per-key 1", "--key to --per-key 1")
    }

    assert {done.code for done in refused.values()} == {2}
    assert "or --none" in refused[""].err
    assert "'fast' is not a rate such as 100/m" in refused["--rate fast"].err
    assert "key: is missing" in refused["--per-key 1"].err
    assert qw("queue", "list", "-o", "json").json == []


def test_why_names_the_limit_and_who_has_the_slots(qw: Qw) -> None:
    qw("queue", "limit", "default", "--concurrency", "1", "--rate", "2/h")
    with qw.daemon("--allow-commands"):
        running = qw("run", "--", "sleep", "60").id
        wait_until(lambda: codes(qw, running) == ["running"])
        waiting, last = qw("enqueue", "noop").id, qw("enqueue", "noop").id

        assert codes(qw, waiting) == ["limit_reached"]
        assert f"1 of 1 running ({running}); 1 task ahead of it" in qw("why", str(last)).out
        qw("task", "cancel", "--running", str(running))
        wait_until(lambda: codes(qw, last) == ["rate_limited"])
        assert codes(qw, waiting) == ["completed"]
        qw("queue", "limit", "default", "--none")
        wait_until(lambda: codes(qw, last) == ["completed"])


def test_a_daemon_that_drains_ends_when_nothing_is_held(qw: Qw) -> None:
    qw("queue", "limit", "default", "--concurrency", "1")
    qw("enqueue", "noop", "--stdin", stdin=lines([{} for _ in range(30)]))

    qw.drain()

    assert len(qw("task", "list", "--status", "completed", "--quiet").ids) == 30


def test_a_queue_is_purged_of_what_waits(qw: Qw) -> None:
    qw("enqueue", "noop", "-q", "mail")
    kept = qw("enqueue", "noop").id

    refused, done = qw("queue", "purge", "mail"), qw("queue", "purge", "mail", "--yes")

    assert (refused.code, done.code) == (2, 0)
    assert qw("task", "list", "--status", "pending", "--quiet").ids == [kept]
    (act,) = json.loads(qw("audit", "-o", "json").out)
    assert (act["verb"], act["target"], act["count"]) == ("queue purge", "mail", 1)


def test_a_queue_is_drained_when_nothing_is_left_in_it(qw: Qw) -> None:
    qw("enqueue", "noop", "-q", "mail")

    early = qw("queue", "drain", "mail", "--timeout", "50ms")
    qw.drain()
    late, never = qw("queue", "drain", "mail"), qw("queue", "drain", "none")

    assert (early.code, late.code, never.code) == (124, 0, 3)
    assert "1 task is left in the queue mail" in early.err


def test_a_worker_is_drained_by_its_number(qw: Qw) -> None:
    with qw.daemon() as daemon:
        worker = qw("worker", "list", "--quiet").out.strip()
        done = qw("worker", "drain", worker)

        assert daemon.wait(60) == 0
    assert done.code == 0
    assert qw("worker", "drain", worker).code == 3
    assert qw("worker", "show", worker).code == 3


def test_slots_of_a_running_worker_are_changed(qw: Qw) -> None:
    with qw.daemon("--command-slots", "1", "--allow-commands", "--no-http"):
        ids = [qw("run", "--", "sleep", "600").out.strip() for _ in range(3)]

        def running() -> int:
            return len(qw("task", "list", "--status", "processing", "--quiet").out.split())

        wait_until(lambda: running() == 1)
        more = qw("worker", "slots", "3")
        wait_until(lambda: running() == 3)
        fewer = qw("worker", "slots", "1", "--threads", "5", "-o", "json")
        assert running() == 3  # what runs goes on
        qw("task", "cancel", "--running", ids[0], ids[1])
        wait_until(lambda: running() == 1)
        next = qw("run", "--", "true").out.strip()
        why = qw("why", next).out
        [worker] = qw("worker", "list", "-o", "json").json
        audit = qw("audit", "-o", "json").json
        qw("task", "cancel", "--running", *ids[2:], next)

    assert more.err == f"worker {worker['id']} has 3 process slots\n"
    assert fewer.json == {"workers": [worker["id"]], "slots": {"process": 1, "thread": 5}}
    assert "all 1 slots" in why
    assert worker["slots"] == {"async": 100, "thread": 5, "process": 1}
    assert [(act["verb"], act["target"]) for act in audit if act["verb"] == "worker slots"] == [
        ("worker slots", "1 process, 5 thread"),
        ("worker slots", "3 process"),
    ]


def test_slots_that_cannot_be_are_refused(qw: Qw) -> None:
    nothing, none, many = qw("worker", "slots"), qw("worker", "slots", "0"), qw("worker", "slots", "5000")
    alone, gone = qw("worker", "slots", "3"), qw("worker", "slots", "3", "--worker", "4711")

    assert (nothing.code, none.code, many.code, alone.code, gone.code) == (2, 2, 2, 0, 3)
    assert "qw worker slots N for commands" in nothing.err
    assert many.err == "qw: process: must be 1 to 1,000, not 5,000\n"
    assert alone.err == "no worker is running; start one: qw daemon\n"


def test_the_doctor_finds_nothing_wrong_where_nothing_is(qw: Qw) -> None:
    done = qw("doctor", "-o", "json")

    assert done.code == 0
    assert [each["name"] for each in done.json] == [
        "qw", "settings", "database", "clock", "transactions", "listen", "schema", "workers",
    ]  # fmt: skip
    assert not any(each["is_problem"] for each in done.json)


def problems(qw: Qw, **environ: str) -> dict[str, str]:
    """What the doctor says is wrong, and how it is fixed."""
    done = qw("doctor", "-o", "json", **environ)
    assert done.code == 1
    return {each["name"]: each["fix"] for each in done.json if each["is_problem"]}


def test_the_doctor_names_each_problem_with_its_fix(qw: Qw, url: str) -> None:
    qw("enqueue", "noop", "-q", "mail")
    assert problems(qw) == {"workers": "qw daemon"}

    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("""insert into qw.worker (host, pid, version, types, queues, slots, server, seen_at)
            values ('here', 1, '0', '{x}', '{x}', '{}', pg_postmaster_start_time(), now() - interval '1 minute')""")
    found = problems(qw)
    assert found["queues"] == "qw daemon --queues mail"
    assert found.keys() == {"workers", "types", "queues"}


def test_the_doctor_says_that_transactions_of_other_roles_are_hidden(qw: Qw, url: str) -> None:
    role = f"qw_looker_{os.getpid()}"
    own = make_conninfo(url, user=role)
    with psycopg.connect(url) as conn:  # in a transaction
        conn.execute(f'create role "{role}" login'.encode())
        conn.commit()
        try:
            conn.execute("select 1")
            blind = qw("doctor", "-o", "json", QW_DATABASE_URL=own).json
            conn.execute(f'grant pg_read_all_stats to "{role}"'.encode())
            conn.commit()
            seeing = qw("doctor", "-o", "json", QW_DATABASE_URL=own).json
        finally:
            conn.execute(f'drop role "{role}"'.encode())

    texts = [next(each["text"] for each in found if each["name"] == "transactions") for found in (blind, seeing)]
    assert re.fullmatch(
        r"the oldest is .+ old; \d+ sessions of other roles are hidden .+ pg_read_all_stats to it", texts[0]
    )
    assert re.fullmatch(r"the oldest is .+ old", texts[1])


def test_a_schedule_that_nobody_serves_is_seen(qw: Qw, url: str) -> None:
    qw("schedule", "add", "nightly", "--every", "1h", "--type", "noop")
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("update qw.schedule set next_at = now() - interval '5 minutes 2 seconds'")

    shown, found = qw("status"), qw("status", "-o", "json").json

    assert re.search(r"nightly +5 m", shown.out)
    assert [each["schedule"] for each in found["late_schedules"]] == ["nightly"]
    assert 300 < found["late_schedules"][0]["late_seconds"] < 400
    assert problems(qw)["schedules"] == "qw daemon"


def test_the_doctor_says_why_there_is_no_database(qw: Qw) -> None:
    away = problems(qw, QW_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    wrong = problems(qw, QW_LEESE="1s")

    assert away == {"database": "start the server, or set QW_DATABASE_URL"}
    assert "settings" in wrong


def test_settings_are_shown_with_their_origin_and_without_secrets(qw: Qw) -> None:
    done = qw("config", "show", "-o", "json", QW_API_TOKENS="ci:admin:s3cret", QW_LEASE="20s")

    found = {each["name"]: (each["value"], each["origin"]) for each in done.json}
    assert found["lease"] == ("20s", "environment")
    assert found["api_tokens"] == ("ci:admin:***", "environment")
    assert found["grace"] == ("30s", "default")
    assert "s3cret" not in done.out


def test_flags_win_over_the_environment_and_that_over_the_file(qw: Qw) -> None:
    (qw.folder / "qw.toml").write_text('port = 1\nhost = "::1"\nhome = "here"\n')

    found = qw("config", "show", "--home", "flagged", "-o", "json", QW_PORT="2").json

    origins = {each["name"]: each["origin"] for each in found}
    assert (origins["home"], origins["port"], origins["host"]) == ("flag", "environment", "file")


# -- the database


def test_migrations_are_applied_once_and_shown(qw: Qw) -> None:
    done, status = qw("db", "migrate"), qw("db", "status", "-o", "json")

    assert (done.code, done.err) == (0, "the schema is up to date\n")
    assert status.code == 0
    assert all(each["applied_at"] for each in status.json)


def test_an_empty_database_is_migrated_by_the_first_command(qw: Qw, server: Server) -> None:
    name = f"qw_test_empty_{os.getpid()}"
    with psycopg.connect(server.url, autocommit=True) as conn:
        conn.execute(f'create database "{name}"'.encode())
        try:
            url = url_of(server, name)
            assert qw("db", "status", QW_DATABASE_URL=url).code == 1
            assert qw("enqueue", "noop", QW_DATABASE_URL=url).code == 0
            assert qw("db", "status", QW_DATABASE_URL=url).code == 0
        finally:
            conn.execute(f'drop database "{name}" with (force)'.encode())


def test_the_sql_of_all_migrations_is_printed_and_nothing_else(qw: Qw) -> None:
    done = qw("db", "sql")

    assert (done.code, done.err) == (0, "")
    assert "create table qw.task (" in done.out


def test_a_role_is_granted_what_it_needs_and_no_more(qw: Qw, url: str) -> None:
    role = f"qw_test_{os.getpid()}"
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f'create role "{role}"'.encode())
        try:
            looked = qw("db", "grant", role, "enqueue", "--dry-run")
            done = qw("db", "grant", role, "enqueue")

            assert f'grant execute on function qw.enqueue to "{role}";' in looked.out
            assert done.code == 0
            conn.execute(f'set role "{role}"'.encode())
            row = conn.execute("select qw.enqueue('noop')").fetchone()
            assert row is not None
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute("select qw.cancel(%s)", row)
            conn.execute("reset role")
        finally:
            conn.execute("reset role")
            conn.execute(f'drop owned by "{role}"'.encode())
            conn.execute(f'drop role "{role}"'.encode())
    assert qw("db", "grant", role, "enque").code == 2


def test_an_operator_may_add_and_remove_schedules(qw: Qw) -> None:
    given = qw("db", "grant", "zoe", "operate", "--dry-run").out

    for function in ("enqueue", "cancel", "retry", "schedule_add", "schedule_remove"):
        assert f'grant execute on function qw.{function} to "zoe";' in given


def test_a_follower_that_is_interrupted_says_nothing_and_exits_130(qw: Qw) -> None:
    id = qw("enqueue", "noop", "--in", "1h").id
    with qw.started("wait", str(id)) as process:
        wait_until(lambda: _asks_for_the_end(qw))
        process.send_signal(signal.SIGINT)
        code = process.wait(60)

    assert code == 130
    assert "Traceback" not in qw.log


def _asks_for_the_end(qw: Qw) -> bool:
    """Whether somebody polls: a command that is only just starting is ended by the signal itself."""
    with psycopg.connect(qw.environ["QW_DATABASE_URL"], autocommit=True) as conn:
        row = conn.execute(
            "select count(*) from pg_stat_activity where application_name = 'qw cli' and query like '%qw.finished%any%'"
        ).fetchone()
    return bool(row and row[0])
