"""Workflows that were written for other tools, as one writes them here: each comes to what its first lines say."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.running import Runner, runner

FILES = sorted((Path(__file__).parent / "rewritten").glob("*.yaml"))
SIGNAL = re.compile(r"^# signal: (\S+) (.*)$", re.MULTILINE)
RUN = re.compile(r"^# run: (\S+) (\{.*\}) -> (.*)$", re.MULTILINE)


@pytest.fixture
async def qw(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runner]:
    monkeypatch.setenv("NPM_TOKEN", "a-secret-token")
    async with runner(url, tmp_path) as running:
        yield running


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_a_rewritten_workflow_runs_as_its_original(qw: Runner, file: Path) -> None:
    text = file.read_text()
    signals = [(name, json.loads(payload)) for name, payload in SIGNAL.findall(text)]
    for name, given, expected in RUN.findall(text):
        run = await qw.run(text, json.loads(given), name=name, signals=signals)

        came_to = run.output if run.status == "completed" else f"{run.status}: {run.error}"
        assert came_to == (json.loads(expected) if expected.startswith("{") else expected), await qw.steps(run.id)
