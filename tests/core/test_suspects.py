from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from qw.core.suspects import CrashRecord, all_died, may_run_beside
from qw.core.task import Policy, Status
from qw.core.task.ending import WorkerDied, end


def record(*died: int, crashes: int | None = None) -> CrashRecord:
    return CrashRecord(crashes=len(died) if crashes is None else crashes, died=frozenset(died))


def test_only_suspects_that_never_crashed_together_share_a_process() -> None:
    assert may_run_beside(record(1, 2), [record(3, 4), record(5, 6)])
    assert not may_run_beside(record(1, 2), [record(3, 4), record(2, 5)])
    assert not may_run_beside(record(1, 2, 3), [record(4, 5)])
    assert not may_run_beside(record(crashes=2), [record(4, 5)])
    assert may_run_beside(record(1, 2, 3), [])


def test_what_a_claim_must_leave_is_what_may_not_run_beside_those_here() -> None:
    assert all_died([]) == frozenset()
    assert all_died([record(1, 2), record(3, 4)]) == frozenset({1, 2, 3, 4})
    assert all_died([record(1, 2, 3)]) is None
    assert all_died([record(crashes=2)]) is None


@dataclass(eq=False)
class Simulated:
    """A task in a simulated process; *seconds* long, or fatal to it after that."""

    seconds: int
    is_poison: bool
    crashes: int = 0
    died: set[int] = field(default_factory=set)
    status: Status = Status.PENDING

    @property
    def record(self) -> CrashRecord:
        return CrashRecord(crashes=self.crashes, died=frozenset(self.died))


def simulate(tasks: list[Simulated], slots: int, chance: random.Random) -> int:
    """Run *tasks* in one process after another until all are final. Returns the seconds that took."""
    seconds = worker = 0
    while any(not task.status.is_final for task in tasks):
        worker += 1
        running: dict[Simulated, int] = {}
        while any(not task.status.is_final for task in tasks):
            seconds += 1
            waiting = [task for task in tasks if not task.status.is_final and task not in running]
            for task in waiting:
                suspects = [other.record for other in running if other.record.is_suspect]
                if len(running) < slots and (not task.record.is_suspect or may_run_beside(task.record, suspects)):
                    running[task] = 0
            for task in running:
                running[task] += 1
            over = [task for task, ran in running.items() if ran >= task.seconds]
            if any(task.is_poison for task in over):
                crash(worker, [task for task in running if task not in over or task.is_poison], tasks)
                break
            for task in over:
                task.status = Status.COMPLETED
                del running[task]
    return seconds


def crash(worker: int, held: list[Simulated], tasks: list[Simulated]) -> None:
    suspects = [task for task in held if task.record.is_suspect]
    for task in held:
        died = WorkerDied(worker=worker, alone=len(suspects) <= 1)
        ending = end(died, retries=0, crashes=task.crashes, policy=Policy(), chance=0.5)
        task.status, task.crashes = ending.status, ending.crashes
        task.died.add(worker)
        if task.status is Status.FAILED:
            for other in tasks:
                if other is not task and not other.status.is_final:
                    explained = other.died & task.died
                    other.died -= explained
                    other.crashes -= len(explained)


@given(
    st.integers(1, 3),
    st.lists(st.integers(1, 9), max_size=24),
    st.integers(1, 30),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
@settings(max_examples=300)
def test_whatever_ends_processes_fails_and_no_innocent_does_for_one_of_them(
    poisons: int, innocents: list[int], slots: int, seconds: int, chance: random.Random
) -> None:
    """With several of them an innocent may be met by one that is no suspect yet on its own last chance."""
    tasks = [Simulated(seconds, is_poison=True) for _ in range(poisons)]
    tasks += [Simulated(seconds, is_poison=False) for seconds in innocents]
    chance.shuffle(tasks)

    simulate(tasks, slots, chance)

    assert {task.status for task in tasks if task.is_poison} == {Status.FAILED}
    assert {task.crashes for task in tasks if task.is_poison} <= {3, 4}
    assert poisons > 1 or {task.status for task in tasks if not task.is_poison} <= {Status.COMPLETED}


@given(st.integers(0, 24), st.integers(1, 5))
def test_one_poison_task_fails_at_its_third_crash(place: int, seconds: int) -> None:
    tasks = [Simulated(9, is_poison=False) for _ in range(24)]
    poison = Simulated(seconds, is_poison=True)
    tasks.insert(place, poison)

    simulate(tasks, 100, random.Random(1))

    assert (poison.status, poison.crashes) == (Status.FAILED, 3)
    assert {task.status for task in tasks if task is not poison} == {Status.COMPLETED}


def test_the_innocent_finish_together_once_the_poison_task_is_found() -> None:
    tasks = [Simulated(2, is_poison=True), *(Simulated(9, is_poison=False) for _ in range(24))]

    assert simulate(tasks, 100, random.Random(1)) < 3 * 2 + 2 * 9 + 5
