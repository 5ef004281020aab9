from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from qw.core.errors import Invalid
from qw.core.schedule import WorkflowTarget
from qw.core.schedule.describe import describe
from qw.core.schedule.schedule import TaskTarget
from qw.definitions import load, loads

EXAMPLE = Path(__file__).parents[1] / "examples" / "schedules.yaml"


def test_schedules_stand_in_a_file_beside_workflows() -> None:
    schedules = load(EXAMPLE).schedules

    assert [f"{name}: {describe(schedule)}" for name, schedule in schedules.items()] == [
        "nightly-backup: at 02:30 every day, Europe/Berlin",
        "monday-size: at 09:00 on Monday, Europe/Berlin",
        "heartbeat: every 5m",
    ]
    assert schedules["monday-size"].target == WorkflowTarget(workflow="weekly", input={"folder": "/tmp"})
    assert schedules["heartbeat"].jitter == timedelta(seconds=30)


def test_a_fault_in_a_schedule_has_its_line_and_column() -> None:
    text = 'schedules:\n  a:\n    cron: "61 * * * *"\n    type: noop\n  b:\n    every: 5m\n    tipe: noop\n'

    with pytest.raises(Invalid) as raised:
        loads(text, "f.yaml")

    assert [str(fault) for fault in raised.value.faults] == [
        "f.yaml:3:5: minute: 61 is not between 0 and 59",
        "f.yaml:5:3: needs one of type:, run: (a shell command) and workflow:, not none",
        "f.yaml:7:5: 'tipe' is not a key of a schedule; did you mean 'type'?",
    ]


def test_a_command_by_the_clock_takes_the_keys_of_a_shell_step() -> None:
    keys = "shell: bash, cwd: /srv, stdin: {a: 1}, user: shop, output: json, env: {A: x}"
    (schedule,) = loads(f"schedules: {{s: {{every: 1h, run: cat, {keys}}}}}").schedules.values()

    assert isinstance(schedule.target, TaskTarget)
    assert schedule.target.payload == {
        "run": "cat", "shell": "bash", "cwd": "/srv", "input": {"a": 1}, "user": "shop", "output": "json",
        "env": {"A": "x"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("run: cat, cwd: 3", "cwd|must be the path of a directory"),
        ("run: cat, output: jsn", "output|did you mean 'json'?"),
        ("run: cat, user: '${{ x }}'", "user|is not the name of a user"),
        ("run: cat, stdin: a, with: {b: 1}", "stdin|give stdin: or with:"),
        ("type: noop, stdin: a", "stdin|is allowed only with run:"),
    ],
)
def test_wrong_keys_of_a_command_by_the_clock_are_refused(keys: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        loads(f"schedules: {{s: {{every: 1h, {keys}}}}}")

    assert message.partition("|")[2] in str(caught.value)
