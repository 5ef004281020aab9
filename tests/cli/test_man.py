from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import all_commands
from tests.cli.program import Qw, environment

SCRIPT = Path(__file__).parents[2] / "scripts" / "man"


@pytest.fixture(scope="module")
def page() -> str:
    done = subprocess.run([sys.executable, SCRIPT], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_manual_page_has_every_command_with_its_options(page: str) -> None:
    for path, command in all_commands():
        assert f'.SS "qw {" ".join(path)} '.replace("-", "\\-") in page
        for param in command.params:
            assert param.opts[0].replace("-", "\\-") in page or param.param_type_name == "argument" or param.hidden


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_the_manual_page_is_one_that_man_can_show(page: str) -> None:
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww"], input=page, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert "EXIT STATUS" in re.sub(".\x08", "", done.stdout)  # bold is written by striking twice


def test_a_page_for_each_command_is_shown_and_installed(qw: Qw, tmp_path: Path) -> None:
    shown, unknown = qw("man", "task", "list"), qw("man", "task", "lst")
    installed = qw("man", "--install", "--directory", str(tmp_path / "man"))

    assert "--status" in shown.out
    assert (unknown.code, unknown.err) == (3, "qw: there is no command 'qw task lst'; did you mean 'qw task list'?\n")
    pages = {file.stem for file in (tmp_path / "man" / "man1").iterdir()}
    assert pages == {"qw", *("-".join(("qw", *path)) for path, _ in all_commands())}
    assert "man -M" in installed.err
    if shutil.which("man") and shutil.which("groff"):
        page = subprocess.run(["man", "-M", str(tmp_path / "man"), "qw-task-list"], capture_output=True, text=True)
        assert "List tasks, newest first." in page.stdout
