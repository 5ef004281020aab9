from __future__ import annotations

from typing import Any

import pytest

from qw.core.schedule import Schedule, TaskTarget
from qw.core.schedule.crontab import Account, Crontab, named, parse_crontab

ZOE = Account(name="zoe", home="/home/zoe")
ROOT, MAIL = Account(name="root", home="/root"), Account(name="mail", home="/var/mail", is_program=True)
ACCOUNTS = {account.name: account for account in (ZOE, ROOT, MAIL)}


def read(text: str, system: bool | None = None, account: Account = ZOE) -> Crontab:
    return parse_crontab(text, timezone="Europe/Berlin", account=account, accounts=ACCOUNTS, system=system)


def payload(crontab: Crontab, n: int = 0) -> dict[str, Any]:
    target = crontab.jobs[n].schedule.target
    assert isinstance(target, TaskTarget)
    return target.payload


def program(text: str) -> tuple[str, str]:
    """The command of the only line in *text*, and its stdin."""
    ((job,), found) = (crontab := read(text)).jobs, payload(crontab)
    assert job.line == 1
    return found["argv"][2], found["input"]


def why_left_out(text: str, **options: Any) -> str:
    crontab = read(text, **options)
    assert not crontab.jobs
    (left,) = crontab.left_out
    return left.reason


def names(text: str, known: list[Schedule] | None = None, **options: Any) -> list[str]:
    return [schedule.name for schedule in named(read(text).jobs, known=known or [], **options)]


def test_a_line_becomes_a_schedule_that_runs_its_command_as_cron_would() -> None:
    crontab = read("# nightly\n\n \t30 2 * * 1-5  /usr/bin/backup --all 2>&1 | tail  \n")
    (job,) = crontab.jobs

    assert (job.line, job.schedule.cron, job.schedule.timezone) == (3, "30 2 * * 1-5", "Europe/Berlin")
    assert job.schedule.target == TaskTarget(
        type="command",
        payload={
            "argv": ["/bin/sh", "-c", "/usr/bin/backup --all 2>&1 | tail"], "cwd": "/home/zoe", "input": "",
            "background": "keep",
            "env": {
                "SHELL": "/bin/sh", "HOME": "/home/zoe", "PATH": "/usr/bin:/bin", "USER": "zoe", "LOGNAME": "zoe",
            },
        },
        max_retries=1,
    )  # fmt: skip
    assert (crontab.notes, crontab.left_out) == ([], [])


def test_settings_count_for_the_lines_below() -> None:
    crontab = read(
        "@daily one\nSHELL=/bin/bash\n HOME = /srv \nPATH=/opt/bin\nTZ=Asia/Tokyo\nLOGNAME=eve\n"
        'A="b c "\n"B"=\'\'\nC=d "e\n@daily two\n'
    )

    assert payload(crontab, 0)["env"]["HOME"] == payload(crontab, 0)["cwd"] == "/home/zoe"
    assert payload(crontab, 1) == {
        "argv": ["/bin/bash", "-c", "two"], "cwd": "/srv", "input": "", "background": "keep",
        "env": {
            "SHELL": "/bin/bash", "HOME": "/srv", "PATH": "/opt/bin", "USER": "zoe", "LOGNAME": "zoe",
            "TZ": "Asia/Tokyo", "A": "b c ", "B": "", "C": 'd "e',
        },
    }  # fmt: skip


def test_tz_is_for_commands_and_cron_tz_for_times_of_the_lines_below() -> None:
    crontab = read("TZ=Asia/Tokyo\n@daily one\nCRON_TZ = 'America/New_York'\n@daily two\nCRON_TZ=UTC\n@daily three\n")

    assert [job.schedule.timezone for job in crontab.jobs] == ["Europe/Berlin", "America/New_York", "UTC"]
    assert {payload(crontab, n)["env"]["TZ"] for n in range(3)} == {"Asia/Tokyo"}
    assert crontab.notes[0].startswith("line 1: TZ applies only to commands")


@pytest.mark.parametrize(
    ("line", "command", "stdin"),
    [
        (r"@hourly mail -s 100\% zoe%Hello%%you are at 5\%", "mail -s 100% zoe", "Hello\n\nyou are at 5%\n"),
        ("* * * * * cat%a%b%", "cat", "a\nb\n"),
        ("* * * * * cat%", "cat", ""),
        (r"* * * * * sed 's/\./\\n/' x", r"sed 's/\./\n/' x", ""),
        (r"* * * * * echo a\\%b", "echo a\\", "b\n"),
        (r"* * * * * cat%a\\%b\n", "cat", "a\\%b\\n\n"),
        ("* * * * * echo a\x0bb\u2028c # d\r", "echo a\x0bb\u2028c # d", ""),
        ("@daily A=1 x", "A=1 x", ""),
    ],
)
def test_percent_signs_and_backslashes_are_read_as_debian_cron_reads_them(line: str, command: str, stdin: str) -> None:
    assert program(line) == (command, stdin)


def test_mail_settings_are_noted_and_change_nothing_else() -> None:
    crontab = read("MAILTO=\n@daily x\n")

    assert [note.partition(" is")[0] for note in crontab.notes] == ["line 1: MAILTO"]
    assert (len(crontab.jobs), crontab.left_out, "MAILTO" in payload(crontab)["env"]) == (1, [], False)


def test_a_line_that_cannot_be_carried_over_is_told_and_the_others_are_taken() -> None:
    crontab = read(
        "* * * *\n61 * * * * x\n@dayly x\n* * * * * %y\n@reboot x\nQW_HOME=/x\nA='b\n@daily\n@daily a\udcff\n"
        "CRON_TZ=Mars\n@every 5m fine\n"
    )

    assert [left.line for left in crontab.left_out] == list(range(1, 11))
    assert [job.line for job in crontab.jobs] == [11]
    assert "minute: 61 is not between 0 and 59" in str(crontab.left_out[1])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("*/6 * * * * * echo starting", "five time fields, without seconds"),
        ("0 30 2 * * mon-fri backup", "five time fields, without seconds"),
        ("0 0 3 * * 1-5 backup", "five time fields, without seconds"),
        ("0 3 * * * 2026 backup", "five time fields, without seconds and years"),
        ("-*/5 * * * * x", "do not log it"),
        ("0~30 * * * * x", "a random time"),
        ("0 0 L * * x", "not supported by Debian's cron"),
        ("0 0 * * mon#2 x", "not supported by Debian's cron"),
        ("0 0 * * 5L x", "not supported by Debian's cron"),
        ("0 0 * * sat-sun x", "goes backwards"),
        ("0 0 * * monday x", "day of week"),
        ("5/10 * * * * x", "a step needs"),
        ("0 0 30 2 * x", "never fires"),
    ],
)
def test_what_other_crons_know_is_refused_with_a_reason(line: str, reason: str) -> None:
    assert reason in why_left_out(line)


def test_a_system_crontab_is_recognised_and_runs_as_its_user_only() -> None:
    text = "SHELL=/bin/bash\n17 * * * *\troot\tcd / && run-parts /etc/cron.hourly\n@daily zoe  x y\n@daily mail -s x\n"
    crontab = read(text)

    assert crontab.is_system
    assert [(job.line, payload(crontab)["argv"][2]) for job in crontab.jobs] == [(3, "x y")]
    assert [left.line for left in crontab.left_out] == [2, 4]
    assert "it runs as root" in str(crontab.left_out[0])
    assert payload(read(text, account=ROOT))["argv"][2] == "cd / && run-parts /etc/cron.hourly"


def test_a_command_that_is_also_a_user_makes_no_system_crontab() -> None:
    assert program("@daily mail -s x zoe") == ("mail -s x zoe", "")
    assert "is not a user" in why_left_out("@daily bob x", system=True)
    assert payload(read("@daily root x", system=False))["argv"][2] == "root x"


def test_a_user_between_commands_is_refused() -> None:
    crontab = read("@daily x\n@daily root y\n")

    assert [job.line for job in crontab.jobs] == [1]
    assert "--system" in str(crontab.left_out[0])


def test_names_come_from_the_commands_and_differ() -> None:
    first, second, third, fourth = names("@daily /a/run.sh\n@daily run.sh x\n@daily $HOME/x\n@daily 'a b'\n")
    twice = names("@daily x\n@hourly x\n@weekly x\n", prefix="zoe-")

    assert (first, third, fourth) == ("run.sh", "x", "a")
    assert second.startswith("run.sh-")
    assert (len(set(twice)), {name.split("-")[1] for name in twice}) == (3, {"x"})


def test_an_edit_of_one_line_does_not_rename_the_others() -> None:
    before = "0 1 * * * /b.sh daily\n0 2 * * 0 /b.sh weekly\n0 3 1 * * /b.sh monthly\n0 4 * * * /b.sh weekly\n"
    known = named(read(before).jobs)
    daily, weekly, monthly, again = (schedule.name for schedule in known)

    assert names("0 5 * * * /b.sh monthly\n0 4 * * * /b.sh weekly\n", known=known) == [monthly, again]
    added = names("0 9 * * * /b.sh hourly\n" + before, known=known)
    assert added[1:] == [daily, weekly, monthly, again]
    assert added[0] not in added[1:]
    assert names("0 9 * * * /b.sh hourly\n", known=known, reuse=True) == [daily]
