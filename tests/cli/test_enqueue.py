from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from tests.cli.program import Qw, lines

ID = "01890000-0000-7000-8000-000000000001"


def test_a_task_is_enqueued_and_its_id_is_all_that_stdout_has(qw: Qw) -> None:
    done = qw(
        "enqueue", "noop", "--payload", '{"n": 1}', "-q", "mail", "-p", "2", "--max-retries", "7", "--timeout", "90s"
    )

    task = qw("task", "show", str(done.id), "-o", "json").json
    assert (done.code, done.err) == (0, "")
    assert {key: task[key] for key in ("type", "status", "queue", "priority", "payload", "max_retries")} == {
        "type": "noop",
        "status": "pending",
        "queue": "mail",
        "priority": 2,
        "payload": {"n": 1},
        "max_retries": 7,
    }
    assert task["timeout_seconds"] == 90


def test_a_payload_must_fit_what_the_workers_registered(qw: Qw) -> None:
    schema = {"properties": {"width": {"type": "integer"}}, "required": ["width"], "additionalProperties": False}
    with psycopg.connect(qw.environ["QW_DATABASE_URL"]) as conn:
        conn.execute("insert into qw.type (name, schema) values ('resize', %s)", (json.dumps(schema),))

    wrong = qw("enqueue", "resize", "--payload", '{"width": "wide", "widht": 1}')
    line = qw("enqueue", "resize", "--stdin", stdin='{"payload": {"width": 1}}\n{"payload": {}}\n')
    right = qw("enqueue", "resize", "--payload", '{"width": 1}')
    unchecked = qw("enqueue", "resise", QW_CHECK_TASKS="off")

    assert wrong.code == line.code == 2
    assert "payload.width: must be an integer, not a string" in wrong.err
    assert "payload.widht: is unknown; did you mean 'width'?" in wrong.err
    assert "line 2: payload.width: is missing" in line.err
    assert right.code == unchecked.code == 0


def test_a_payload_comes_from_a_file_or_from_stdin(qw: Qw) -> None:
    (qw.folder / "p.json").write_text('{"from": "file"}')

    of_file = qw("enqueue", "noop", "--payload", "@p.json").id
    of_stdin = qw("enqueue", "noop", "--payload", "-", stdin='{"from": "stdin"}').id

    found = {task["id"]: task["payload"] for task in qw("task", "list", "-o", "json").json}
    assert found == {str(of_file): {"from": "file"}, str(of_stdin): {"from": "stdin"}}


def test_an_id_of_another_task_is_a_conflict(qw: Qw) -> None:
    id = str(qw("enqueue", "noop", "--payload", '{"n": 1}').id)

    other = qw("enqueue", "http_request", "--payload", '{"n": 1}', "--id", id)
    lines = "\n".join(
        ['{"payload": {}}', f'{{"payload": {{"n": 1}}, "id": "{id}"}}', f'{{"payload": {{}}, "id": "{id}"}}']
    )
    many = qw("enqueue", "noop", "--stdin", stdin=lines)

    assert (other.code, many.code) == (4, 4)
    assert f"task {id} exists with another type, queue or payload: it is noop in queue default" in other.err
    assert f"line 3: task {id} exists" in many.err
    assert "nothing is stored" in many.err
    assert len(qw("task", "list", "-o", "json").json) == 1


def test_the_same_id_again_makes_no_second_task(qw: Qw) -> None:
    first = qw("enqueue", "noop", "--id", ID, "-o", "json")
    second = qw("enqueue", "noop", "--id", ID, "-o", "json")

    assert (first.json, second.json) == ({"id": ID, "is_new": True}, {"id": ID, "is_new": False})
    assert len(qw("task", "list", "-o", "json").json) == 1


def test_a_key_that_is_taken_is_a_conflict_unless_told_otherwise(qw: Qw) -> None:
    holder = qw("enqueue", "noop", "--key", "k").id

    refused = qw("enqueue", "noop", "--key", "k")
    skipped = qw("enqueue", "noop", "--key", "k", "--on-conflict", "skip")
    replaced = qw("enqueue", "noop", "--key", "k", "--on-conflict", "replace")

    assert (refused.code, refused.out) == (4, "")
    assert str(holder) in refused.err
    assert skipped.id == holder
    assert replaced.id != holder
    assert qw("task", "show", str(holder), "-o", "json").json["status"] == "cancelled"


def test_a_task_waits_for_its_time(qw: Qw) -> None:
    later = qw("enqueue", "noop", "--in", "2h").id
    at = qw("enqueue", "noop", "--at", "2099-01-02T03:04:05+02:00").id

    due = datetime.fromisoformat(qw("task", "show", str(later), "-o", "json").json["run_at"])
    assert abs(due - datetime.now(UTC) - timedelta(hours=2)) < timedelta(minutes=1)
    assert qw("task", "show", str(at), "-o", "json").json["run_at"] == "2099-01-02T01:04:05.000Z"


def test_waiting_returns_the_result_and_exit_0(qw: Qw) -> None:
    with qw.daemon():
        done = qw("enqueue", "noop", "--payload", '{"a": 1}', "--wait", "-o", "json")

    assert (done.code, done.json["status"]) == (0, "completed")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["enqueue"], 2, "no task type given"),
        (["enqueue", "nop"], 2, "did you mean 'noop'?"),
        (["enqueue", "noop", "--in", "soon"], 2, "qw: --in: 'soon' is not a duration such as 30s"),
        (["enqueue", "noop", "--in", "1h", "--at", "2099-01-01T00:00Z"], 2, "give --in or --at, not both"),
        (["enqueue", "noop", "-p", "11"], 2, "qw: --priority: 11 is not an integer from 0 to 9"),
        (["enqueue", "noop", "-p", "low"], 2, "a valid integer"),
        (["enqueue", "noop", "-q", "a b"], 2, "queue: 'a b' is not a name"),
        (["enqueue", "noop", "--max-retries", "0"], 2, "qw: --max-retries: "),
        (["enqueue", "noop", "--timeout", "0s"], 2, "must be greater than 0"),
        (["enqueue", "noop", "--id", "x"], 2, "'x' is not a UUID"),
        (["enqueue", "noop", "--payload", "@none.json"], 3, "no such file: none.json"),
        (["enqueue", "noop", "--on-conflict", "maybe"], 2, "'maybe' is not error, skip or replace"),
        (["enqueue", "noop", "--stdin", "--payload", "{}"], 2, "--payload cannot be given with --stdin"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line_and_nothing_is_stored(
    qw: Qw, words: list[str], code: int, said: str
) -> None:
    done = qw(*words)

    assert done.code == code
    assert said in done.err
    assert done.err.startswith("qw: ")
    assert done.err.count("\n") == 1
    assert qw("task", "list", "--quiet").out == ""


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ('{"a": ', "not JSON"),
        ("[1]", "must be a JSON object, not a list"),
        ('{"a": "\\u0000"}', "payload.a: contains NUL"),
        ('{"a": "\\ud800"}', "payload.a: contains a lone surrogate"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": Infinity}', "Infinity is not JSON"),
        ('{"a": 1e400}', "payload.a: inf is not a JSON number"),
        ('{"a": 18446744073709551616}', "payload.a: an integer outside"),
        ('{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        ("[" * 200 + "]" * 200, "nested deeper than 100 levels"),
        ('{"a":' * 101 + "1" + "}" * 101, "nested deeper than 100 levels"),
        ('{"a": "' + "x" * 2**21 + '"}', "at most 1,048,576 bytes are stored"),
    ],
    ids=lambda value: value[:24],
)
def test_a_payload_that_cannot_be_stored_is_refused(qw: Qw, payload: str, said: str) -> None:
    done = qw("enqueue", "noop", "--payload", "-", stdin=payload)

    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert qw("task", "list", "--quiet").out == ""


def test_integers_pass_unchanged_through_the_command_line(qw: Qw) -> None:
    payload = {"a": 2**53 + 1, "b": 2**64 - 1, "c": -(2**63), "d": 0.1}

    id = qw("enqueue", "noop", "--payload", json.dumps(payload)).id

    assert qw("task", "show", str(id), "-o", "json").json["payload"] == payload


# -- many


def test_json_lines_are_enqueued_as_each_says(qw: Qw) -> None:
    given = lines([{"payload": {"n": 1}}, {"type": "command", "payload": {"argv": ["true"]}, "queue": "b", "in": "1h"}])

    done = qw("enqueue", "noop", "-q", "a", "--stdin", stdin=given + "\n\n")

    found = {task["type"]: task for task in qw("task", "list", "-o", "json").json}
    assert (done.code, done.out, done.err) == (0, "", "2 tasks enqueued\n")
    assert (found["noop"]["queue"], found["command"]["queue"]) == ("a", "b")
    assert found["command"]["run_at"] is not None


def test_lines_print_their_ids_when_asked_and_count_what_was_known(qw: Qw) -> None:
    given = lines([{"id": ID}, {}, {"key": "k"}])

    first = qw("enqueue", "noop", "--stdin", "--quiet", stdin=given)
    second = qw("enqueue", "noop", "--stdin", "-o", "json", stdin=given)

    assert first.ids[0] == UUID(ID)
    assert len(first.ids) == 3
    assert second.json == {"lines": 3, "enqueued": 1}


def test_many_lines_go_in_by_copy(qw: Qw) -> None:
    done = qw("enqueue", "noop", "--stdin", stdin=lines([{"payload": {"n": n}} for n in range(5100)]))

    assert done.err == "5,100 tasks enqueued\n"
    assert qw("status", "-o", "json").json["queues"][0]["pending"] == 5100


@pytest.mark.parametrize("from_a_pipe", [False, True])
def test_a_bad_line_is_named_and_nothing_of_the_input_is_stored(qw: Qw, from_a_pipe: bool) -> None:
    good = [{"payload": {"n": n}} for n in range(6000)]
    bad = lines(good) + '{"payload": [1]}\n{"type": "nop"}\n{"pay": 1}\nnot json\n'

    if from_a_pipe:
        done = qw.process("enqueue", "noop", "--stdin", stdin=bad)
    else:
        done = qw("enqueue", "noop", "--stdin", stdin=bad)

    assert done.code == 2
    for said in (
        "line 6001: payload: must be a JSON object",
        "line 6002: unknown task type 'nop': no worker has registered a handler for it; did you mean 'noop'?",
        "line 6003: 'pay' is not a field of a task; did you mean 'payload'?",
        "line 6004: not JSON",
        "nothing is stored",
    ):
        assert said in done.err
    assert qw("task", "list", "--quiet").out == ""


def test_a_line_that_is_too_long_is_refused_without_reading_all_of_it(qw: Qw) -> None:
    done = qw("enqueue", "noop", "--stdin", stdin=b'{"payload": {"a": "' + b"x" * 2**21 + b'"}}\n')

    assert done.code == 2
    assert "line 1: longer than" in done.err


# -- from Python


def test_a_synchronous_program_enqueues_in_its_own_transaction(qw: Qw, url: str) -> None:
    import qw as package

    with psycopg.connect(url) as conn:
        kept = package.enqueue(conn, "noop", {"n": 1}, delay=timedelta(hours=1), headers={"a": "b"}, unique_key="k")
        conn.commit()
        package.enqueue(conn, "noop")
        conn.rollback()

    assert qw("task", "list", "--quiet").ids == [kept]
    task = qw("task", "show", str(kept), "-o", "json").json
    assert (task["payload"], task["headers"], task["unique_key"]) == ({"n": 1}, {"a": "b"}, "k")


def test_a_synchronous_enqueue_is_checked_before_it_is_sent(url: str) -> None:
    import qw as package
    from qw.core.errors import Invalid

    with psycopg.connect(url) as conn, pytest.raises(Invalid, match="priority"):
        package.enqueue(conn, "noop", priority=11)


def test_the_package_has_its_public_names_and_no_others() -> None:
    import qw as package

    assert all(getattr(package, name) for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        package.Nothing  # noqa: B018


def test_files_of_this_folder_are_given_by_relative_path(qw: Qw, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "p.json").write_text("{}")

    assert qw("enqueue", "noop", "--payload", "@below/p.json").code == 0
