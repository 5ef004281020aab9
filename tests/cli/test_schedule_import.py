"""Crontabs into schedules: equal to the file, whole or not at all, whoever reads the output."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys

import pytest

from tests.cli.program import Done, Qw

THREE = "0 1 * * * /a/backup.sh daily\n0 2 * * 0 /a/backup.sh weekly\n0 3 1 * * /a/backup.sh monthly\n"


def commands(qw: Qw) -> dict[str, str]:
    """What each schedule runs, by name."""
    found = qw("schedule", "list", "-o", "json").json
    return {one["name"]: one["description"].removeprefix("crontab: ") for one in found}


def imported(qw: Qw, text: str, *words: str, code: int = 0) -> Done:
    done = qw("schedule", "import", "crontab", "-", "--yes", *words, stdin=text)
    assert done.code == code, done
    return done


def test_importing_again_makes_the_schedules_equal_to_the_file(qw: Qw) -> None:
    imported(qw, THREE)
    before = commands(qw)
    first, rest = THREE.split("\n", 1)

    told = imported(qw, rest).err
    assert (commands(qw), "backup.sh; remove them with --prune" in told) == (before, True)
    assert "2 schedules unchanged" in told

    imported(qw, rest, "--prune")
    assert commands(qw) == {name: text for name, text in before.items() if text != first.split(None, 5)[5]}
    imported(qw, rest.replace("0 2 * * 0", "0 4 * * 0"), "--prune")
    assert [one["cron"] for one in qw("schedule", "list", "-o", "json").json if "weekly" in one["description"]] == [
        "0 4 * * 0"
    ]
    assert len(commands(qw)) == 2


def test_a_refused_import_changes_nothing(qw: Qw) -> None:
    qw("schedule", "add", "three.sh", "--every", "1d", "--type", "noop")

    refused = imported(qw, "0 1 * * * /a/one.sh\n0 3 * * * /a/three.sh\n", code=4)

    assert "three.sh" in refused.err
    assert list(commands(qw)) == ["three.sh"]
    imported(qw, "0 1 * * * /a/one.sh\n0 3 * * * /a/three.sh\n", "--replace")
    assert commands(qw) == {"one.sh": "/a/one.sh", "three.sh": "/a/three.sh"}


def test_an_import_leaves_what_another_owner_imported(qw: Qw) -> None:
    imported(qw, "@daily /a/x\n", "--owner", "one")

    assert "x" in imported(qw, "@daily /b/x\n", "--owner", "two", "--prune", code=4).err
    imported(qw, "@daily /b/x\n", "--prefix", "b-", "--prune")
    assert commands(qw) == {"x": "/a/x", "b-x": "/b/x"}


def test_a_schedule_that_was_removed_and_added_by_hand_is_no_longer_of_the_import(qw: Qw) -> None:
    imported(qw, "@daily x\n@daily y\n")
    qw("schedule", "remove", "x")
    qw("schedule", "add", "x", "--every", "1d", "--type", "noop")

    imported(qw, "@daily y\n", "--prune")

    assert list(commands(qw)) == ["x", "y"]


def test_lines_that_cannot_be_carried_over_are_told_by_the_exit_code(qw: Qw) -> None:
    shown = qw("schedule", "import", "crontab", "-", stdin="@reboot x\n*/6 * * * * * y\n@daily z\n")
    done = imported(qw, "@reboot x\n*/6 * * * * * y\n@daily z\n", code=1)

    assert (shown.code, list(commands(qw))) == (1, ["z"])
    assert "line 1: @reboot" in done.err
    assert "line 2: '*'" in done.err


def test_pruning_by_an_empty_crontab_is_refused(qw: Qw) -> None:
    imported(qw, "@daily x\n")

    imported(qw, "", "--prune", code=2)

    assert list(commands(qw)) == ["x"]


def test_the_lines_of_this_user_are_taken_from_a_system_crontab(qw: Qw) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    done = imported(qw, f"17 * * * *\t{me}\tcd / && x\n@daily daemon y\n", code=1)

    assert commands(qw) == {"cd": "cd / && x"}
    assert "line 2: it runs as daemon" in done.err


@pytest.mark.parametrize("where", ["pipe", "full"])
def test_a_reader_that_goes_away_does_not_cut_an_import_short(qw: Qw, where: str) -> None:
    tab = "".join(f"1 {hour} * * * /bin/a{hour}\n" for hour in range(9))
    reading, writing = os.pipe()
    os.close(reading)
    if where == "full":
        os.close(writing)
        writing = os.open("/dev/full", os.O_WRONLY)

    process = subprocess.run(
        [sys.executable, "-m", "qw", "schedule", "import", "crontab", "-", "--yes", "-o", "json"],
        env=qw.environ, cwd=qw.folder, input=tab.encode(), stdout=writing, stderr=writing, check=False, timeout=60,
    )  # fmt: skip
    os.close(writing)

    assert process.returncode != 0
    assert len(commands(qw)) == 9


def test_a_reader_that_goes_away_does_not_cut_an_enqueue_of_many_short(qw: Qw) -> None:
    reading, writing = os.pipe()
    os.close(reading)

    process = subprocess.run(
        [sys.executable, "-m", "qw", "enqueue", "noop", "--stdin", "--quiet"],
        env=qw.environ, cwd=qw.folder, input=b"{}\n" * 10_001, stdout=writing, check=False, timeout=60,
    )  # fmt: skip
    os.close(writing)

    assert process.returncode == 141
    assert sum(queue["pending"] for queue in qw("queue", "list", "-o", "json").json) == 10_001


def test_a_verb_with_several_names_does_all_or_none(qw: Qw) -> None:
    imported(qw, "@daily x\n@daily y\n")

    for verb in ("pause", "resume", "remove"):
        refused = qw("schedule", verb, "x", "nope", "y", "gone")
        assert (refused.code, "'nope'" in refused.err, "'gone'" in refused.err) == (3, True, True)
        assert {one["state"] for one in qw("schedule", "list", "-o", "json").json} == {"active"}
    assert qw("schedule", "pause", "x", "y", "x").code == 0
    assert {one["state"] for one in qw("schedule", "list", "-o", "json").json} == {"paused"}
    assert "x" in (removed := qw("schedule", "remove", "y", "x")).err
    assert (removed.code, commands(qw)) == (0, {})


def test_replacing_checks_what_adding_checks(qw: Qw) -> None:
    qw("schedule", "add", "s", "--every", "1d", "--type", "noop")

    refused = qw("schedule", "add", "s", "--at", "2020-01-01T00:00", "--type", "noop", "--replace")

    assert (refused.code, "never fires" in refused.err) == (2, True)
    assert qw("schedule", "show", "s", "-o", "json").json["every_seconds"] == 86400
