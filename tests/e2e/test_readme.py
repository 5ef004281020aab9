"""The README, typed: its commands go into a real terminal, and what it shows must be what is seen there."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qw import embedded
from tests.cli.program import environment
from tests.databases import private_home
from tests.e2e.terminal import Terminal, terminal
from tests.processes import free_port

README = (Path(__file__).parents[2] / "README.md").read_text()
HOME = "/home/zoe"  # of whoever the README is about
DATA = ".local/share/qw"
GAP = "…"  # a line that stands for any number of lines

_ID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
_VARYING = {
    _ID: "ID",
    r"INV-\d{8}-\w+": "INVOICE",
    r"(\d{4}-\d\d-\d\d )?\b\d\d:\d\d(:\d\d)?\b": "TIME",
    r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b": "WEEKDAY",
    r"\b(\d+(h|m|s|ms))+\b": "SPAN",
    r"\b[\d.]+ (ms|s|m|h|d)\b( \d+ s\b)?": "SPAN",
    r"\b[\w.-]+:\d+\b": "HOST:PID",
    r"\d+ process": "CORES process",
    r" +": " ",
}


@dataclass(frozen=True)
class Typed:
    """A command of the README, and the lines it shows."""

    line: str
    shown: list[str]


def blocks(section: str, language: str = "") -> list[str]:
    """The fenced blocks of a section."""
    text = re.split(rf"(?m)^## {re.escape(section)}$", README)[1].split("\n## ")[0]
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text)


def commands(section: str) -> list[Typed]:
    """What the section types, in its order."""
    found: list[Typed] = []
    for line in "".join(blocks(section)).splitlines():
        if line.startswith("$ "):
            found.append(Typed(line.removeprefix("$ "), []))
        elif found:
            found[-1].shown.append(line)
    return found


def settled(line: str) -> str:
    """*line* without what is another each time: ids, times, amounts of time, process ids, widths of columns."""
    for pattern, name in _VARYING.items():
        line = re.sub(pattern, name, line)
    return line


@dataclass(frozen=True)
class Reader:
    """Somebody who types what the README says. ``names`` has the ids of the README and those that stand for them."""

    screen: Terminal
    home: Path
    names: dict[str, str]

    def follows(self, section: str) -> None:
        """Type the section's commands, one after the other."""
        for typed in commands(section):
            if typed.line.startswith("qw daemon"):
                continue  # for the other terminal
            seen = [line.replace(str(self.home), HOME) for line in self.screen.type(self._mine(typed.line))]
            self._compare(typed, seen)

    def _mine(self, line: str) -> str:
        """*line* with my ids, as much of them as is typed there."""
        return re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{1,12})*", lambda found: self._my(found[0]), line)

    def _my(self, beginning: str) -> str:
        mine = [name for theirs, name in self.names.items() if theirs.startswith(beginning)]
        assert len(mine) == 1, f"{beginning} is {len(mine)} of the ids that the README has shown"
        return mine[0][: len(beginning)]

    def _compare(self, typed: Typed, seen: list[str]) -> None:
        if GAP in typed.shown:
            place = typed.shown.index(GAP)
            rest = len(typed.shown) - place - 1
            seen = [*seen[:place], GAP, *seen[len(seen) - rest :]]
        assert [typed.line, *map(settled, seen)] == [typed.line, *map(settled, typed.shown)], "\n".join(seen)
        for theirs, mine in zip(_ids(typed.shown), _ids(seen), strict=True):
            assert self.names.setdefault(theirs, mine) == mine


def _ids(lines: list[str]) -> list[str]:
    return re.findall(_ID, "\n".join(lines))


@pytest.fixture
def home() -> Iterator[Path]:
    """A home of a user, who has the data of qw below it."""
    with private_home() as home:
        try:
            yield home
        finally:
            embedded.stop(home / DATA)


def test_what_the_readme_shows_is_what_a_person_sees(home: Path) -> None:
    environ = fresh(home)
    with terminal(environ, home, columns=80) as screen, terminal(environ, home) as other:
        reader = Reader(screen, home, {})

        reader.follows("Start")
        other.start("qw daemon", until="daemon is ready")
        reader.follows("A tour")
        reader.follows("Schedules")
        reader.follows("Limits and guarantees")
        assert "daemon stopped" in other.interrupt()

        tasks, program = blocks("A handler in Python", "python")
        (home / "tasks.py").write_text(tasks)
        (home / "program.py").write_text(program)
        other.start("qw daemon --app tasks:app", until="daemon is ready")
        reader.follows("A handler in Python")
        assert "daemon stopped" in other.interrupt()


def test_the_readme_is_short_and_leads_to_pages_that_exist() -> None:
    assert len(README.splitlines()) <= 250
    folder = Path(__file__).parents[2]
    pages = re.findall(r"\]\(((?:docs/)?[\w./-]+\.(?:md|svg))\)", README)
    assert len(pages) > 15
    assert [page for page in pages if not (folder / page).exists()] == []


def fresh(home: Path) -> dict[str, str]:
    """The environment of a person who has never run qw."""
    bin = home / "bin"
    bin.mkdir()
    for name, words in {"qw": "-m qw", "python": ""}.items():
        (bin / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (bin / name).chmod(0o755)
    (home / "my.crontab").write_text("0 4 * * * /usr/bin/backup --all\n")
    return environment(
        HOME=str(home), QW_HOME=str(home / DATA), QW_PORT=str(free_port()), TZ="Etc/UTC",
        PATH=f"{bin}:{os.environ['PATH']}",
    )  # fmt: skip
