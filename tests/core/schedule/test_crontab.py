from __future__ import annotations

import pytest

from qw.core.errors import Invalid
from qw.core.schedule import TaskTarget
from qw.core.schedule.crontab import Crontab, parse_crontab


def read(text: str, **options: str) -> Crontab:
    return parse_crontab(text, timezone="Europe/Berlin", home="/home/zoe", **options)


def payload(crontab: Crontab, n: int = 0) -> object:
    target = crontab.schedules[n].target
    assert isinstance(target, TaskTarget)
    return target.payload


def test_a_line_becomes_a_schedule_that_runs_its_command_as_cron_would() -> None:
    (schedule,) = read("# nightly\n\n 30 2 * * 1-5  /usr/bin/backup --all 2>&1 | tail\n").schedules

    assert (schedule.name, schedule.cron, schedule.timezone) == ("backup", "30 2 * * 1-5", "Europe/Berlin")
    assert schedule.target == TaskTarget(
        type="command",
        payload={"argv": ["/bin/sh", "-c", "/usr/bin/backup --all 2>&1 | tail"], "cwd": "/home/zoe", "input": ""},
        max_retries=1,
    )


def test_settings_count_for_the_lines_below() -> None:
    crontab = read("@daily one\nSHELL=/bin/bash\nCRON_TZ = 'Asia/Tokyo'\nHOME=/srv\nA=\"b c\"\n@daily two\n")

    assert payload(crontab, 0) == {"argv": ["/bin/sh", "-c", "one"], "cwd": "/home/zoe", "input": ""}
    assert payload(crontab, 1) == {
        "argv": ["/bin/bash", "-c", "two"], "cwd": "/srv", "env": {"A": "b c"}, "input": "",
    }  # fmt: skip
    assert [schedule.timezone for schedule in crontab.schedules] == ["Europe/Berlin", "Asia/Tokyo"]


def test_what_follows_a_percent_sign_is_stdin() -> None:
    crontab = read(r"@hourly mail -s 100\% zoe%Hello%%you are at 5\%")

    assert payload(crontab) == {
        "argv": ["/bin/sh", "-c", "mail -s 100% zoe"], "cwd": "/home/zoe", "input": "Hello\n\nyou are at 5%\n",
    }  # fmt: skip


def test_names_come_from_the_commands_and_differ() -> None:
    crontab = read("@daily /a/run.sh\n@daily run.sh x\n@daily $HOME/x\n@daily 'a b'\n", prefix="zoe-")

    assert [schedule.name for schedule in crontab.schedules] == ["zoe-run.sh", "zoe-run.sh-2", "zoe-x", "zoe-a"]


def test_what_cannot_be_taken_over_is_told_by_line() -> None:
    crontab = read("MAILTO=root\n@reboot start\nQW_HOME=/x\n@every 5m ok\n")

    assert [note.partition(":")[0] for note in crontab.notes] == ["line 1", "line 2", "line 3"]
    assert [schedule.name for schedule in crontab.schedules] == ["ok"]


def test_every_line_that_cannot_be_read_is_told() -> None:
    with pytest.raises(Invalid) as raised:
        read("* * * *\n61 * * * * x\n@dayly x\n* * * * * %y\n@daily fine\n")

    assert [str(fault).partition(": ")[0] for fault in raised.value.faults] == ["line 1", "line 2", "line 3", "line 4"]
    assert "minute: 61 is not between 0 and 59" in str(raised.value)
