"""The Python code of the documentation runs as it stands there."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.services.workshop import Workshop, workshop

PAGE = (Path(__file__).parent.parent / "docs" / "tasks-in-python.md").read_text()
MODULE, *PROGRAMS = re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE)


@pytest.fixture
def greetings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of the page's first block."""
    (tmp_path / "greetings.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        yield importlib.import_module("greetings")
    finally:
        sys.modules.pop("greetings", None)


async def work(shop: Workshop) -> None:
    """Run what is enqueued, until cancelled."""
    while True:
        await shop.claim()
        await shop.settle()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(1, len(PROGRAMS) + 1))
async def test_the_programs_of_the_page_about_tasks_run(program: str, greetings: Any, url: str) -> None:
    names: dict[str, Any] = {}
    exec(compile(program, "docs/tasks-in-python.md", "exec"), names)
    async with workshop(url, greetings.app) as shop:
        working = asyncio.create_task(work(shop))
        try:
            if inspect.iscoroutinefunction(names["main"]):
                await asyncio.wait_for(names["main"](url), 30)
            else:
                await asyncio.to_thread(names["main"], url)
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working


def test_every_block_of_the_page_about_tasks_is_one_of_these() -> None:
    assert len(PROGRAMS) == 5
    assert all("def main(url: str) -> None:" in program for program in PROGRAMS)
