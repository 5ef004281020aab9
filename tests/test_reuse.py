"""What definition files say once: merge keys, ``x-…``, defaults, included files and step templates."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from qw.core.errors import Invalid
from qw.definitions import Definitions, load, loads
from qw.definitions.schema import schema
from qw.definitions.source import read


def faults(text: str) -> list[str]:
    with pytest.raises(Invalid) as raised:
        loads(text, "w.yaml")
    return [str(fault) for fault in raised.value.faults]


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder / "main.yaml"


def payload(found: Definitions, step: str, name: str = "w") -> Any:
    return found.workflows[name].by_id[step].work.payload.root


# -- merge keys and own keys


def test_a_merge_key_adds_what_an_object_does_not_say_itself() -> None:
    source = read(
        "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 0}\nd: {<<: *b}\ne: {<<: {q: 1}}\n", "f"
    )

    assert isinstance(source.value, dict)
    assert source.value["c"] == {"x": 0, "y": 2, "z": 4}
    assert source.value["d"] == {"y": 3, "z": 4}
    assert source.value["e"] == {"q": 1}


def test_a_fault_in_what_is_merged_or_repeated_stands_where_it_was_written() -> None:
    text = """
x-usual: &usual
  retry: { max_retries: none }
x-steps: &steps
  - { id: a, type: noop, nedes: b }
workflows:
  v: { steps: *steps }
  w:
    x-note: own
    steps:
      - { id: a, type: noop, <<: *usual, x-owner: me }
"""
    assert faults(text) == [
        "w.yaml:3:12: 'none' is not an integer from 1 to 32000",
        "w.yaml:5:26: 'nedes' is not a key of a step; did you mean 'needs'?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {<<: 7}", "f:1:10: the merge key << takes an object or a list of objects"),
        ("a: &a {x: 1}\nb: {<<: *a, <<: *a}", "f:2:13: the merge key << occurs twice in one object; give it a list"),
    ],
)
def test_a_merge_key_without_an_object_is_refused(text: str, message: str) -> None:
    with pytest.raises(Invalid) as raised:
        read(text, "f")

    assert message in [str(fault) for fault in raised.value.faults]


# -- defaults


DEFAULTS = """
defaults:
  retry: { max_retries: 5, delay: 10s }
  timeout: 5m
  shell: bash
  env: { A: file, B: file }
workflows:
  w:
    defaults: { timeout: 1m, env: { B: workflow } }
    steps:
      - { id: all, run: make }
      - { id: own, run: make, retry: { max_retries: 2 }, shell: sh, env: { A: step }, timeout: 3s }
      - { id: script, run: "#!/usr/bin/python3\\nprint()" }
      - { id: call, type: http_request, with: { url: "https://x" } }
      - { id: wait, type: approval }
      - { id: undo, type: noop, compensate: { run: undo } }
    finally: [{ id: last, run: tidy }]
"""


def test_defaults_of_a_file_and_a_workflow_reach_the_steps_that_say_nothing_else() -> None:
    found = loads(DEFAULTS, "w.yaml")
    steps = found.workflows["w"].by_id

    assert payload(found, "all") == {"run": "make", "shell": "bash", "env": {"A": "file", "B": "workflow"}}
    assert (steps["all"].max_retries, steps["all"].timeout) == (5, timedelta(minutes=1))
    assert payload(found, "own") == {"run": "make", "shell": "sh", "env": {"A": "step", "B": "workflow"}}
    own = steps["own"]
    assert own.backoff is not None
    assert (own.max_retries, own.backoff.delay, own.timeout) == (2, timedelta(seconds=10), timedelta(seconds=3))
    assert "shell" not in payload(found, "script")
    assert payload(found, "call") == {"url": "https://x"}
    assert (steps["call"].max_retries, steps["wait"].timeout) == (5, None)
    assert steps["undo"].compensate is not None
    assert steps["undo"].compensate.max_retries == 5
    assert payload(found, "last")["shell"] == "bash"


def test_a_fault_in_defaults_is_told_once_at_its_place() -> None:
    assert faults("""
defaults: { timeout: 5x }
workflows:
  v: { steps: [{ id: a, run: a }, { id: b, run: b }] }
  w:
    defaults: { shel: bash, env: { A: "${{ input.a }}" } }
    steps: [{ id: a, run: a }]
""") == [
        faults("defaults: { timeout: 5x }")[0].replace("w.yaml:1:", "w.yaml:2:"),
        "w.yaml:6:17: 'shel' is not a key of defaults; did you mean 'shell'?",
    ]


# -- included files


def test_included_files_belong_to_the_set_and_keep_their_places(tmp_path: Path) -> None:
    main = written(
        tmp_path,
        main="""
include: [parts/mail.yaml, common.yaml]
workflows:
  w: { steps: [{ id: tell, template: mail, params: { to: a@b.c } }] }
""",
        common="secrets: { KEY: { env: KEY } }\nqueues: { slow: { concurrency: 1 } }\n",
        parts__mail="""
include: ../common.yaml
defaults: { timeout: 7s }
templates:
  mail: { params: { to: string }, run: mail "$TO", env: { TO: "${{ params.to }}", KEY: "${{ secrets.KEY }}" } }
workflows:
  m: { steps: [{ id: a, run: a }] }
""",
    )
    found = load(main)

    assert set(found.workflows) == {"w", "m"}
    assert set(found.queues) == {"slow"}
    assert payload(found, "tell")["env"] == {"TO": "a@b.c"}
    assert found.workflows["w"].secrets.keys() == {"KEY"}
    assert found.workflows["m"].by_id["a"].timeout == timedelta(seconds=7)
    assert found.workflows["w"].by_id["tell"].timeout is None
    assert set(found.document) >= {"workflows", "queues"}

    part = tmp_path / "parts" / "mail.yaml"
    part.write_text(part.read_text().replace("run: a }", "run: a, nedes: b }").replace("TO:", "9TO:"))
    with pytest.raises(Invalid) as raised:
        load(main)
    assert [str(fault) for fault in raised.value.faults] == [
        f"{part}:5:59: '9TO' cannot be set: letters, digits and _, and not QW_… or LD_…",
        f"{part}:7:33: 'nedes' is not a key of a step; did you mean 'needs'?",
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"main": "include: [a.yaml]"}, "main.yaml:1:11: there is no file {folder}/a.yaml"),
        ({"main": "include: ../x.yaml"}, "main.yaml:1:1: '../x.yaml' is not in {folder} or below"),
        ({"main": "include: main.yaml"}, "main.yaml:1:1: 'main.yaml' includes this file, directly or through others"),
        ({"main": "include: a.yaml", "a": "include: main.yaml"}, "a.yaml:1:1: 'main.yaml' includes this file"),
        (
            {"main": "include: a.yaml\nqueues:\n  q: {}", "a": "queues:\n  q: {}"},
            "main.yaml:3:3: 'q' is also defined at {folder}/a.yaml:2:3",
        ),
        ({"main": "include: a.yaml", "a": "wrokflows: {}"}, "a.yaml:1:1: 'wrokflows' is not a key of a file"),
    ],
)
def test_a_file_that_cannot_be_included_is_told_at_its_place(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    with pytest.raises(Invalid) as raised:
        load(written(tmp_path, **files))

    assert str(raised.value.faults[0]).startswith(f"{tmp_path}/{message.format(folder=tmp_path)}")


def test_text_without_a_file_includes_nothing() -> None:
    assert faults("include: a.yaml") == ["w.yaml:1:1: only a file can include others"]


# -- templates


TEMPLATE = """
templates:
  notify:
    params: { channel: string, times: { type: integer, default: 2 }, list: { type: array, default: [1] } }
    run: notify "$CHANNEL" params.x
    env: { CHANNEL: "#${{ params.channel }}", N: "${{ params.times }}", M: "${{ params.times * 2 }}" }
    if: params.channel != 'off'
    retry: { max_retries: 3, delay: 1s }
workflows:
  w:
    input: { room: string }
    steps:
      - { id: a, type: noop }
      - id: plain
        template: notify
        params: { channel: ops }
      - id: changed
        needs: a
        template: notify
        params: { channel: "${{ input.room }}", times: 7 }
        env: { N: one, OWN: own }
        retry: { max_retries: 1 }
"""


def test_a_step_is_made_from_a_template_and_what_it_says_itself_goes_first() -> None:
    found = loads(TEMPLATE, "w.yaml")
    document: Any = found.workflows["w"].document

    plain, changed = document["steps"][1:]
    assert plain == {
        "id": "plain",
        "run": 'notify "$CHANNEL" params.x',
        "env": {"CHANNEL": "#ops", "N": 2, "M": "${{ 2 * 2 }}"},
        "if": "\"ops\" != 'off'",
        "retry": {"max_retries": 3, "delay": "1s"},
    }
    assert changed["env"] == {"CHANNEL": "#${{ input.room }}", "N": "one", "M": "${{ 7 * 2 }}", "OWN": "own"}
    assert changed["if"] == "(input.room) != 'off'"
    assert changed["retry"] == {"max_retries": 1, "delay": "1s"}
    assert changed["needs"] == "a"


def test_faults_of_a_template_stand_where_they_were_written() -> None:
    wrong = TEMPLATE.replace("params.times * 2", "params.tmies * oops").replace(
        "params: { channel: ops }", "params: {}"
    )
    wrong = wrong.replace("times: 7", "times: x, colour: red").replace("OWN: own", "9OWN: own")

    assert faults(wrong) == [
        "w.yaml:6:73: uses params.tmies, which is not under params:; did you mean 'times'?",
        "w.yaml:6:73: 'oops' is not known; there are input, steps, run, env, true, false, null",
        "w.yaml:15:9: needs params.channel: a string",
        "w.yaml:20:49: must be an integer, not a string",
        "w.yaml:20:59: is not a parameter of the template notify; there are: channel, times, list",
        "w.yaml:21:24: '9OWN' cannot be set: letters, digits and _, and not QW_… or LD_…",
    ]


def test_a_template_that_is_not_there_is_told_with_those_that_are() -> None:
    text = TEMPLATE.replace("template: notify\n        params: { channel: ops }", "template: notfy")

    assert faults(text) == [
        "w.yaml:15:9: there is no template 'notfy' under templates:; there are: notify; did you mean 'notify'?"
    ]


def test_a_parameter_that_is_more_than_one_expression_is_no_part_of_another() -> None:
    text = TEMPLATE.replace('"${{ input.room }}", times', '"a ${{ input.room }}", times')

    assert faults(text) == [
        "w.yaml:20:19: params.channel is more than one expression here and cannot be part of a larger one"
    ]


def test_a_template_that_nobody_uses_is_checked_for_its_keys() -> None:
    text = "templates:\n  t: { type: noop, tiemout: 1s }\nworkflows: { w: { steps: [{ id: a, type: noop }] } }\n"

    assert faults(text) == ["w.yaml:2:20: 'tiemout' is not a key of a template; did you mean 'timeout'?"]


def test_a_workflow_of_transitions_takes_the_defaults_of_its_file() -> None:
    found = loads("defaults: { timeout: 1m }\nworkflows: { w: { initialTask: { type: noop } } }\n")

    assert found.workflows["w"].by_id["noop"].timeout == timedelta(minutes=1)


@pytest.mark.parametrize("text", [DEFAULTS, TEMPLATE, "include: [a.yaml]\nx-own: 1\nworkflows: {}"])
def test_what_is_written_once_fits_the_schema(text: str) -> None:
    validator = pytest.importorskip("jsonschema_rs").validator_for(schema())

    assert [str(error) for error in validator.iter_errors(read(text, "w.yaml").value)] == []
