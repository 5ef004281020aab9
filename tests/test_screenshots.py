"""The pictures of the README: of commands that exist, and what scripts/screenshots still draws."""

from __future__ import annotations

import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from tests.cli.commands import all_commands

CHECKOUT = Path(__file__).parents[1]
PICTURES = sorted((CHECKOUT / "docs").glob("*.svg"))


def words(picture: Path) -> list[str]:
    """The texts in a picture, its title first."""
    return [
        unescape(text).replace("\xa0", " ") for text in re.findall(r"<text [^>]*>([^<]+)</text>", picture.read_text())
    ]


def titles(picture: Path) -> set[str]:
    """The names of columns and fields in a picture, and states."""
    return {text for each in words(picture) if re.fullmatch("[a-z ]+", text := each.strip())}


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.stem)
def test_a_picture_shows_a_command_and_stands_in_the_readme(picture: Path) -> None:
    command = words(picture)[0].split()
    known = {path for path, _ in all_commands()}

    assert command[0] == "qw"
    assert tuple(command[1:2]) in known or tuple(command[1:3]) in known
    assert f"(docs/{picture.name})" in (CHECKOUT / "README.md").read_text()
    assert 'url("http' not in picture.read_text()


@pytest.mark.slow
def test_the_pictures_can_be_taken_again(tmp_path: Path) -> None:
    command = [sys.executable, str(CHECKOUT / "scripts" / "screenshots"), str(tmp_path), "commands", "top"]
    subprocess.run(command, check=True, timeout=240)

    assert sorted(path.name for path in tmp_path.glob("*.svg")) == [path.name for path in PICTURES]
    for picture in PICTURES:
        taken = tmp_path / picture.name
        assert len(taken.read_text()) > 2000
        if picture.stem != "top":  # it shows a list that moves
            assert titles(taken) == titles(picture)
