"""Daemons killed, frozen and cut off, and their server restarted, at random; and how soon tasks run again after each.

Nothing is lost or stuck, nothing starts for a worker that is dead, and attempts overlap only as promise 3 says.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest

from tests.databases import PrivateServer, wait_until
from tests.e2e.daemon_process import Daemon, Daemons
from tests.e2e.hole import Hole, hole
from tests.e2e.queue import Queue

LEASE = 3.0
START_SECONDS = 3.0  # how old a confirmation may be by which a handler starts
SLACK = 2.0  # what a busy machine adds


@dataclass(kw_only=True)
class Member:
    """A daemon behind a line of its own."""

    daemon: Daemon
    line: Hole


@dataclass(kw_only=True)
class Chaos:
    """Four daemons, and what was done to them. ``ended_at`` and ``thawed_at``: by process."""

    daemons: Daemons
    server: PrivateServer
    stack: ExitStack
    members: list[Member] = field(default_factory=list)
    ended_at: dict[int, float] = field(default_factory=dict)
    thawed_at: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    def start(self) -> None:
        line = self.stack.enter_context(hole(self.daemons.url))
        daemon = self.daemons(url=line.url, QW_LEASE=f"{LEASE}s")
        self.members.append(Member(daemon=daemon.ready(), line=line))

    def kill(self, member: Member) -> None:
        member.daemon.kill()
        self.ended_at[member.daemon.process.pid] = time.time()
        self.members.remove(member)
        self.start()

    def freeze(self, member: Member, seconds: float, *, cut: bool) -> None:
        member.daemon.freeze()
        if cut:
            member.line.cut()
        time.sleep(seconds)
        member.daemon.thaw()
        self.thawed_at[member.daemon.process.pid].append(time.time())

    def swallow(self, member: Member, seconds: float) -> None:
        member.line.swallow()
        time.sleep(seconds)
        member.line.open()

    def restart_server(self) -> None:
        self.server.stop("immediate")
        self.server.start()

    def strike(self, chance: random.Random) -> str:
        """Do one thing to one of them, and say what."""
        member, seconds = chance.choice(self.members), 0.0
        match what := chance.choice(["kill", "kill", "freeze", "freeze and cut", "cut", "swallow", "restart"]):
            case "kill":
                self.kill(member)
            case "freeze":
                self.freeze(member, seconds := chance.choice([0.5, 1.5, LEASE + 2]), cut=False)
            case "freeze and cut":
                self.freeze(member, seconds := chance.choice([1.0, 2.5]), cut=True)
            case "cut":
                member.line.cut()
            case "swallow":
                self.swallow(member, seconds := chance.choice([0.5, LEASE + 1]))
            case "restart":
                self.restart_server()
        return f"{what}, {seconds} s" if seconds else what


@pytest.mark.parametrize("seconds", [7, pytest.param(90, marks=[pytest.mark.slow, pytest.mark.timeout(400)])])
def test_nothing_is_lost_stuck_or_started_by_the_dead(
    private_daemons: Daemons, private_server: PrivateServer, seconds: int
) -> None:
    chance = random.Random(seconds)
    with ExitStack() as stack:
        chaos = Chaos(daemons=private_daemons, server=private_server, stack=stack)
        for _ in range(2 if seconds < 10 else 4):
            chaos.start()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with connected(private_daemons.url) as queue:
                for length in (0.05, 0.5, 2.0):
                    queue.put("stint", 5, seconds=length)
            chaos.strike(chance)
        with connected(private_daemons.url) as queue:
            wait_until(lambda: queue.value("select count(*) from qw.task") == finished(queue), 90)
            wait_until(lambda: has_ended(chaos))  # attempts that were replaced, in a process that has just thawed
            expect_promises(chaos, queue)


@contextmanager
def connected(url: str) -> Iterator[Queue]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield Queue(connection, url)


def finished(queue: Queue) -> int:
    return int(queue.value("select count(*) from qw.finished"))


@dataclass(kw_only=True)
class Stint:
    """One attempt as its handler noted it."""

    pid: int
    begun: float
    ended: float


def stints(chaos: Chaos) -> dict[str, dict[int, list[Stint]]]:
    """By task and attempt. One that noted no end ended with its process."""
    found: dict[str, dict[int, list[Stint]]] = defaultdict(lambda: defaultdict(list))
    for mark in chaos.members[0].daemon.marks():
        word, _, at = mark.word.partition("@")
        tries = found[mark.task][mark.attempt]
        if word == "begin":
            tries.append(Stint(pid=mark.pid, begun=float(at), ended=chaos.ended_at.get(mark.pid, float("inf"))))
        else:
            next(stint for stint in tries if stint.pid == mark.pid).ended = float(at)
    return found


def has_ended(chaos: Chaos) -> bool:
    return all(run.ended < float("inf") for tries in stints(chaos).values() for runs in tries.values() for run in runs)


def expect_promises(chaos: Chaos, queue: Queue) -> None:
    queue.expect_whole()
    assert queue.column("select distinct status from qw.tasks") == ["completed"]
    assert queue.value("select count(*) from qw.running") == 0
    rows = queue.connection.execute(
        "select task_id::text, attempt, extract(epoch from ended_at)::float8 from qw.attempt"
        " where outcome = 'worker_died'"
    )
    rescued = {(task, attempt): at for task, attempt, at in rows}
    for task, tries in stints(chaos).items():
        for attempt, runs in tries.items():
            lost_at = rescued.get((task, attempt))
            for run in runs:
                assert lost_at is None or run.begun < lost_at + START_SECONDS, "started for a dead worker"
            for later in (run for n in tries if n > attempt for run in tries[n]):
                for run in runs:
                    expect_lawful(chaos, run, later, lost_at)


def expect_lawful(chaos: Chaos, run: Stint, later: Stint, lost_at: float | None) -> None:
    """An attempt may go on beside the next only if it lost its lease, until that ends or its process thaws."""
    if run.ended <= later.begun:
        return
    assert lost_at is not None, "two attempts at once, and the first had its lease"
    last_thaw = max(chaos.thawed_at[run.pid], default=0.0)
    assert run.ended <= max(lost_at + LEASE, last_thaw) + SLACK


def test_a_killed_daemons_tasks_run_again_within_seven_seconds_of_a_moment_without_the_database(
    daemons: Daemons, queue: Queue
) -> None:
    with hole(queue.url) as line:
        rescuer = daemons("--queues", "other", url=line.url, QW_LEASE="60s").ready()
        doomed = daemons("--queues", "default", QW_LEASE="60s").ready()
        id = queue.put_one("nap", seconds=60)
        wait_until(lambda: doomed.marks("begin"))
        line.cut()
        wait_until(lambda: rescuer.said("heartbeat lost the database"))

        assert seconds_to_rescue(doomed, queue, id) < 7 + SLACK


def test_a_killed_daemons_tasks_run_again_within_a_lease_of_a_restart_of_the_server(
    private_daemons: Daemons, private_server: PrivateServer
) -> None:
    private_daemons("--queues", "other", QW_LEASE=f"{LEASE}s").ready()
    doomed = private_daemons("--queues", "default", QW_LEASE=f"{LEASE}s").ready()
    with connected(private_daemons.url) as queue:
        id = queue.put_one("nap", seconds=60)
        wait_until(lambda: doomed.marks("begin"))
    private_server.stop("immediate")
    doomed.kill()
    private_server.start()
    started = time.monotonic()
    with connected(private_daemons.url) as queue:
        queue.wait_for([id], "pending", 30)

        assert time.monotonic() - started < LEASE + 2 + SLACK
        assert queue.field(id, "crashes") == 0


def seconds_to_rescue(doomed: Daemon, queue: Queue, *ids: object) -> float:
    doomed.kill()
    killed = time.monotonic()
    wait_until(lambda: queue.value("select count(*) from qw.running where task_id = any(%s)", list(ids)) == 0, 30)
    return time.monotonic() - killed
