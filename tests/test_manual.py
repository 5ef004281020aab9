"""The manual of workflows: every block is a definition that is read, and every recipe runs as its page says."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from qw.definitions import loads
from qw.definitions.reference import reference
from tests.running import Runner, runner

DOCS = Path(__file__).parent.parent / "docs"
RECIPES = (DOCS / "workflows" / "recipes.md").read_text()
BLOCK = re.compile(r"(?ms)^(?:<!-- ([^\n]*) -->\n)?```yaml\n(.*?)^```$")
RUN = re.compile(r"run: (\S+) (\{.*?\}) -> (.*)")
RECIPES_TO_RUN = [(note, text) for note, text in BLOCK.findall(RECIPES) if note.startswith("run:")]
PAGES = [DOCS / "workflows.md", *sorted((DOCS / "workflows").glob("*.md"))]
BLOCKS = [
    (f"{page.name}-{number}", note, text)
    for page in PAGES
    for number, (note, text) in enumerate(BLOCK.findall(page.read_text()), start=1)
]


@pytest.fixture
async def qw(url: str, tmp_path: Path) -> AsyncIterator[Runner]:
    async with runner(url, tmp_path) as running:
        yield running


@pytest.mark.parametrize(("note", "text"), RECIPES_TO_RUN, ids=[note.split()[1] for note, _ in RECIPES_TO_RUN])
async def test_a_recipe_runs_as_its_page_says(note: str, text: str, qw: Runner) -> None:
    told = RUN.fullmatch(note)
    assert told, note
    name, given, expected = told.groups()

    run = await qw.run(text, json.loads(given), name=name)

    if expected.startswith("failed: "):
        assert (run.status, run.error) == ("failed", expected.removeprefix("failed: "))
    else:
        assert (run.status, run.error, run.output) == ("completed", None, json.loads(expected))


@pytest.mark.parametrize(("note", "text"), [one[1:] for one in BLOCKS], ids=[one[0] for one in BLOCKS])
def test_a_block_of_the_manual_is_a_definition(note: str, text: str, tmp_path: Path) -> None:
    text = re.sub(r"(?m)^include: .*$", "", text)
    loads(text if re.match(r"version:|workflows:|tests:", text) else _whole(text, note), "workflows.yaml")


def _whole(text: str, note: str) -> str:
    """A file around the steps, or the keys of a step, in *text*."""
    indented = "".join(f"    {line}\n" for line in text.splitlines())
    inputs = re.sub(r"^steps with ", "", note) if note.startswith("steps with ") else ""
    if not text.startswith("steps:"):
        lines = "".join(f"        {line}\n" for line in text.splitlines())
        return f"workflows:\n  w:\n    steps:\n      - id: a\n        type: noop\n{lines}"
    kinds: dict[str, Any] = dict.fromkeys(re.findall(r"input\.(\w+)", text), "any")
    return f"workflows:\n  w:\n    input: {json.dumps(kinds)}\n{indented}" + inputs


def test_the_reference_is_current() -> None:
    assert (DOCS / "workflows" / "reference.md").read_text() == reference(), "run scripts/reference"
