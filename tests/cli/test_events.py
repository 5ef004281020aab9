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


def test_the_state_names_each_broker_its_error_and_how_much_waits_for_it(qw: Qw) -> None:
    qw.environ.update(QW_BROKER_URL="redis://127.0.0.1:1/0", QW_CONSUME="1", QW_COMMAND_QUEUE="orders.in")
    with qw.daemon():
        wait_until(lambda: [part["state"] for part in qw("events", "state", "-o", "json").json] == ["down", "down"])
        qw("enqueue", "noop", "--wait")

        relay, consumer = qw("events", "state", "-o", "json").json
        shown = qw("events", "state").out

    assert (relay["role"], relay["broker"], relay["queue"]) == ("events", "redis", None)
    assert relay["pending"] >= 2
    assert relay["oldest"] is not None
    assert "refused" in relay["error"]
    assert (consumer["role"], consumer["queue"], consumer["pending"]) == ("commands", "orders.in", None)
    assert "refused" in consumer["error"]
    assert "commands from orders.in" in shown
