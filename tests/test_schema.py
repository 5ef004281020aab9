"""The JSON Schema for editors: it knows the same keys as the reader, and takes what ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qw import definitions
from qw.core.errors import Invalid
from qw.core.schedule import document
from qw.core.workflow import _KEYS as WORKFLOW_KEYS
from qw.core.workflow import step
from qw.core.workflow.defaults import DEFAULT_KEYS
from qw.core.workflow.foreach import FOREACH_KEYS
from qw.core.workflow.retry_policy import POLICY_KEYS
from qw.core.workflow.task_template import WORK_KEYS
from qw.definitions import commands, loads, remotes, webhooks
from qw.definitions.schema import editor_line, schema
from qw.definitions.source import read

LATE_KEYS = {*step._ALWAYS, *WORK_KEYS, *POLICY_KEYS, "template", "params", "repeat"}
ROOT = Path(__file__).parent.parent
FILES = [ROOT / "workflows.yaml", *sorted((ROOT / "examples").glob("*.yaml"))]


def keys(name: str) -> set[str]:
    below: Any = schema()["$defs"][name]  # type: ignore[index,call-overload]
    return set(below.get("properties") or below["else"]["properties"])


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("workflow", WORKFLOW_KEYS),
        (
            "step",
            {
                *step._ALWAYS,
                *step._EARLY,
                *WORK_KEYS,
                *POLICY_KEYS,
                *FOREACH_KEYS,
                "template",
                "params",
                "switch",
                "repeat",
            },
        ),
        ("late", {*step._ALWAYS, *WORK_KEYS, *POLICY_KEYS, "template", "params", "repeat"}),
        ("defaults", DEFAULT_KEYS),
        ("schedule", document._KEYS),
        ("command", commands._KEYS),
        ("webhook", webhooks._KEYS),
        ("remote", remotes._KEYS),
    ],
)
def test_the_schema_knows_the_same_keys_as_the_reader(name: str, known: Any) -> None:
    assert keys(name) == set(known)


def test_the_schema_knows_the_same_sections_as_the_reader() -> None:
    assert set(schema()["properties"]) == set(definitions._KEYS)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_ships_fits_the_schema(path: Path) -> None:
    validator = pytest.importorskip("jsonschema_rs").validator_for(schema())

    assert [str(error) for error in validator.iter_errors(read(path.read_text(), path.name).value)] == []


@pytest.mark.parametrize(
    "content",
    [
        "worfklows: {}",
        "workflows: {w: {steps: []}}",
        "workflows: {w: {steps: [{id: a, type: noop, tiemout: 1s}]}}",
        "workflows: {w: {steps: [{id: a, type: noop, priority: 12}]}}",
        "workflows: {w: {steps: [{id: 1a, type: noop}]}}",
        "workflows: {w: {steps: [{id: a, type: noop, max_parallel: 0, foreach: []}]}}",
        "workflows: {w: {concurrency: {on_limit: wait}, steps: [{id: a, type: noop}]}}",
        "commands: {c: {argv: []}}",
    ],
)
def test_what_the_schema_refuses_the_reader_refuses_too(content: str) -> None:
    validator = pytest.importorskip("jsonschema_rs").validator_for(schema())

    assert not validator.is_valid(read(content, "f.yaml").value)
    with pytest.raises(Invalid):
        loads(content)


def test_the_line_for_editors_names_the_place_of_the_schema() -> None:
    assert editor_line("qw.schema.json") == "# yaml-language-server: $schema=qw.schema.json"
