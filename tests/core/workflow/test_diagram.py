from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from qw.core.workflow import Workflow, parse_workflow
from qw.core.workflow.diagram import as_dot, as_mermaid, as_text
from qw.core.workflow.drawing import as_svg
from qw.core.workflow.run import StepStatus


def workflow(*steps: Any, **more: Any) -> Workflow:
    return parse_workflow("w", {"steps": list(steps), **more})


def step(id: str, *needs: str, **more: Any) -> Any:
    return {"id": id, "type": "noop", "needs": list(needs), **more}


DIAMOND = workflow(
    step("begin"),
    step("left", "begin", foreach=[1]),
    step("right", "begin", compensate={"type": "undo"}),
    step("end", "left", "right"),
    on_failure=[{"id": "tell", "type": "noop"}, {"id": "shout", "type": "noop"}],
    **{"finally": [{"id": "tidy", "type": "noop"}]},
)


def test_a_tree_shows_each_step_once_below_the_last_of_its_needs() -> None:
    assert as_text(DIAMOND).splitlines() == [
        "begin        noop",
        "├─left       noop, for each",
        "└─right      noop, undo: undo",
        "  └─end      noop  ← also left",
        "on_failure:",
        "  tell       noop",
        "  shout      noop",
        "finally:",
        "  tidy       noop",
    ]


def test_a_tree_of_a_run_shows_how_each_step_stands() -> None:
    drawn = as_text(DIAMOND, {"begin": StepStatus.COMPLETED, "left": StepStatus.FAILED})

    assert [line[:9].strip() for line in drawn.splitlines()[:4]] == ["● begin", "├─✗ left", "└─○ right", "└─○ end"]


def test_mermaid_has_a_node_for_each_step_and_a_line_for_each_need() -> None:
    drawn = as_mermaid(DIAMOND, {"begin": StepStatus.COMPLETED})

    assert len(re.findall(r"^  s\d+\[", drawn, re.MULTILINE)) == 7
    assert re.findall(r"^  (s\d+ -\S+ s\d+)$", drawn, re.MULTILINE) == [
        "s0 --> s1", "s0 --> s2", "s1 --> s3", "s2 --> s3", "s4 -.-> s5",
    ]  # fmt: skip
    assert "class s0 completed" in drawn


def test_what_a_name_holds_cannot_break_out_of_a_picture() -> None:
    hostile = workflow({"id": "a", "type": "x", "compensate": {"type": "y"}}, step("end-", "a"))

    assert '"a" -> "end-";' in as_dot(hostile)
    assert 's1["end-<br/>' in as_mermaid(hostile)


def test_an_svg_is_xml_with_a_box_for_each_step_and_nothing_that_runs() -> None:
    root = ElementTree.fromstring(as_svg(DIAMOND, {"begin": StepStatus.RUNNING}))

    names = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert names.count("rect") == 7
    assert set(names) == {"svg", "title", "path", "rect", "text"}


def test_a_thousand_steps_below_each_other_are_drawn() -> None:
    deep = workflow(*(step(f"s{n}", *([f"s{n - 1}"] if n else [])) for n in range(1000)))

    assert len(as_text(deep).splitlines()) == 1000
    assert as_svg(deep).count("<rect") == 1000
