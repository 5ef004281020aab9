"""Schedules as people have them: the command line, daemons as processes, and the seconds as they pass."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.databases import wait_until
from tests.e2e.daemon_process import ROOT, Daemons
from tests.e2e.queue import Queue

FIRED = "select count(*) from qw.schedule_fire where reason is null"


class Shell:
    """``qw`` as it is called from one."""

    def __init__(self, url: str, home: Path) -> None:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("QW_", "PG", "DB_", "DATABASE_"))
        }
        self._env = {**kept, "QW_DATABASE_URL": url, "QW_HOME": str(home), "COLUMNS": "200", "HOME": str(home)}

    def __call__(self, *words: str, stdin: str = "", code: int = 0) -> str:
        """What it prints. Fails when it exits with another code."""
        done = subprocess.run(
            [sys.executable, "-m", "qw", *words], cwd=ROOT, env=self._env, input=stdin, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "-o", "json"))


@pytest.fixture
def qw(url: str, tmp_path: Path) -> Shell:
    return Shell(url, tmp_path)


def lateness(queue: Queue) -> list[float]:
    """Seconds from each tick to the start of its task, as the database saw both."""
    return queue.column("""
        select extract(epoch from f.started_at - (t.headers->>'tick')::timestamptz)::float8
          from qw.task t join qw.finished f on f.task_id = t.id order by 1""")


def test_a_ticks_task_starts_at_once(qw: Shell, daemons: Daemons, queue: Queue) -> None:
    daemons().ready()
    qw("schedule", "add", "s", "--every", "1s", "--type", "noop")

    wait_until(lambda: len(lateness(queue)) >= 6)

    assert lateness(queue)[0] >= 0
    assert median(lateness(queue)) < 0.05


def test_no_tick_is_lost_or_doubled_whatever_happens_to_daemons(qw: Shell, daemons: Daemons, queue: Queue) -> None:
    one, two = daemons().ready(), daemons().ready()
    daemons().ready()
    qw("schedule", "add", "s", "--cron", "* * * * * *", "--seconds", "--type", "noop", "--misfire", "all")
    wait_until(lambda: queue.value(FIRED) >= 2)

    one.freeze()
    two.kill()
    wait_until(lambda: queue.value(FIRED) >= 5)
    one.thaw()
    wait_until(lambda: queue.value(FIRED) >= 7)
    qw("schedule", "remove", "s")

    ticks = queue.column("select tick from qw.schedule_fire order by tick")
    assert ticks == [ticks[0] + timedelta(seconds=n) for n in range(len(ticks))]
    made = queue.column("select task_id::text from qw.schedule_fire where reason is null order by 1")
    assert made == queue.column("select id::text from qw.task order by 1")
    queue.expect_whole()


def test_a_schedule_starts_runs_that_come_to_an_end(qw: Shell, daemons: Daemons, queue: Queue, tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text("workflows: {hello: {steps: [{id: a, type: noop}, {id: b, type: noop, needs: a}]}}")
    daemons("--workflows", str(file)).ready()
    qw("schedule", "add", "s", "--every", "1s", "--workflow", "hello")

    wait_until(lambda: queue.value("select count(*) from qw.run where status = 'completed'") >= 2)

    assert queue.value("select count(*) from qw.run where status = 'failed'") == 0


def test_a_crontab_becomes_schedules_that_run_its_commands(
    qw: Shell, daemons: Daemons, queue: Queue, tmp_path: Path
) -> None:
    crontab = "GREETING=hello\nMAILTO=root\n@every 1s cat > out.txt; echo $GREETING >> out.txt%from stdin\n"

    shown = qw("schedule", "import", "crontab", "-", "--timezone", "Europe/Berlin", stdin=crontab)
    assert (shown.split()[3:7], queue.value("select count(*) from qw.schedule")) == (["cat", "every", "1s", "cat"], 0)
    qw("schedule", "import", "crontab", "-", "--yes", stdin=crontab)
    daemons("--allow-commands").ready()

    out = tmp_path / "out.txt"
    wait_until(lambda: out.exists() and out.read_text() == "from stdin\nhello\n")


def test_the_verbs_do_what_they_say(qw: Shell, queue: Queue) -> None:
    added = qw("schedule", "add", "s", "--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--type", "noop")
    assert added.startswith("s added: at 02:30 every day, Europe/Berlin; next ")
    assert "already exists" in qw("schedule", "add", "s", "--cron", "@daily", "--type", "noop", code=4)
    assert "minute: 61" in qw("schedule", "add", "t", "--cron", "61 * * * *", "--type", "noop", code=2)
    assert "did you mean 's1'" in qw("schedule", "add", "s1", "--every", "1h", "--type", "noop") + qw(
        "schedule", "show", "s11", code=3
    )

    qw("schedule", "pause", "s")
    assert [(s["name"], s["state"]) for s in qw.json("schedule", "list")] == [("s", "paused"), ("s1", "active")]
    qw("schedule", "resume", "s")
    id = qw("schedule", "trigger", "s").strip()
    assert queue.value("select count(*) from qw.task where id = %s", id) == 1
    page = qw.json("schedule", "show", "s")
    assert (page["state"], page["fires"][0]["task_id"]) == ("active", id)
    ticks = qw.json("schedule", "next", "s", "--count", "400")
    assert len(ticks) == 400
    assert {tick["zone"] for tick in ticks} == {"CET", "CEST"}
    assert [tick["local"] for tick in ticks if tick["note"].startswith("this local time does not exist")] == [
        "2027-03-28T03:00:00+02:00"
    ]
    assert "forward 60 m" in qw("schedule", "next", "s", "--count", "200")
    filled = qw.json("schedule", "backfill", "s", "--since", "50h", "--yes")
    assert (len(filled), qw.json("schedule", "backfill", "s", "--since", "50h", "--yes")) == (2, [])
    qw("schedule", "remove", "s", "s1")
    assert qw("schedule", "list", "--quiet") == ""
