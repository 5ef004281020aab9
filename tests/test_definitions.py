"""`workflows.yaml`: what is read, that nothing in it turns into something else, and that faults have their place."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qw.core.errors import Invalid, NotFound
from qw.core.task.command import CommandSpec, Exit
from qw.core.task.payload import Json
from qw.core.workflow import check_input, parse_workflow
from qw.core.workflow.plan import plan
from qw.core.workflow.run import Finish, Run, RunStatus, Skip, Start, StepState, StepStatus
from qw.definitions import Definitions, load, loads
from qw.definitions.source import read

ROOT = Path(__file__).parent.parent


def faults(content: str) -> list[str]:
    with pytest.raises(Invalid) as caught:
        loads(content, "f.yaml")
    return [str(fault) for fault in caught.value.faults]


def workflow(steps: str) -> str:
    return f"version: 1\nworkflows:\n  w:\n    steps:\n{steps}"


@pytest.mark.parametrize(
    "path", ["workflows.yaml", *sorted(f"examples/{p.name}" for p in (ROOT / "examples").glob("*.yaml"))]
)
def test_what_ships_is_valid_and_survives_being_pinned(path: str) -> None:
    definitions = load(ROOT / path)

    assert definitions.workflows
    for name, one in definitions.workflows.items():
        assert parse_workflow(name, one.document) == one


def test_the_invoice_workflow_is_a_chain_that_one_task_undoes() -> None:
    invoice = load(ROOT / "workflows.yaml").workflows["invoice"]

    assert [step.work.type for step in invoice.steps] == [
        "fetch_orders",
        "create_invoice",
        "generate_pdf",
        "send_email",
    ]
    assert [(step.id, step.work.type) for step in invoice.on_failure] == [("undo", "compensation")]
    assert set(invoice.inputs) == {"customerId", "dateFrom", "dateTo"}
    assert invoice.programs == []


def test_the_invoice_workflow_ends_completed_when_there_is_nothing_to_bill() -> None:
    invoice = load(ROOT / "workflows.yaml").workflows["invoice"]
    run = Run(id=UUID(int=1), input=check_input(invoice, {"customerId": "7"}))
    orders = StepState(step_id="orders", status=StepStatus.COMPLETED, result={"orders": []}, finished=1)

    first, rest = plan(invoice, run, []), plan(invoice, run, [orders])

    assert isinstance(first[0], Start)
    assert first[0].payload == {"customerId": "7", "dateFrom": None, "dateTo": None}
    assert [type(action) for action in rest] == [Skip, Skip, Skip, Finish]
    assert isinstance(rest[-1], Finish)
    assert rest[-1].status is RunStatus.COMPLETED


def test_a_failed_invoice_run_is_undone_by_one_task_that_knows_why() -> None:
    invoice = load(ROOT / "workflows.yaml").workflows["invoice"]
    run = Run(id=UUID(int=1), input=check_input(invoice, {"customerId": "7"}))
    failed = StepState(step_id="orders", status=StepStatus.FAILED, task_id=UUID(int=2), error="no answer", finished=1)

    starts = [action for action in plan(invoice, run, [failed]) if isinstance(action, Start)]

    assert [(start.step_id, start.payload) for start in starts] == [
        (
            "undo",
            {
                "originalTaskId": str(UUID(int=2)),
                "originalTaskType": "fetch_orders",
                "customerId": "7",
                "reason": "step orders: no answer",
            },
        )
    ]


def test_faults_stand_at_their_line_and_column_in_the_order_of_the_file() -> None:
    content = workflow(
        "      - id: a\n        tpye: noop\n      - { id: b, type: noop, needs: [c], timeout: soon }\ncomands: {}\n"
    )

    assert faults(content) == [
        "f.yaml:5:9: needs type: (which handler) or run: (a shell command)",
        "f.yaml:6:9: 'tpye' is not a key of a step; did you mean 'type'?",
        "f.yaml:7:30: step b needs 'c', which is not a step",
        "f.yaml:7:42: 'soon' is not a duration such as 30s, 5m, 2h or 1d",
        "f.yaml:8:1: 'comands' is not a key of a file of definitions; did you mean 'commands'?",
    ]


def test_a_fault_deep_in_a_value_stands_at_its_key() -> None:
    content = workflow(
        '      - id: a\n        type: noop\n        with:\n          deep:\n            - x: "${{ y }}"\n'
    )

    assert faults(content)[0].startswith("f.yaml:9:15: 'y' is not known; there are input, steps, run, env")


def test_faults_of_all_workflows_and_commands_are_told_together() -> None:
    content = "workflows:\n  a: {}\n  b: {steps: [{id: x}]}\ncommands:\n  c: {}\nversion: 2\n"

    assert [fault.split(": ")[0] for fault in faults(content)] == [
        "f.yaml:2:3",
        "f.yaml:3:15",
        "f.yaml:5:3",
        "f.yaml:6:1",
    ]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("0", 0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("no", "no"),
        ("off", "off"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("n", "n"),
        ("1:30", "1:30"),
        ("12:30:45", "12:30:45"),
        ("2026-11-24", "2026-11-24"),
        ("2026-11-24T10:00:00Z", "2026-11-24T10:00:00Z"),
        ("1_000", "1_000"),
        ("0123", "0123"),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1e999", "1e999"),
        ("99999999999999999999999", "99999999999999999999999"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("''", ""),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("10s", "10s"),
    ],
)
def test_a_word_means_what_it_looks_like(word: str, value: Json) -> None:
    source = read(f"x: {word}\n", "f.yaml")

    assert source.value == {"x": value}
    assert type(source.value["x"]) is type(value)


def test_keys_are_always_text() -> None:
    assert read("on: 1\n200: 2\ntrue: 3\nno: 4\n", "f.yaml").value == {"on": 1, "200": 2, "true": 3, "no": 4}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "x: !!python/object/apply:os.system ['id']\n",
            "f.yaml:1:4: the tag 'tag:yaml.org,2002:python/object/apply:os",
        ),
        ("x: !!str 3\n", "f.yaml:1:4: the tag"),
        ("x: !mine {a: 1}\n", "f.yaml:1:4: the tag '!mine' is not supported"),
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: the key 'a' occurs twice in one object"),
        ("x: {a: 1, 'a': 2}\n", "f.yaml:1:11: the key 'a' occurs twice"),
        ("a: &a x\nb:\n  <<: *a\n", "f.yaml:4:1: the merge key << takes an object or a list of objects"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1: a second document begins here"),
        ("a:\n\tb: 1\n", "f.yaml:2:1: a tab cannot indent; use spaces"),
        ("a: [1, 2\n", "f.yaml:2:1: not YAML: "),
        ("a: 'open\n", "f.yaml:2:1: not YAML: "),
        ("a: *b\n", "f.yaml:1:4: there is no anchor 'b' before this"),
        ("a: &a [*a]\n", "f.yaml:1:8: there is no anchor 'a' before this"),
        ("? [a]\n: 1\n", "f.yaml:1:3: a key must be a word"),
        ("a: &k x\n*k : 1\n", "f.yaml:2:1: an alias cannot be a key"),
        ("x: " + "[" * 200 + "]" * 200, "f.yaml:1:103: nested deeper than 100 levels"),
        ("x: " + "[" * 200_000, "f.yaml:1:103: nested deeper than 100 levels"),
        ("x: \x07\n", "f.yaml: not YAML: "),
        ("[]", "f.yaml:1:1: must hold version: 1 and workflows:, schedules: or commands:, not a list"),
        ("", "f.yaml:1:1: must hold version: 1 and workflows:, schedules: or commands:, not null"),
        ("just text", "f.yaml:1:1: must hold version: 1"),
        ("workflows: []\n", "f.yaml:1:1: must be an object, not a list"),
        ("version: '1'\n", "f.yaml:1:1: this qw reads version 1"),
    ],
)
def test_what_yaml_has_beyond_json_is_refused_with_its_place(content: str, message: str) -> None:
    assert message in faults(content)[0]


def test_aliases_repeat_a_value_a_few_times_only() -> None:
    few = "a: &a {x: [1, 2]}\nb: [*a, *a]\n"
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
    )
    before = time.process_time()

    assert read(few, "f.yaml").value == {"a": {"x": [1, 2]}, "b": [{"x": [1, 2]}, {"x": [1, 2]}]}
    assert "aliases repeat more than 5,000 values" in faults(bomb)[0]
    assert time.process_time() - before < 1


def test_fifty_megabytes_are_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    with path.open("wb") as file:
        file.truncate(50 * 1024 * 1024)

    with pytest.raises(Invalid, match="is longer than 1,048,576 bytes"):
        load(path)
    with pytest.raises(Invalid, match="at most 1,048,576 are read"):
        loads("x" * 1_048_577)


def test_a_megabyte_of_steps_is_refused_in_good_time() -> None:
    content = workflow("".join(f"      - {{id: s{n}, type: noop}}\n" for n in range(30_000)))
    before = time.process_time()

    assert faults(content) == ["f.yaml:4:5: 30,000 steps; a workflow has at most 1,000"]
    assert time.process_time() - before < 10


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("version: 1 # é\n".encode("latin-1"))

    with pytest.raises(NotFound, match=r"there is no file .*nope\.yaml"):
        load(tmp_path / "nope.yaml")
    with pytest.raises(Invalid, match=r"latin\.yaml: not UTF-8 at byte 13"):
        load(latin)
    with pytest.raises(Invalid, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfversion: 1\n")

    assert load(path) == Definitions(workflows={}, schedules={}, commands={}, source=str(path))


def test_commands_are_read() -> None:
    content = (
        "commands:\n"
        "  list: { argv: [ls, -l], timeout: 5m, exit_codes: { 1: done, 3: reject }, description: all }\n"
        "  count: { run: 'wc -l' }\n"
    )

    assert loads(content).commands == {
        "list": CommandSpec(
            name="list",
            run=("ls", "-l"),
            timeout=timedelta(minutes=5),
            exit_codes={1: Exit.DONE, 3: Exit.REJECT},
            description="all",
        ),
        "count": CommandSpec(name="count", run="wc -l"),
    }


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("{}", "2:3: a command needs argv: (a list) or run: (shell text), one of them"),
        ("{argv: [ls], run: ls}", "2:3: a command needs argv: (a list) or run: (shell text), one of them"),
        ("ls", "2:3: a command must be an object with argv: or run:, not a string"),
        ("{argv: ls}", "2:7: must be a list of strings: a program and its arguments"),
        ("{argv: []}", "2:7: must be a list of strings"),
        ("{argv: [ls, 3]}", "2:7: must be a list of strings"),
        ("{run: ''}", "2:7: must be the text of a shell command"),
        ("{run: ls, timeuot: 3}", "2:16: 'timeuot' is not a key of a command; did you mean 'timeout'?"),
        ("{run: ls, timeout: 0}", "2:16: must be greater than 0"),
        ("{run: ls, exit_codes: {256: done}}", "2:29: '256' is not an exit code from 0 to 255"),
        (
            "{run: ls, exit_codes: {3: rejct}}",
            "2:29: 'rejct' is not one of done, retry, reject, fail; did",
        ),
        ("{run: ls, exit_codes: {3: [1]}}", "2:29: '[1]' is not one of done"),
        ("{run: ls, description: 3}", "2:16: must be a string, not a number"),
    ],
)
def test_a_wrong_command_is_refused_with_its_place(command: str, message: str) -> None:
    assert message in faults(f"commands:\n  c: {command}\n")[0]


@given(st.text(alphabet="ab:-[]{},#&*!|>'\"%@` \n\t?01~<\\", max_size=80))
def test_any_text_is_read_or_refused_as_invalid(content: str) -> None:
    with suppress(Invalid):
        loads(content)


def test_a_long_key_above_many_values_is_read_in_good_time() -> None:
    before = time.process_time()

    value = read(f"? {'k' * 500_000}\n: [{'1, ' * 100_000}]\n", "f.yaml").value

    assert isinstance(value, dict)
    assert time.process_time() - before < 5
