from __future__ import annotations

import json

from tests.cli.program import Qw
from tests.databases import wait_until

KEPT = {"QW_BROKER": "postgres"}


def tailed(qw: Qw, *words: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in qw("events", "tail", "-o", "jsonl", *words).out.splitlines()]


def types(qw: Qw, *words: str) -> list[object]:
    return [str(event["type"]).removeprefix("qw.").removesuffix(".v1") for event in tailed(qw, *words)]


def test_events_of_a_task_are_kept_shown_and_replayed(qw: Qw) -> None:
    qw.environ.update(KEPT)
    with qw.daemon():
        wait_until(lambda: qw("events", "state", "-o", "json").json)
        task, other = qw("enqueue", "noop").id, qw("enqueue", "noop").id
        qw("queue", "pause", "mail")
        wait_until(lambda: len(tailed(qw, "--type", "task.completed")) == 2)
        wait_until(lambda: "queue.paused" in types(qw))

        assert types(qw, "--task", str(task)) == ["task.created", "task.completed"]
        assert set(types(qw, "--type", "task.*")) == {"task.created", "task.completed"}
        assert types(qw, "--since", "0s") == []
        shown = qw("events", "tail").out
        assert f"task.completed         {task}  noop" in shown
        state = qw("events", "state", "-o", "json").json
        assert [(each["broker"], each["state"], each["error"]) for each in state] == [("postgres", "up", None)]
        replayed = qw("events", "replay", "--since", "1h", "--task", str(other))
        assert "2 events on the way again" in replayed.err
        assert len(types(qw, "--task", str(other))) == 2  # the log knows them by their ids


def test_what_is_replayed_waits_for_a_relay(qw: Qw) -> None:
    qw.environ.update(KEPT)
    with qw.daemon():
        qw("enqueue", "noop")
        wait_until(lambda: len(tailed(qw, "--type", "task.*")) == 2)

    replayed = qw("events", "replay", "--since", "1h", "--type", "task.*")

    assert replayed.code == 0
    assert "2 events wait for a daemon that relays events" in replayed.err
