from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.program import Qw

FILES = Path(__file__).parent.parent / "imports"


@pytest.mark.parametrize(
    ("tool", "file"),
    [("github-actions", "ci.yml"), ("dagu", "etl.yaml"), ("argo", "flip.yaml"), ("step-functions", "order.asl.json")],
)
def test_a_converted_file_is_written_and_valid(qw: Qw, tool: str, file: str) -> None:
    (qw.folder / file).write_text((FILES / file).read_text())

    made = qw("workflow", "import", tool, file, "-o", "workflows.yaml")
    assert made.code == 0, made.err
    written = (qw.folder / "workflows.yaml").read_text().splitlines()[1:]
    assert ("to look at, marked with # TODO" in made.err) == any("# TODO" in line for line in written)
    assert qw("workflow", "validate").code == 0
    assert qw("workflow", "import", tool, file).out == (qw.folder / "workflows.yaml").read_text()

    again = qw("workflow", "import", tool, file, "-o", "workflows.yaml")
    assert (again.code, "exists already" in again.err) == (2, True)


@pytest.mark.parametrize(
    ("tool", "file"),
    [("github-actions", "ci.yml"), ("dagu", "etl.yaml"), ("argo", "flip.yaml"), ("step-functions", "order.asl.json")],
)
def test_validate_names_the_converter_of_a_file_of_another_tool(qw: Qw, tool: str, file: str) -> None:
    (qw.folder / file).write_text((FILES / file).read_text())

    said = qw("workflow", "validate", file)

    assert said.code == 2
    assert f"convert it with: qw workflow import {tool} {file}" in said.err


def test_a_tool_or_a_file_that_is_not_there_is_named(qw: Qw) -> None:
    assert "did you mean 'github-actions'?" in qw("workflow", "import", "github-action", "x.yml").err
    missing = qw("workflow", "import", "dagu", "x.yml")
    assert (missing.code != 0, "there is no file x.yml" in missing.err) == (True, True)
