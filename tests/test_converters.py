"""Files of other tools, converted: the result is read without a fault, and runs as the original would."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from qw.core.errors import Invalid
from qw.core.workflow.rehearsal import Assumption, rehearse
from qw.core.workflow.run import StepStatus
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
    with pytest.raises(Invalid, match=r"^not an? |a\.yaml: not a file of"):
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
    for word in ("services: redis", "actions/setup-python", "on: push"):
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


POLL = """
StartAt: Start
States:
  Start: { Type: Task, Resource: "arn:aws:lambda:x:1:function:start", Next: Wait }
  Wait: { Type: Wait, Seconds: 5, Next: Ask }
  Ask:
    Type: Task
    Resource: "arn:aws:lambda:x:1:function:ask"
    Retry:
      - { ErrorEquals: [Busy, States.Timeout], MaxAttempts: 4 }
      - { ErrorEquals: [Broken], MaxAttempts: 0 }
    Catch:
      - { ErrorEquals: [Broken], Next: Refuse }
      - { ErrorEquals: [States.ALL], Next: Tell }
    ResultPath: $.job
    Next: Done
  Done:
    Type: Choice
    Choices:
      - { Variable: $.job.state, StringEquals: done, Next: Use }
      - { Variable: $.job.state, StringEquals: lost, Next: Tell }
    Default: Wait
  Use: { Type: Task, Resource: "arn:aws:lambda:x:1:function:use", End: true }
  Tell: { Type: Task, Resource: "arn:aws:lambda:x:1:function:tell", End: true }
  Refuse: { Type: Task, Resource: "arn:aws:lambda:x:1:function:refuse", End: true }
"""


def rehearsed(text: str, **assumed: Assumption) -> dict[str, str]:
    """What became of each step of the first workflow, where these come to that."""
    workflow = next(iter(loads(text, "made.yaml").workflows.values()))
    done = rehearse(workflow, {}, assumed)
    return {entry.step: entry.status.value for entry in done.entries}


def test_a_loop_of_a_task_a_choice_and_a_wait_is_a_repeat() -> None:
    text = convert("step-functions", POLL, "poll.json")

    (ask,) = [step for step in loads(text, "made.yaml").workflows["poll"].steps if step.id == "Ask"]
    assert ask.repeat is not None
    assert ask.repeat.delay.total_seconds() == 5
    assert ask.repeat.goes_on({"input": {"input": {}}, "result": {"state": "busy"}, "round": 1})
    assert not ask.repeat.goes_on({"input": {"input": {}}, "result": {"state": "lost"}, "round": 1})
    came_to = rehearsed(text, Start=Assumption(result={}), Ask=Assumption(result={"state": "done"}))
    assert came_to["Use"] == "completed"


@pytest.mark.parametrize(("kind", "next_"), [("Broken", "Refuse"), ("exit:1", "Tell")])
def test_catchers_go_by_the_kind_of_the_error(kind: str, next_: str) -> None:
    text = convert("step-functions", POLL, "poll.json")

    came_to = rehearsed(text, Ask=Assumption(status=StepStatus.FAILED, error_kind=kind))

    assert [step for step in ("Use", "Tell", "Refuse") if came_to[step] == "completed"] == [next_]


def test_rules_of_retries_become_kinds_of_errors() -> None:
    (ask,) = [s for s in loads(convert("step-functions", POLL, "p.json"), "m").workflows["p"].steps if s.id == "Ask"]

    assert ask.max_retries == 5
    assert ask.backoff is not None
    assert (ask.backoff.retry_on, ask.backoff.give_up_on) == (("Busy", "timeout"), ("Broken",))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("{repeat: until, condition: '${STATE}', expected: ok, limit: 9}", "until result.stdout == 'ok'"),
        ("{repeat: while, condition: '${STATE}', expected: 're:^new$'}", "while match(result.stdout, '^new$')"),
        ("{repeat: true, intervalSec: 60}", "while true"),
    ],
)  # fmt: skip
def test_a_repeat_policy_of_dagu_is_a_repeat(policy: str, expected: str) -> None:
    text = convert("dagu", f"steps: [{{name: a, command: ask, output: STATE, repeatPolicy: {policy}}}]", "d.yaml")

    (step,) = loads(text, "made.yaml").workflows["d"].steps
    assert step.repeat is not None
    assert step.repeat.title == expected


DAGU = """
shell: bash -e
working_dir: /srv
params: [{LIST: '["a", "b"]'}]
steps:
  - {id: fetch, call: fetch-page, params: "URL=http://x"}
  - {id: store, call: store-page, params: "PAGE=${fetch.outputs.body} TO=${NOBODY}", depends: [fetch]}
  - {id: each, call: check, parallel: "${LIST}", depends: [], retry_policy: {limit: 1}}
  - {id: words, call: check, parallel: "a b", depends: []}
  - {id: ask, command: ask, depends: [], retryPolicy: {limit: 2, intervalSec: 1, backoff: true, maxIntervalSec: 9}}
  - {id: poll, command: ask, depends: [], repeat_policy: {repeat: true, backoff: 2, max_interval_sec: 5}}
  - {id: far, command: uptime, type: ssh, with: {host: far, user: me}, depends: []}
"""


def test_what_definitions_of_dagu_say_in_public_is_carried_over() -> None:
    text = convert("dagu", DAGU, "d.yaml")
    steps = loads(text, "made.yaml").workflows["d"].by_id

    assert "PAGE: ${{ steps.fetch.result.body }}\n" in text
    assert "TODO ${NOBODY} is no parameter" in text
    assert "foreach: ${{ fromjson(input.LIST) }}" in text
    assert "retry_policy: with parallel: put it into" in text
    assert steps["words"].items is not None
    assert steps["words"].items.values({"input": {}, "steps": {}, "run": {}, "env": {}}) == ["a", "b"]
    ask, poll, far = (steps[id_] for id_ in ("ask", "poll", "far"))
    assert ask.backoff is not None
    assert (ask.backoff.factor, ask.backoff.max_delay) == (2, timedelta(seconds=9))
    assert poll.repeat is not None
    assert (poll.repeat.factor, poll.repeat.max_delay) == (2, timedelta(seconds=5))
    run: Any = far.work.payload.root
    assert run["run"] == "ssh me@far uptime"
    assert (run["shell"], run["cwd"]) == (["bash", "-e"], "/srv")


ARGO = """
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: pull-}
spec:
  entrypoint: main
  parallelism: 2
  templates:
    - name: main
      steps:
        - - name: pull
            template: say
            withItems: [{image: a, tag: "1"}]
            arguments: {parameters: [{name: text, value: "{{item.image}}:{{item.tag}}"}]}
    - name: say
      inputs: {parameters: [{name: text}]}
      daemon: true
      retryStrategy: {limit: 3, expression: "lastRetry.exitCode > 1", backoff: {duration: "1", factor: 2, cap: "5"}}
      container: {command: [sh, -c], args: ["echo {{inputs.parameters.text}}"]}
"""


def test_what_files_of_argo_say_in_public_is_carried_over_or_noted() -> None:
    text = convert("argo", ARGO, "a.yaml")
    workflow = loads(text, "made.yaml").workflows["pull"]

    (pull,) = workflow.steps
    assert 'TEXT: ${{ str(item.image) + ":" + str(item.tag) }}' in text
    assert workflow.max_parallel == 2
    assert pull.items is not None
    assert pull.items.max_parallel == 2
    assert pull.backoff is not None
    assert (pull.max_retries, pull.backoff.max_delay) == (4, timedelta(seconds=5))
    assert "TODO daemon: was not converted" in text
    assert "TODO retryStrategy: expression: was not converted" in text


def test_a_condition_of_several_expressions_is_one_expression() -> None:
    job = "{if: '${{ github.ref == 1 }} && ${{ github.actor == 2 }}', secrets: inherit, steps: [{run: x}]}"
    text = convert("github-actions", f"on: push\njobs: {{a: {job}}}", "g.yaml")

    condition = loads(text, "made.yaml").workflows["g"].by_id["a"].condition
    assert condition is not None
    assert condition.expression.source == "( input.github.ref == 1 ) && ( input.github.actor == 2 )"
    assert "TODO secrets: was not converted" in text


@pytest.mark.parametrize(("name", "taken"), [("zip-a.b-1", True), ("zip-aXb-1", False), ("a zip-a.b-1", False)])
def test_a_pattern_of_a_choice_is_a_regular_expression(name: str, taken: bool) -> None:
    machine = """{StartAt: C, States: {
      C: {Type: Choice, Choices: [{Variable: $.name, StringMatches: "zip-*.b*", Next: T}], Default: S},
      S: {Type: Succeed},
      T: {Type: Task, Resource: "arn:aws:lambda:::function:unzip", HeartbeatSeconds: 9, End: true}}}"""
    text = convert("step-functions", machine, "m.yaml")

    condition = loads(text, "made.yaml").workflows["m"].by_id["T"].condition
    assert condition is not None
    assert condition.holds({"input": {"input": {"name": name}}, "steps": {}, "run": {}, "env": {}}) is taken
    assert "TODO T: HeartbeatSeconds: was not converted" in text


def test_a_command_of_dagu_that_is_repeated_by_its_exit_code_is_retried() -> None:
    policy = "{repeat: while, exitCode: [3], intervalSec: 2, limit: 9}"
    text = convert("dagu", f"steps: [{{name: a, command: ask, repeatPolicy: {policy}}}]", "d.yaml")

    (step,) = loads(text, "made.yaml").workflows["d"].steps
    assert (step.max_retries, step.repeat) == (9, None)
    assert step.backoff is not None
    assert step.backoff.retry_on == ("exit:3",)


@pytest.mark.parametrize(
    ("tool", "text", "note"),
    [
        (
            "github-actions",
            "on: {schedule: [{cron: $weekly}]}\njobs: {a: {steps: [{run: x}]}}",
            "schedule: $weekly was not",
        ),
        (
            "github-actions",
            "jobs: {a: {steps: [{id: b, uses: x/y}, {run: 'echo ${{ steps.b.outputs.c-d }}'}]}}",
            "step b was not converted",
        ),
        ("github-actions", "jobs: {a: {strategy: {matrix: $m}, steps: [{run: x}]}}", "strategy.matrix: $m was not"),
    ],
)
def test_what_has_no_meaning_here_is_noted_and_the_rest_is_valid(tool: str, text: str, note: str) -> None:
    made = convert(tool, text, "a.yaml")

    assert note in made
    assert loads(made, "made.yaml").workflows


def test_a_sequence_and_a_condition_over_items_of_argo_are_expressions() -> None:
    text = convert("argo", """
apiVersion: argoproj.io/v1alpha1
kind: Workflow
spec:
  entrypoint: main
  templates:
    - name: main
      steps:
        - - name: many
            template: say
            arguments: { parameters: [{ name: n, value: "{{item}}" }] }
            withSequence: { start: "1", end: "4" }
            when: "{{item}} > 2"
    - name: say
      inputs: { parameters: [{ name: n }] }
      container: { command: [echo, "{{inputs.parameters.n}}"] }
""", "a.yaml")  # fmt: skip

    (step,) = next(iter(loads(text, "made.yaml").workflows.values())).steps
    assert step.items is not None
    assert step.items.values({}) == ["3", "4"]


def test_jobs_with_conditions_over_other_jobs_keep_their_place_and_their_words() -> None:
    text = convert(
        "github-actions",
        """
on: push
jobs:
  unit:
    strategy: { fail-fast: false, matrix: { n: [1, 2] } }
    steps: [{ run: make unit }]
  label:
    if: contains(github.event.pull_request.labels.*.name, 'full')
    steps: [{ run: make full }]
  lint:
    if: always()
    steps: [{ run: make lint }]
  shards:
    needs: unit
    if: always()
    strategy: { matrix: { shard: [1, 2] } }
    steps: [{ run: make shard }]
  publish:
    needs: [unit, lint]
    if: needs.unit.result == 'success' && needs.lint.result != 'failure'
    steps: [{ run: make publish }]
""",
        "g.yaml",
    )

    steps = loads(text, "made.yaml").workflows["g"].by_id
    assert steps["unit"].items is not None
    assert not steps["unit"].items.fail_fast
    assert steps["lint"].needs == ()
    assert steps["shards"].run_if == "all_done"
    assert "steps.unit.status == 'completed' && steps.lint.status != 'failed'" in text


def test_each_document_of_a_file_of_dagu_is_a_workflow() -> None:
    text = convert(
        "dagu",
        "steps: [{name: a, call: child}]\n---\nname: child\nsteps: [{name: b, command: echo}]\n",
        "parent.yaml",
    )

    found = loads(text, "made.yaml").workflows
    assert [*found] == ["parent", "child"]
    assert found["parent"].by_id["a"].kind == "workflow"


def test_long_names_that_differ_at_their_end_stay_different() -> None:
    machine = {"StartAt": "A", "States": {"A": {"Type": "Parallel", "End": True, "Branches": []}}}
    machine["States"]["A"]["Branches"] = [  # type: ignore[index]
        {"StartAt": "P", "States": {"P": {"Type": "Pass", "Result": n, "End": True}}} for n in range(2)
    ]

    text = convert("step-functions", json.dumps(machine), f"{'long-' * 25}name.json")

    assert len(loads(text, "made.yaml").workflows) == 4
