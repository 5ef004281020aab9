from __future__ import annotations

import signal
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.cli.program import Qw, lines
from tests.databases import wait_until

FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
WORKFLOW = "workflows: { one: { steps: [{ id: first, type: noop }] } }\n"


def statuses(qw: Qw) -> dict[str, int]:
    """How many tasks there are of each status."""
    counts: dict[str, int] = {}
    for task in qw("task", "list", "-n", "1000", "-o", "json").json:
        counts[task["status"]] = counts.get(task["status"], 0) + 1
    return counts


@pytest.fixture
def mixed(qw: Qw) -> dict[str, str]:
    """Four tasks: completed, failed, cancelled and pending. Their ids by status."""
    completed = qw("enqueue", "noop", "--payload", '{"customerId": "zoe"}').id
    failed = qw("run", "--max-retries", "1", "-q", "shell", "--", "sh", "-c", "echo oops >&2; exit 3").id
    qw.drain()
    cancelled = qw("enqueue", "noop", "-q", "mail").id
    assert qw("task", "cancel", str(cancelled)).code == 0
    pending = qw("enqueue", "noop", "--in", "1h").id
    return {
        "completed": str(completed),
        "failed": str(failed),
        "cancelled": str(cancelled),
        "pending": str(pending),
    }


def test_tasks_are_listed_by_what_they_are(qw: Qw, mixed: dict[str, str]) -> None:
    for status, id in mixed.items():
        assert qw("task", "list", "--status", status, "--quiet").out.split() == [id]
    assert qw("task", "list", "--type", "command", "--quiet").out.split() == [mixed["failed"]]
    assert qw("task", "list", "-q", "mail", "--quiet").out.split() == [mixed["cancelled"]]
    assert qw("task", "list", "--error", "code 3", "--quiet").out.split() == [mixed["failed"]]
    assert qw("task", "list", "--until", "1h", "--quiet").out == ""
    assert len(qw("task", "list", "--since", "1h", "--quiet").ids) == 4
    assert len(qw("task", "list", "-n", "1", "--quiet").ids) == 1
    assert qw("task", "list", "--run", str(uuid4()), "--quiet").out == ""


def test_words_of_people_for_times_and_states(qw: Qw, mixed: dict[str, str]) -> None:
    assert len(qw("task", "list", "--since", "yesterday", "--quiet").ids) == 4
    assert qw("task", "list", "--until", "yesterday", "--quiet").out == ""
    assert qw("task", "list", "--status", "running").code == 0
    assert qw("enqueue", "noop", "--at", "tomorrow 9am").code == 0
    assert "2026-11-24T18:00 (local)" in qw("enqueue", "noop", "--at", "soon").err
    assert "'90' has no unit: 90s, 90m, 90h or 90d" in qw("enqueue", "noop", "--in", "90").err
    assert "such as 2h, yesterday" in qw("task", "list", "--since", "90").err


def test_the_next_page_begins_before_the_last_id(qw: Qw, mixed: dict[str, str]) -> None:
    first = qw("task", "list", "-n", "2", "--quiet").ids
    second = qw("task", "list", "-n", "2", "--before", str(first[-1]), "--quiet").ids

    assert sorted(map(str, first + second)) == sorted(mixed.values())


def test_a_list_that_was_cut_says_how_to_go_on(qw: Qw) -> None:
    ids = [f"01890000-000{n}-7000-8000-000000000000" for n in range(3)]
    for id in ids:
        qw("enqueue", "noop", "--id", id)

    assert qw("task", "list", "-n", "2").err == f"2 tasks shown; older ones: repeat it with --before {ids[1]}\n"
    assert qw("task", "list", "-n", "2", "--before", ids[1]).err == ""
    assert qw("task", "list", "-n", "2", "--quiet").err == ""


def test_a_task_is_shown_with_its_attempts_and_its_log(qw: Qw, mixed: dict[str, str]) -> None:
    shown = qw("task", "show", mixed["failed"])
    found = qw("task", "show", mixed["failed"], "-o", "json").json

    assert "exit code 3" in shown.out
    assert "oops" in shown.out
    assert [line["message"] for line in found["log"]] == ["oops"]
    assert found["error"] == "exit code 3: oops"


def test_what_is_failed_or_cancelled_is_run_again_by_id(qw: Qw, mixed: dict[str, str]) -> None:
    done = qw("task", "retry", mixed["failed"], mixed["cancelled"])
    refused = qw("task", "retry", mixed["completed"])

    assert (done.code, done.err) == (0, "2 tasks retried\n")
    assert refused.code == 4
    assert "is completed; only failed, cancelled and retrying tasks can be retried" in refused.err
    assert statuses(qw) == {"completed": 1, "pending": 3}


def test_a_bulk_verb_wants_yes_where_nobody_can_be_asked(qw: Qw, mixed: dict[str, str]) -> None:
    looked = qw("task", "retry", "--type", "command", "--dry-run")
    refused = qw("task", "retry", "--type", "command")
    done = qw("task", "retry", "--type", "command", "--yes", "-o", "jsonl")

    assert (looked.out.split(), looked.err) == ([mixed["failed"]], "1 task would be retried\n")
    assert refused.code == 2
    assert "1 task would be changed, and there is no terminal to confirm; repeat with --yes" in refused.err
    assert done.json == {"id": mixed["failed"], "outcome": "retried"}


def test_ids_come_from_stdin(qw: Qw, mixed: dict[str, str]) -> None:
    ids = qw("task", "list", "--status", "pending", "--quiet").out

    done = qw("task", "cancel", "-", "--yes", "--quiet", stdin=ids)

    assert done.out.split() == [mixed["pending"]]
    assert statuses(qw)["cancelled"] == 2


def test_a_bulk_verb_wants_to_know_which_tasks(qw: Qw) -> None:
    assert "takes task ids, filters such as --type, or --all" in qw("task", "cancel").err
    assert "not both" in qw("task", "cancel", "019abc", "--all").err


def test_many_are_cancelled_in_batches_and_again_is_harmless(qw: Qw) -> None:
    qw("enqueue", "noop", "-q", "many", "--stdin", stdin=lines([{} for _ in range(1200)]))

    done = qw("task", "cancel", "-q", "many", "--yes")
    again = qw("task", "cancel", "-q", "many", "--yes")

    nothing = "qw: nothing to cancel: no pending or retrying task matches; running ones with --running\n"
    assert (done.err, again.code, again.err) == ("1,200 tasks cancelled\n", 3, nothing)
    assert qw("status", "-o", "json").json["queues"][0]["cancelled"] == 1200


TAKE_KEY = """
    insert into qw.idempotency (key, task_id, digest)
    select '{verb} ' || task_id || ' ' || fence, task_id, '' from qw.finished where task_id = %s"""
HOLD = {  # what a transaction does so that whoever changes the task waits for it
    "cancel": "select from qw.ready where task_id = %s for update",
    "retry": "select from qw.finished where task_id = %s for update",
    "requeue": TAKE_KEY.format(verb="requeue"),
    "compensate": TAKE_KEY.format(verb="compensate"),
}
WAITS = """
    select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize(
    ("verb", "rest"),
    [
        ("cancel", "700 tasks cancelled\n"),
        ("retry", "700 tasks retried\n"),
        ("requeue", "700 tasks enqueued again, 500 were before\n"),
        ("compensate", "700 tasks to be undone, 500 were before\n"),
    ],
)
def test_a_bulk_verb_that_was_stopped_goes_on_with_the_rest(
    qw: Qw, url: str, verb: str, rest: str, number: signal.Signals
) -> None:
    qw("enqueue", "noop", "--stdin", stdin=lines([{} for _ in range(1200)]))
    ids = sorted(qw("task", "cancel", "--all", "--dry-run").ids)
    words = ["task", verb, "--type", "noop", "--yes"]
    if verb == "compensate":
        qw.drain()
    elif verb != "cancel":
        qw("task", "cancel", "--all", "--yes")
        words += ["--status", "cancelled"]

    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as conn:
        holder.execute(HOLD[verb], [ids[700]])
        with qw.started(*words) as process:
            wait_until(lambda: conn.execute(WAITS).fetchone())
            process.send_signal(number)
            code = process.wait(60)
        conn.execute(f"select pg_terminate_backend(pid, 5000) from ({WAITS}) w".encode())
        holder.rollback()
    again = qw(*words)

    assert code == (130 if number == signal.SIGINT else -number)
    assert again.err == rest
    assert ("500 of 1,200 tasks" in qw.log) == (number == signal.SIGINT)


def test_finished_tasks_are_enqueued_anew_as_new_tasks(qw: Qw, mixed: dict[str, str]) -> None:
    done = qw("task", "requeue", mixed["completed"])
    refused = qw("task", "requeue", mixed["pending"])

    waiting = qw("task", "list", "--status", "pending", "-o", "json").json
    assert (done.code, refused.code) == (0, 4)
    assert [task["payload"] for task in waiting if task["id"] not in mixed.values()] == [{"customerId": "zoe"}]
    assert statuses(qw)["completed"] == 1


def test_a_task_whose_unique_key_another_has_is_not_enqueued_anew_until_it_is_free(qw: Qw) -> None:
    first = str(qw("enqueue", "noop", "--key", "k").id)
    qw("task", "cancel", first)
    second = str(qw("enqueue", "noop", "--key", "k").id)

    refused = qw("task", "requeue", first)
    qw("task", "cancel", second)
    done = qw("task", "requeue", first)

    assert (refused.code, done.code) == (4, 0)
    assert f"task {second} has its unique key" in refused.err
    assert done.err == "1 task enqueued again\n"


def test_a_completed_task_is_undone_and_no_other(qw: Qw, mixed: dict[str, str]) -> None:
    done = qw("task", "compensate", mixed["completed"], "--reason", "wrong customer")
    again = qw("task", "compensate", mixed["completed"], "--reason", "once more")
    refused = {status: qw("task", "compensate", mixed[status]) for status in ("failed", "pending")}

    undo = qw("task", "list", "--type", "compensation", "-o", "json").json
    assert (done.err, again.err) == ("1 task to be undone\n", "0 tasks to be undone, 1 were before\n")
    assert [done.code, again.code, *(each.code for each in refused.values())] == [0, 0, 4, 4]
    assert "is failed; only completed tasks can be undone" in refused["failed"].err
    assert "is not final; only completed tasks can be undone" in refused["pending"].err
    assert [task["parent_id"] for task in undo] == [mixed["completed"]]
    assert undo[0]["payload"] == {
        "originalTaskId": mixed["completed"], "originalTaskType": "noop", "compensationAction": "rollback",
        "reason": "wrong customer", "customerId": "zoe",
    }  # fmt: skip


def test_an_id_is_given_by_its_beginning(qw: Qw) -> None:
    id = str(qw("enqueue", "noop").id)

    assert qw("task", "show", id[:18], "-o", "json").json["id"] == id
    assert qw("task", "show", "00000000").code == 3


def test_a_beginning_of_two_ids_is_a_conflict(qw: Qw) -> None:
    ids = [f"01890000-0000-7000-8000-00000000000{n}" for n in (1, 2)]
    for id in ids:
        qw("enqueue", "noop", "--id", id)

    refused = qw("task", "show", "01890000")

    assert refused.code == 4
    assert all(id in refused.err for id in ids)


def test_an_id_of_the_other_kind_names_the_verb_for_it(qw: Qw) -> None:
    task = str(qw("enqueue", "noop").id)
    (qw.folder / "workflows.yaml").write_text(WORKFLOW)
    assert qw("apply").code == 0
    run = str(qw("workflow", "start", "one").id)

    for word in (run, run[:23]):
        for words in (["task", "show", word], ["task", "cancel", word], ["logs", word]):
            done = qw(*words)
            assert (done.code, done.err) == (3, f"qw: {run} is a run; see: qw workflow show {run}\n")
    for word in (task, task[:23]):
        for words in (["show", word], ["cancel", word], ["graph", word], ["retry", word], ["signal", word, "go"]):
            done = qw("workflow", *words)
            assert (done.code, done.err) == (3, f"qw: {task} is a task; see: qw task show {task}\n")


def test_a_run_is_named_by_its_beginning(qw: Qw) -> None:
    (qw.folder / "workflows.yaml").write_text(WORKFLOW)
    qw("apply")
    run = str(qw("workflow", "start", "one").id)
    qw.drain()

    assert qw("workflow", "show", run[:18], "-o", "json").json["id"] == run
    assert qw("why", run[:18], "-o", "json").json["id"] == run
    assert len(qw("task", "list", "--run", run[:18], "--quiet").ids) == 1
    assert "is completed; only a run in progress" in qw("workflow", "cancel", run[:18]).err


def test_a_list_says_what_each_task_does(qw: Qw) -> None:
    (qw.folder / "workflows.yaml").write_text(WORKFLOW)
    qw("apply")
    qw("workflow", "start", "one")
    qw.drain()
    qw("run", "--", "sh", "-c", "exit 3")
    qw("enqueue", "noop", "--payload", '{"url": "https://me:pw@example.com", "n": 7, "token": "t"}')

    shown = qw("task", "list").out

    assert "one/first" in shown
    assert "sh -c 'exit 3'" in shown
    assert "7 https://***@example.com ***" in shown


@pytest.mark.skipif(FAKETIME is None, reason="needs libfaketime")
@pytest.mark.parametrize("offset", ["+1d", "-1d"])
def test_a_wrong_clock_of_the_client_does_not_matter(qw: Qw, offset: str) -> None:
    for words in (["run", "--", "true"], ["enqueue", "noop"]):
        made = qw.process(*words, LD_PRELOAD=str(FAKETIME), FAKETIME=offset, FAKETIME_DONT_FAKE_MONOTONIC="1")
        assert made.code == 0, made.err
        assert qw("task", "show", str(made.id), "-o", "json").json["id"] == str(made.id)


def test_credentials_are_in_no_list_run_or_schedule(qw: Qw) -> None:
    values = '{"token": "s3cret", "url": "https://me:s3cret@host/?api_key=s3cret"}'
    text = """
workflows:
  one:
    input: { token: string, url: string }
    steps: [{ id: first, type: noop }]
    outputs: { token: "${{ input.token }}", url: "${{ input.url }}" }
"""
    (qw.folder / "workflows.yaml").write_text(text)
    qw("apply")
    run = str(qw("workflow", "start", "one", "--input", values).id)
    task = str(qw("enqueue", "noop", "--payload", values).id)
    qw("schedule", "add", "daily", "--cron", "0 0 * * *", "--type", "noop", "--payload", values)
    qw.drain()

    for words in (["task", "list"], ["workflow", "runs"], ["workflow", "show", run], ["schedule", "list"],
                  ["schedule", "show", "daily"], ["task", "show", task]):  # fmt: skip
        for output in ("table", "json", "jsonl"):
            shown = qw(*words, "-o", output)
            assert shown.code == 0, shown.err
            assert "s3cret" not in shown.out, (words, output)
    assert qw("wait", run, "-o", "json").json[0]["output"]["token"] == "s3cret"  # what a program waited for


def test_a_terminal_shows_ids_that_every_verb_takes(qw: Qw) -> None:
    ids = [f"01890000-0000-7000-8000-00000{n}000000" for n in range(3)]
    for id in ids:
        qw("enqueue", "noop", "--id", id)

    shown = qw("task", "list", COLUMNS="60").out.splitlines()[1:]

    assert [line.split()[0] for line in shown] == [id[:30] for id in reversed(ids)]
    assert [qw("task", "show", id[:30], "-o", "json").json["id"] for id in ids] == ids
    assert qw("task", "list", "--quiet", COLUMNS="60").out.split() == [*reversed(ids)]


@pytest.mark.parametrize("id", ["-1", "", "abc", "1;DROP TABLE qw.task", "../1", str(2**63), "%", "01890000\n"])
@pytest.mark.parametrize("verb", ["show", "cancel"])
def test_what_is_no_id_is_refused(qw: Qw, verb: str, id: str) -> None:
    done = qw("task", verb, "--", id)

    assert done.code in (2, 3)
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("limit", ["-1", "0", "1001", "1e9", "x"])
def test_a_limit_is_between_1_and_1000(qw: Qw, limit: str) -> None:
    assert qw("task", "list", f"--limit={limit}").code == 2


def test_a_cursor_that_was_forged_is_refused(qw: Qw) -> None:
    assert qw("task", "list", "--before", "zzzz").code == 2


@pytest.mark.parametrize("word", ["' OR 1=1 --", "x'; select pg_sleep(5); --", "%s", "\\"])
def test_filters_are_values_and_never_sql(qw: Qw, url: str, word: str) -> None:
    qw("enqueue", "noop")

    for flag in ("--type", "--queue", "--error"):
        assert qw("task", "list", flag, word, "--quiet").out == ""
    assert qw("task", "list", "--status", word).code == 2
    with psycopg.connect(url) as conn:
        assert conn.execute("select count(*) from qw.task").fetchone() == (1,)


def test_a_record_has_stable_names(qw: Qw) -> None:
    qw("enqueue", "noop")
    found: dict[str, Any] = qw("task", "list", "-o", "json").json[0]

    assert list(found) == [
        "id", "type", "queue", "priority", "payload", "max_retries", "timeout_seconds", "unique_key", "run_id", "step",
        "parent_id", "headers", "created_at", "status", "attempt", "retries", "crashes", "run_at", "reason", "worker",
        "started_at", "finished_at", "result", "error", "error_kind",
    ]  # fmt: skip


def test_a_task_that_waits_is_changed_in_place(qw: Qw) -> None:
    id = qw("enqueue", "noop", "--in", "1h", "--payload", '{"n": 1}').out.strip()

    done = qw("task", "edit", id, "--queue", "mail", "-p", "1", "--at", "now", "--payload", '{"n": 2}')
    task = qw("task", "show", id, "-o", "json").json
    counts = {queue["queue"]: queue["pending"] for queue in qw("queue", "list", "-o", "json").json}
    qw.drain()

    assert (done.code, task["queue"], task["priority"], task["payload"], task["run_at"]) == (
        0,
        "mail",
        1,
        {"n": 2},
        None,
    )
    assert {name: count for name, count in counts.items() if count} == {"mail": 1}
    assert qw("task", "show", id, "-o", "json").json["status"] == "completed"
    late = qw("task", "edit", id, "-p", "2")
    assert (late.code, "is completed; only a waiting task can be changed" in late.err) == (4, True)


def test_a_task_is_changed_in_the_editor(qw: Qw) -> None:
    id = qw("enqueue", "noop", "--payload", '{"n": 1}').out.strip()

    done = qw("task", "edit", id, EDITOR="sed -i -e 's/n: 1/n: 7/' -e 's/^at:.*/at: tomorrow 9am/'")
    same = qw("task", "edit", id, EDITOR="true")
    task = qw("task", "show", id, "-o", "json").json
    wrong = qw("task", "edit", id, EDITOR="sed -i 's/payload/pay/'")

    assert (done.code, task["payload"], "T" in task["run_at"]) == (0, {"n": 7}, True)
    assert same.err == f"task {id} stays as it is\n"
    assert (wrong.code, "nothing was changed" in wrong.err) == (2, True)


def test_tasks_are_moved_to_the_front_in_the_order_given(qw: Qw, url: str) -> None:
    ids = [qw("enqueue", "noop").id for _ in range(4)]

    qw("queue", "limit", "default", "--concurrency", "1")
    done = qw("task", "move", "--front", str(ids[3]), str(ids[2]))
    refused = qw("task", "move", str(ids[0]))

    waiting = "select seq, task_id from qw.held union all select seq, task_id from qw.ready"
    with psycopg.connect(url) as conn:
        line = [id for _, id in sorted(conn.execute(waiting).fetchall())]
    assert (done.code, done.err) == (0, "2 tasks moved\n")
    assert line == [ids[3], ids[2], ids[0], ids[1]]
    assert (refused.code, "--front" in refused.err) == (2, True)


def test_a_filter_that_names_what_is_not_there_says_so(qw: Qw) -> None:
    qw("enqueue", "noop", "-q", "reports")

    refused = [qw("task", "cancel", *words, "--yes") for words in (["-q", "reprots"], ["-t", "nop"])]
    listed, nothing = qw("task", "list", "-q", "reprots"), qw("task", "retry", "-q", "reports", "--yes")

    assert [(done.code, "did you mean" in done.err) for done in refused] == [(3, True), (3, True)]
    assert (listed.code, "did you mean 'reports'?" in listed.err) == (0, True)
    assert (nothing.code, nothing.err) == (3, "qw: nothing to retry: no failed task matches\n")


def test_stdin_without_ids_is_told_and_json_is_empty(qw: Qw) -> None:
    told = qw("task", "cancel", "-", "--yes", stdin="")
    listed = qw("task", "cancel", "--all", "--yes", "-o", "json")

    assert (told.code, told.err) == (3, "qw: nothing to cancel: stdin has no ids\n")
    assert (listed.code, listed.json) == (3, [])


def test_removed_tasks_are_gone_and_live_ones_are_refused(qw: Qw) -> None:
    done, waiting = qw("enqueue", "noop").id, qw("enqueue", "noop", "--in", "1h").id
    qw.drain()

    refused = qw("task", "remove", str(done), str(waiting))
    left = qw("task", "list", "--quiet").out.split()

    assert (refused.code, refused.err.splitlines()[0]) == (4, "1 task removed, 1 not")
    assert f"wait until it has finished, or cancel it: qw task cancel {waiting}" in refused.err
    assert left == [str(waiting)]
    assert qw("status", "-o", "json").json["queues"][0]["completed"] == 0


def test_tasks_of_a_run_stay_with_it(qw: Qw) -> None:
    (qw.folder / "flow.yaml").write_text("version: 1\nworkflows: {flow: {steps: [{id: a, type: noop}]}}\n")
    qw("apply", "-f", "flow.yaml")
    qw("workflow", "start", "flow")
    qw.drain()
    step = qw("task", "list", "--quiet").out.strip()

    refused = qw("task", "remove", step)

    assert (refused.code, "belongs to a run and is deleted with it" in refused.err) == (4, True)
    assert qw("task", "show", step).code == 0


def test_all_tasks_are_moved_or_none(qw: Qw) -> None:
    done = qw("enqueue", "noop").id
    qw.drain()
    waiting = qw("enqueue", "noop", "--in", "1h").id

    refused = qw("task", "move", "--front", str(done), str(waiting))

    assert (refused.code, "nothing was moved" in refused.err) == (4, True)
    assert qw("task", "list", "--status", "pending", "-o", "json").json[0]["run_at"] is not None
