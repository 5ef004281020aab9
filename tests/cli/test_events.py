from __future__ import annotations

import json
import re

import psycopg

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
        wait_until(lambda: qw("events", "state", "-o", "json").json["relays"])
        task, other = qw("enqueue", "noop").id, qw("enqueue", "noop").id
        qw("queue", "pause", "mail")
        wait_until(lambda: len(tailed(qw, "--type", "task.completed")) == 2)
        wait_until(lambda: "queue.paused" in types(qw))

        assert types(qw, "--task", str(task)) == ["task.created", "task.completed"]
        assert set(types(qw, "--type", "task.*")) == {"task.created", "task.completed"}
        assert types(qw, "--since", "0s") == []
        shown = qw("events", "tail").out
        assert f"task.completed         {task}  noop" in shown
        state = qw("events", "state", "-o", "json").json["relays"]
        assert [(each["broker"], each["state"], each["error"]) for each in state] == [("postgres", "up", None)]
        replayed = qw("events", "replay", "--since", "1h", "--task", str(other))
        assert "2 events queued for publishing again" in replayed.err
        assert len(types(qw, "--task", str(other))) == 2  # the log knows them by their ids


def test_what_is_replayed_waits_for_a_relay(qw: Qw) -> None:
    qw.environ.update(KEPT)
    with qw.daemon():
        qw("enqueue", "noop")
        wait_until(lambda: len(tailed(qw, "--type", "task.*")) == 2)

    replayed = qw("events", "replay", "--since", "1h", "--type", "task.*")

    assert replayed.code == 0
    assert "2 events waiting for a daemon that relays events" in replayed.err


def test_the_state_names_each_broker_its_error_and_how_much_waits_for_it(qw: Qw) -> None:
    qw.environ.update(QW_BROKER_URL="redis://127.0.0.1:1/0", QW_CONSUME="1", QW_COMMAND_QUEUE="orders.in")
    with qw.daemon():
        wait_until(lambda: states(qw) == ["down", "down"])
        qw("enqueue", "noop", "--wait")

        found = qw("events", "state", "-o", "json").json
        shown = qw("events", "state").out

    [relay], [consumer] = found["relays"], found["consumers"]
    assert relay["broker"] == "redis"
    assert relay["pending"] >= 2
    assert relay["oldest"] is not None
    assert "refused" in relay["error"]
    assert consumer["queue"] == "orders.in"
    assert "refused" in consumer["error"]
    assert "commands from orders.in" in shown


def states(qw: Qw) -> list[str]:
    found = qw("events", "state", "-o", "json").json
    return [each["state"] for each in (*found["relays"], *found["consumers"])]


def test_the_status_says_which_broker_is_away_since_when_and_what_waits_for_it(qw: Qw) -> None:
    qw.environ.update(QW_BROKER="nats", QW_NATS_SERVERS="nats://127.0.0.1:1")
    with qw.daemon("--no-http"):
        qw("enqueue", "noop")
        wait_until(lambda: relays(qw) == ["down"])
        shown, found = qw("status").out, qw("status", "-o", "json").json["events"]
        alone = qw("events", "state").out
        doctor = qw("doctor").out

    assert re.search(r"nats +events +down +\d\d:\d\d:\d\d", shown, re.MULTILINE)
    assert "not published yet, the oldest" in shown
    assert found["unpublished"] > 0
    assert found["oldest_seconds"] > 0
    names = {"worker", "broker", "state", "reason", "error", "since", "pending", "oldest"}
    assert found["relays"][0].keys() == names
    assert found["relays"][0]["reason"] == "unreachable"
    assert re.search(r"problem  broker +nats cannot be reached.*\n +start it", doctor)
    assert alone.splitlines()[0] in shown


def relays(qw: Qw) -> list[str]:
    return [each["state"] for each in qw("status", "-o", "json").json["events"]["relays"]]


def test_events_that_no_daemon_relays_are_seen(qw: Qw) -> None:
    quiet = qw("status").out
    qw.environ.update(QW_BROKER="nats", QW_NATS_SERVERS="nats://127.0.0.1:1")
    with qw.daemon("--no-http"):
        qw("enqueue", "noop")
        wait_until(lambda: relays(qw) == ["down"])

    assert "publish" not in quiet
    assert "not published yet" in qw("status").out
    assert "no daemon publishes events; start one with: qw daemon, with QW_BROKER set" in qw("status").out


def test_several_blocked_events_are_dropped_all_or_none(qw: Qw, url: str) -> None:
    with psycopg.connect(url) as conn:
        conn.execute(
            "insert into qw.blocked_event (id, slot, key, reason, try_at)"
            " select n, 0, gen_random_uuid(), 'refused', now() from generate_series(1, 3) n"
        )

    refused = qw("events", "drop", "1", "4711", "2", "4712")
    assert (refused.code, "events 4711, 4712 are not blocked" in refused.err) == (3, True)
    assert "3 events dropped" in qw("events", "drop", "--all").err
