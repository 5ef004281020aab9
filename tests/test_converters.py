"""Files of other tools, converted: the result is read without a fault, and runs as the original would."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from qw.core.errors import Invalid
from qw.definitions import loads
from qw.definitions.imports import convert, recognized
from qw.definitions.source import read
from tests.running import Runner, runner

FILES = Path(__file__).parent / "imports"
TOOLS = {"ci.yml": "github-actions", "etl.yaml": "dagu", "flip.yaml": "argo", "order.asl.json": "step-functions"}


@pytest.fixture
async def qw(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runner]:
    monkeypatch.setenv("PUBLISH_TOKEN", "a-secret-token")
    async with runner(url, tmp_path) as running:
        yield running


def converted(file: str) -> str:
    return convert(TOOLS[file], (FILES / file).read_text(), file)


def result(steps: Any, name: str) -> Any:
    return steps[name].result


@pytest.mark.parametrize("file", TOOLS)
def test_what_is_converted_has_no_fault(file: str) -> None:
    assert loads(converted(file), "made.yaml").workflows


@pytest.mark.parametrize("file", TOOLS)
def test_a_file_of_another_tool_is_recognized(file: str) -> None:
    assert recognized(read((FILES / file).read_text(), file).value) == TOOLS[file]


@pytest.mark.parametrize("tool", TOOLS.values())
def test_what_is_no_file_of_the_tool_is_refused(tool: str) -> None:
    with pytest.raises(Invalid, match=r"^not a |a\.yaml: not a file of"):
        convert(tool, "a: 1", "a.yaml")
    with pytest.raises(Invalid):
        convert(tool, "[1]", "a.yaml")


async def test_a_workflow_of_github_actions_runs_as_its_original(qw: Runner) -> None:
    text = converted("ci.yml")
    run = await qw.run(
        text, {"greeting": "hello", "github": {**_github(text), "event_name": "push", "run_number": "7"}}
    )

    steps = await qw.steps(run.id)
    assert (run.status, run.error) == ("completed", None)
    assert len(result(steps, "test")) == 3
    assert result(steps, "version") == {"tag": "v1-7"}
    assert steps["publish"].status == "completed"
    assert "report" not in steps
    (note,) = qw.folder.glob("artifacts/*/*/note")
    assert note.read_text() == "publishing v1-7 with a-secret-token\n"
    shown = [file.read_text() for file in qw.folder.glob("artifacts/*/*/out.txt")]
    assert sorted(shown) == [
        "python 3.11 on ubuntu-latest: hello\n",
        "python 3.12 on macos-latest: hello\nno ubuntu\nmac\n",
        "python 3.12 on ubuntu-latest: hello\n",
    ]
    for word in ("services: redis", "actions/setup-python", "fail-fast", "on: push"):
        assert f"{word}" in "\n".join(line for line in text.splitlines() if "# TODO" in line)


def _github(text: str) -> Any:
    document: Any = loads(text, "made.yaml").workflows["CI"].document
    return document["input"]["github"]["default"]


async def test_a_definition_of_dagu_runs_as_its_original(qw: Runner) -> None:
    run = await qw.run(converted("etl.yaml"), {"DAY": "today"})

    steps = await qw.steps(run.id)
    assert (run.status, run.error) == ("completed", None)
    assert result(steps, "load")["stdout"] == "loading rows of today in test"
    assert steps["full-only"].status == "completed"
    assert steps["weak"].status == "failed"
    assert result(steps, "on-exit")["stdout"] == "exit with today\n"

    partly = await qw.run(converted("etl.yaml"), {"MODE": "delta"})
    steps = await qw.steps(partly.id)
    assert (steps["full-only"].status, steps["load"].status) == ("skipped", "completed")
    (schedule,) = loads(converted("etl.yaml"), "made.yaml").schedules.values()
    assert schedule.timezone == "Europe/Berlin"


async def test_a_workflow_of_argo_runs_as_its_original(qw: Runner) -> None:
    run = await qw.run(converted("flip.yaml"))

    steps = await qw.steps(run.id)
    assert (run.status, run.error) == ("completed", None)
    assert result(steps, "heads")["stdout"] == "it was heads"
    assert steps["tails"].status == "skipped"
    assert [one["stdout"] for one in result(steps, "many")] == ["n 1", "n 2"]
    assert result(steps, "on-exit")["stdout"] == "ended as completed"
    child = steps["graph"].child_id
    assert child is not None
    inner = await qw.steps(child)
    assert result(inner, "c")["stdout"] == "written"
    assert inner["d"].status == "skipped"
    assert loads(converted("flip.yaml"), "made.yaml").schedules["flip"].overlap == "skip"


async def test_a_state_machine_runs_as_its_original(qw: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    text = converted("order.asl.json")
    run = await qw.run(text, {"input": {"total": 500, "items": ["a", "b"]}})

    assert (run.status, run.error) == ("completed", None)
    output: Any = run.output
    assert output["output"]["ship"]["way"] == "careful"
    assert output["output"]["both"] == ["left", "careful"]
    assert [one["output"] for one in output["output"]["each"]] == [{"got": "a"}, {"got": "b"}]
    assert output["output"]["total"] == 500

    quick = await qw.run(text, {"input": {"total": 5, "items": []}})
    output = quick.output
    assert output["output"]["ship"]["way"] == "quick"

    broken = await qw.run(text, {"input": {"total": 5, "items": [], "broken": True}})
    assert broken.error == "step Broken: exit code 1: Broken: the order is broken"
