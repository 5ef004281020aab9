from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from qw.core.errors import Invalid
from qw.core.schedule import WorkflowTarget
from qw.core.schedule.describe import describe
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
