"""Daemons that are killed, frozen, told to stop, or taken down by a handler."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from tests.databases import wait_until
from tests.e2e.daemon_process import LEASE, ROOT, Daemons
from tests.e2e.queue import SESSIONS, Queue
from tests.processes import slowed


def test_a_killed_daemons_tasks_run_again_within_two_seconds(daemons: Daemons, queue: Queue) -> None:
    one, two = daemons("--queues", "default").ready(), daemons("--queues", "other").ready()
    ids = queue.put("nap", 5, seconds=60)
    wait_until(lambda: len(one.marks("begin")) == 5)
    one.kill()
    killed = time.monotonic()

    queue.wait_for(ids, "pending")

    assert time.monotonic() - killed < slowed(2.5)  # 2 s, and what this machine shares with others
    assert [queue.outcomes(id) for id in ids] == [["worker_died"]] * 5
    assert queue.column("select distinct (attempt, retries, crashes)::text from qw.ready") == ["(1,0,1)"]
    assert two.is_alive
    queue.expect_whole()


def test_a_daemon_started_again_at_once_finds_its_own_tasks(daemons: Daemons, queue: Queue) -> None:
    first = daemons().ready()
    id = queue.put_one("once", seconds=60)
    wait_until(lambda: first.marks("effect"))
    first.kill()

    second = daemons().ready()
    queue.wait_for([id], "completed")

    assert second.worker != first.worker
    assert queue.field(id, "attempt") == 2


def test_the_second_attempt_after_an_effect_has_the_same_idempotency_key(daemons: Daemons, queue: Queue) -> None:
    first, second = daemons().ready(), daemons("--queues", "nothing").ready()
    id = queue.put_one("once", seconds=60)
    wait_until(lambda: first.marks("effect"))
    first.kill()
    second.kill()
    third = daemons().ready()
    queue.wait_for([id], "completed")

    effects = third.marks("effect")
    assert [effect.attempt for effect in effects] == [1, 2]
    assert len({effect.key for effect in effects}) == 1
    assert queue.value("select count(*) from qw.finished") == 1


def test_a_frozen_daemon_loses_its_tasks_and_its_late_result_is_refused(daemons: Daemons, queue: Queue) -> None:
    zombie = daemons().ready()
    id = queue.put_one("doze", seconds=1)
    wait_until(lambda: zombie.marks("begin"))
    zombie.freeze()
    other = daemons().ready()

    queue.wait_for([id], "completed", LEASE + 8)
    assert queue.field(id, "result") == "attempt 2"
    zombie.thaw()
    wait_until(lambda: zombie.said("registering as a new worker"))
    wait_until(lambda: "lease_lost" in queue.outcomes(id) or len(zombie.marks("end")) == 2)

    assert queue.field(id, "result") == "attempt 2"
    assert queue.outcomes(id)[0] == "worker_died"
    fresh = queue.put("nap", 4, seconds=0)
    queue.wait_for(fresh, "completed")
    assert other.is_alive
    queue.expect_whole()


GRIND = """
version: 1
commands:
  grind:
    run: |
      trap "" TERM
      n=150
      while [ $((n-=1)) -gt 0 ]; do date "+$$ %s.%3N" >> {file}; sleep 0.01; done
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["process", "command"])
def test_child_processes_of_a_frozen_daemon_are_gone_before_their_task_runs_again(
    daemons: Daemons, queue: Queue, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "lines"
    file.touch()
    (tmp_path / "c.yaml").write_text(GRIND.format(file=file))
    files = ("--workflows", str(tmp_path / "c.yaml"))
    frozen = daemons(*files).ready()
    if kind == "process":
        id = queue.put_one("grind", file=str(file), seconds=1.5)
    else:
        id = queue.put_one("command", command="grind")
    wait_until(lambda: file.read_text())
    frozen.freeze()
    daemons(*files).ready()
    queue.wait_for([id], "completed", LEASE + 12)

    noted: dict[str, list[float]] = {}
    for line in file.read_text().splitlines():
        noted.setdefault(line.split()[0], []).append(float(line.split()[1]))
    first, second = noted.values()
    assert first[-1] < second[0]
    frozen.thaw()
    fresh = queue.put("nap", 4, seconds=0)
    queue.wait_for(fresh, "completed")
    queue.expect_whole()


def test_a_task_whose_process_ended_while_its_daemon_was_frozen_runs_again_at_no_cost(
    daemons: Daemons, queue: Queue, tmp_path: Path
) -> None:
    file = tmp_path / "lines"
    file.touch()
    alone = daemons().ready()
    id = queue.put_one("grind", file=str(file), seconds=2)
    wait_until(lambda: file.read_text())
    alone.freeze()
    pid = int(file.read_text().split()[0])
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    lines = file.read_text().splitlines()
    assert float(lines[-1].split()[1]) - float(lines[0].split()[1]) < 1.9  # it did not come to its end
    alone.thaw()
    queue.wait_for([id], "completed")

    assert len({line.split()[0] for line in file.read_text().splitlines()}) == 2
    assert (queue.field(id, "retries"), queue.field(id, "crashes")) == (0, 0)


def test_a_claim_that_arrives_after_a_long_freeze_is_not_started(daemons: Daemons, queue: Queue) -> None:
    zombie = daemons("--queues", "default").ready()  # alone: no other one's claim can be what waits below
    queue.wait_for(queue.put("nap", seconds=0), "completed")  # the claim is prepared now: one message, one answer
    with psycopg.connect(queue.url) as locker:
        locker.execute("lock table qw.running in share mode")  # the claim waits for it
        id = queue.put_one("nap", seconds=0)
        wait_until(
            lambda: queue.value("select 1 from pg_locks where relation = 'qw.running'::regclass and not granted")
        )
        zombie.freeze()
    wait_until(lambda: queue.value("select exists (select 1 from qw.running)"))
    fence = queue.value("select fence from qw.running")
    # another one buries it; else its first beat may renew the lease, and the claim would be good again
    other = daemons("--queues", "other").ready()
    wait_until(lambda: queue.value("select count(*) from qw.worker where dead_at is not null"))
    zombie.thaw()
    queue.wait_for([id], "completed")

    assert queue.value("select fence from qw.finished where task_id = %s", id) != fence
    assert [mark.attempt for mark in zombie.marks("begin") if mark.task == str(id)] == [queue.field(id, "attempt")]
    assert other.is_alive
    queue.expect_whole()


def test_who_starts_over_holds_its_new_lock_twice(daemons: Daemons, queue: Queue) -> None:
    daemon = daemons().ready()
    holders = """
        select count(*) from pg_locks join pg_stat_activity a using (pid)
         where locktype = 'advisory' and granted and a.datname = current_database()
           and a.application_name in ('qw heartbeat', 'qw listener')
           and objid::integer = (select max(id) from qw.worker)"""
    wait_until(lambda: queue.value(holders) == 2)

    queue.value("update qw.worker set dead_at = now() returning 1")
    wait_until(lambda: daemon.said("declared dead"))

    wait_until(lambda: queue.value("select count(*) from qw.worker") == 2 and queue.value(holders) == 2)
    queue.wait_for(queue.put("nap", seconds=0), "completed")


def test_a_thawed_daemon_starts_nothing_that_others_took_over_meanwhile(daemons: Daemons, queue: Queue) -> None:
    """Its sessions were closed while it was frozen, so that it was taken for dead long before its lease ended."""
    zombie = daemons("--queues", "default", QW_LEASE="60s").ready()
    ids = queue.put("block", 8, seconds=0.5)  # dispatched all at once, begun one after the other
    wait_until(lambda: zombie.marks("begin"))
    zombie.freeze()
    begun = {mark.task for mark in zombie.marks("begin")}
    queue.value(SESSIONS)
    other = daemons(QW_LEASE="60s").ready()
    queue.wait_for(ids, "completed")
    zombie.thaw()
    wait_until(lambda: zombie.said("registering as a new worker"))
    queue.wait_for(queue.put("nap", 2, seconds=0), "completed")

    assert {
        mark.task for mark in zombie.marks("begin") if mark.pid == zombie.process.pid and mark.attempt == 1
    } == begun
    assert other.is_alive
    assert queue.value("select count(*) from qw.worker where death = 'survived'") == 1
    queue.expect_whole()


@pytest.mark.slow
def test_a_short_freeze_changes_nothing(daemons: Daemons, queue: Queue) -> None:
    one, other = daemons(QW_LEASE="4s").ready(), daemons("--queues", "other", QW_LEASE="4s").ready()
    id = queue.put_one("nap", seconds=1.5)
    wait_until(lambda: one.marks("begin"))
    one.freeze()
    time.sleep(1.5)
    one.thaw()
    queue.wait_for([id], "completed")

    assert (queue.field(id, "attempt"), queue.outcomes(id)) == (1, [])
    assert queue.value("select count(*) from qw.worker where dead_at is not null") == 0
    assert other.is_alive


@pytest.mark.slow
def test_a_task_longer_than_the_lease_runs_once(daemons: Daemons, queue: Queue) -> None:
    one, _two = daemons().ready(), daemons().ready()
    ids = [queue.put_one("nap", seconds=LEASE * 2), queue.put_one("doze", seconds=LEASE * 2)]

    queue.wait_for(ids, "completed")

    assert len(one.marks("begin")) == 2
    assert queue.column("select distinct attempt from qw.finished") == [1]


def test_a_blocked_loop_costs_no_lease(daemons: Daemons, queue: Queue) -> None:
    one, _two = daemons().ready(), daemons("--queues", "other").ready()
    blocked = queue.put_one("block", seconds=LEASE * 2)
    wait_until(lambda: one.marks("begin"))
    late = queue.put_one("nap", seconds=0)
    queue.wait_for([blocked, late], "completed")

    assert [mark.attempt for mark in one.marks("begin")] == [1, 1]
    assert queue.value("select count(*) from qw.attempt") == 0


@pytest.mark.slow
def test_a_lock_held_in_c_beyond_the_lease_loses_it(daemons: Daemons, queue: Queue) -> None:
    holder = daemons("--queues", "default").ready()
    id = queue.put_one("clutch", seconds=LEASE + 3)
    wait_until(lambda: holder.marks("begin"))
    daemons().ready()

    queue.wait_for([id], "completed", LEASE + 12)
    wait_until(lambda: len(holder.marks("end")) == 2)

    assert queue.field(id, "result") == "attempt 2"
    assert queue.field(id, "crashes") == 0
    assert queue.outcomes(id)[0] == "worker_died"
    queue.expect_whole()


def test_daemons_of_one_host_share_nothing(daemons: Daemons, queue: Queue) -> None:
    one, two = daemons().ready(), daemons().ready()
    assert one.worker != two.worker
    ids = queue.put("nap", 20, seconds=1)
    queue.wait_for(ids, "completed")
    one.kill()

    more = queue.put("nap", 5, seconds=0)
    queue.wait_for(more, "completed")
    assert queue.value("select count(*) from qw.attempt") == 0
    assert two.is_alive


def test_a_daemon_that_is_started_again_at_once_inherits_no_lease(daemons: Daemons, queue: Queue) -> None:
    daemon = daemons().ready()
    dead = daemon.worker
    ids = queue.put("nap", 3, seconds=60)
    wait_until(lambda: len(daemon.marks("begin")) == 3)

    daemon.kill()
    daemon.start()

    wait_until(lambda: len(daemon.marks("begin")) == 6)
    assert daemon.worker != dead
    assert queue.value("select dead_at is not null from qw.worker where id = %s", dead)
    assert queue.column("select distinct worker from qw.running") == [daemon.worker]
    assert [queue.outcomes(id) for id in ids] == [["worker_died"]] * 3


@pytest.mark.parametrize(
    "how", ["exit", pytest.param("abort", marks=pytest.mark.slow), pytest.param("segfault", marks=pytest.mark.slow)]
)
def test_a_poison_task_is_failed_after_three_crashes_and_takes_few_along(
    daemons: Daemons, queue: Queue, how: str
) -> None:
    innocent = queue.put("nap", 3, seconds=1)
    poison = queue.put("die", 2, how=how)
    for _ in range(10):  # whoever keeps it running, as systemd would
        daemon = daemons()
        wait_until(lambda alive=daemon: not alive.is_alive or are_failed(queue, poison), 30)  # type: ignore[misc]
        if daemon.is_alive:
            break

    queue.wait_for(innocent, "completed")
    assert [queue.status(id) for id in poison] == ["failed", "failed"]
    assert ["died while it held this task (3 of 3)" in queue.field(id, "error") for id in poison] == [True, True]
    assert all(queue.field(id, "crashes") <= 2 for id in innocent)
    queue.expect_whole()


@pytest.mark.slow
def test_innocents_that_twice_died_beside_a_poison_task_finish_together(daemons: Daemons, queue: Queue) -> None:
    poison = queue.put_one("die", how="exit")
    innocent = queue.put("nap", 24, seconds=1.5)
    started = time.monotonic()
    for _ in range(3):
        assert daemons().exit_code(30) == 1
    last = daemons().ready()

    queue.wait_for(innocent, "completed")

    assert time.monotonic() - started < slowed(60)
    assert (queue.status(poison), queue.field(poison, "crashes")) == ("failed", 3)
    assert last.is_alive
    queue.expect_whole()


def test_the_items_of_a_killed_batch_run_again_together(daemons: Daemons, queue: Queue) -> None:
    first = daemons().ready()
    ids = queue.put("pile", 4, seconds=60)
    wait_until(lambda: len(first.marks("begin")) == 4)
    first.kill()

    second = daemons().ready()
    queue.wait_for(ids, "completed")

    assert [queue.outcomes(id) for id in ids] == [["worker_died"]] * 4
    assert {mark.task for mark in second.marks("end")} == {str(id) for id in ids}
    assert len(second.marks("end")) == 4
    queue.expect_whole()


def test_an_item_that_kills_the_process_fails_and_its_batch_does_not(daemons: Daemons, queue: Queue) -> None:
    innocent = queue.put("pile", 3)
    poison = queue.put_one("pile", how="exit")
    daemon = daemons()

    def restarted() -> bool:
        nonlocal daemon
        if not daemon.is_alive:
            daemon = daemons()
        return bool(queue.status(poison) == "failed")

    wait_until(restarted)
    if not daemon.is_alive:
        daemons()
    queue.wait_for(innocent, "completed")

    assert queue.field(poison, "crashes") == 3
    assert all(len(queue.outcomes(id)) <= 2 for id in innocent)
    queue.expect_whole()


def are_failed(queue: Queue, ids: list[UUID]) -> bool:
    return {queue.status(id) for id in ids} == {"failed"}


def test_a_stop_drains_and_gives_back_what_it_does_not_finish(daemons: Daemons, queue: Queue) -> None:
    daemon = daemons(QW_GRACE="1s").ready()
    short, long = queue.put_one("nap", seconds=0.7), queue.put_one("nap", seconds=60)
    wait_until(lambda: len(daemon.marks("begin")) == 2)
    seq = queue.value("select seq from qw.running where task_id = %s", long)
    daemon.send(signal.SIGTERM)
    wait_until(lambda: daemon.said("draining"))
    after = queue.put_one("nap", seconds=0)

    assert daemon.exit_code() == 0
    assert [queue.status(id) for id in (short, long, after)] == ["completed", "pending", "pending"]
    assert queue.value("select seq from qw.ready where task_id = %s and retries + crashes = 0", long) == seq
    assert queue.value("select count(*) from qw.worker where stopped_at is not null and dead_at is null") == 1
    assert queue.value("select count(*) from qw.attempt") == 0
    queue.expect_whole()


def test_a_thread_that_stays_is_given_back_too(daemons: Daemons, queue: Queue) -> None:
    daemon = daemons(QW_GRACE="0s").ready()
    id = queue.put_one("doze", seconds=60)
    wait_until(lambda: daemon.marks("begin"))
    daemon.send(signal.SIGTERM)

    assert daemon.exit_code(20) == 0
    assert (queue.status(id), queue.field(id, "crashes")) == ("pending", 0)


def test_a_second_signal_does_not_wait_for_the_grace(daemons: Daemons, queue: Queue) -> None:
    daemon = daemons(QW_GRACE="60s").ready()
    id = queue.put_one("nap", seconds=60)
    wait_until(lambda: daemon.marks("begin"))
    daemon.send(signal.SIGTERM)
    wait_until(lambda: daemon.said("draining"))
    assert daemon.is_alive
    daemon.send(signal.SIGINT)

    assert daemon.exit_code(8) == 0
    assert queue.status(id) == "pending"


@pytest.mark.parametrize("moment", [0.1, 0.5])
def test_a_stop_during_the_start_ends_it_at_once(daemons: Daemons, queue: Queue, moment: float) -> None:
    daemon = daemons.of(ROOT)
    time.sleep(moment)
    daemon.send(signal.SIGTERM)

    assert daemon.exit_code(8) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert queue.value("select count(*) from qw.worker where stopped_at is null and dead_at is null") == 0
