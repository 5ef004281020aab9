"""What a run does next, as values: tables for the rules, and random workflows driven to their end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qw.core.task.payload import Json, JsonObject
from qw.core.workflow import Workflow, parse_workflow
from qw.core.workflow.join import RunIf
from qw.core.workflow.plan import plan
from qw.core.workflow.plan_state import error_kind
from qw.core.workflow.run import (
    Accept,
    Action,
    Again,
    Cancel,
    End,
    Fail,
    Finish,
    Mark,
    Pause,
    Run,
    RunStatus,
    Skip,
    Start,
    StepState,
    StepStatus,
)
from qw.core.workflow.step import Step

RUN = Run(id=UUID(int=7), input={"n": 3, "list": []})
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def step(id_: str, *needs: str, **more: Any) -> JsonObject:
    return {"id": id_, "type": "noop", **({"needs": list(needs)} if needs else {}), **more}


def undone(id_: str, *needs: str, **more: Any) -> JsonObject:
    return step(id_, *needs, compensate={"type": "undo", "with": {"was": f"${{{{ steps.{id_}.result }}}}"}}, **more)


def read(*steps: JsonObject, **more: Any) -> Workflow:
    return parse_workflow("w", {"input": {"n": "any", "list": "any"}, "steps": list(steps), **more})


def task(step_id: str) -> UUID:
    return UUID(bytes=step_id.encode()[-16:].rjust(16))


def done(step_id: str, finished: int, result: Json = None) -> StepState:
    return StepState(
        step_id=step_id,
        status=StepStatus.COMPLETED,
        task_id=task(step_id),
        finished=finished,
        result=result,
    )


def bad(step_id: str, finished: int, error: str = "boom") -> StepState:
    return done(step_id, finished)._replace(status=StepStatus.FAILED, error=error)


def busy(step_id: str, **more: Any) -> StepState:
    return StepState(step_id=step_id, status=StepStatus.RUNNING, task_id=task(step_id), **more)


def skipped(step_id: str) -> StepState:
    return StepState(step_id=step_id, status=StepStatus.SKIPPED)


def started(actions: list[Action]) -> list[str]:
    return [action.step_id for action in actions if isinstance(action, Start)]


DIAMOND = read(step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"))


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], ["a"]),
        ([busy("a")], []),
        ([StepState(step_id="a", status=StepStatus.PENDING)], ["a"]),
        ([done("a", 1)], ["b", "c"]),
        ([done("a", 1), done("b", 2)], ["c"]),
        ([done("a", 1), done("b", 2), busy("c")], []),
        ([done("a", 1), done("c", 2), done("b", 3)], ["d"]),
    ],
)
def test_a_step_starts_once_all_that_it_needs_is_completed(states: list[StepState], expected: list[str]) -> None:
    assert started(plan(DIAMOND, RUN, states)) == expected


def test_a_run_whose_steps_are_completed_finishes_with_what_came_last() -> None:
    states = [done("a", 1, 1), done("b", 2, 2), done("c", 3, 3), done("d", 4, {"x": 4})]

    assert plan(DIAMOND, RUN, states) == [Finish(status=RunStatus.COMPLETED, output={"d": {"x": 4}})]


def test_a_start_carries_the_payload_and_the_policy_of_its_step() -> None:
    workflow = read(
        step("a"),
        step(
            "b",
            "a",
            **{
                "with": {"x": "${{ steps.a.result.x }}", "id": "${{ run.id }}", "w": "${{ run.workflow }} ${{ env.E }}"}
            },
            retry={"max_retries": 2},
            queue="q",
            priority=1,
        ),
    )

    actions = plan(workflow, RUN, [done("a", 1, {"x": [1]})], env={"E": "e"})

    payload: JsonObject = {"x": [1], "id": str(RUN.id), "w": "w e"}
    assert actions == [Start(step_id="b", type="noop", payload=payload, max_retries=2, queue="q", priority=1)]


def test_a_step_whose_condition_is_false_is_skipped_and_so_is_what_needs_it() -> None:
    workflow = read(step("a"), step("b", "a", **{"if": "len(input.list) > 0"}), step("c", "b"), step("d", "a"))

    actions = plan(workflow, RUN, [done("a", 1)])

    assert actions == [
        Skip(step_id="b", reason="its condition was false"),
        Start(step_id="d", type="noop", payload={}),
        Skip(step_id="c", reason="its need b was skipped"),
    ]


def test_a_run_of_skipped_steps_only_is_completed() -> None:
    workflow = read(step("a", **{"if": "false"}), step("b", "a"))

    assert plan(workflow, RUN, [])[-1] == Finish(status=RunStatus.COMPLETED, output={})


def test_a_payload_that_has_no_value_fails_the_step_and_the_run() -> None:
    workflow = read(step("a"), step("b", "a", **{"with": {"x": "${{ steps.a.result.y }}"}}), step("c", "a"))

    actions = plan(workflow, RUN, [done("a", 1, {"x": 1})])

    error = "x: steps.a.result has no 'y'; it has x"
    assert actions == [
        Fail(step_id="b", error=error),
        Skip(step_id="c", reason="the run failed"),
        Finish(status=RunStatus.FAILED, error=f"step b: {error}", error_kind="expression"),
    ]


def test_a_payload_that_cannot_be_stored_fails_the_step() -> None:
    workflow = read(step("a", **{"with": {"x": "${{ 'a\\x00b' }}"}}))

    assert isinstance(plan(workflow, RUN, [])[0], Fail)


def test_a_condition_that_has_no_value_fails_the_step() -> None:
    workflow = read(step("a", **{"if": "input.n.x"}))

    assert plan(workflow, RUN, [])[0] == Fail(step_id="a", error="if: cannot take 'x' of input.n, which is a number")


def test_after_a_failure_nothing_starts_and_what_runs_may_end() -> None:
    states = [done("a", 1), bad("b", 2), busy("c")]

    assert plan(DIAMOND, RUN, states) == [Skip(step_id="d", reason="the run failed")]
    assert plan(DIAMOND, RUN, [*states, skipped("d")]) == []
    assert plan(DIAMOND, RUN, [done("a", 1), bad("b", 2), done("c", 3), skipped("d")]) == [
        Finish(status=RunStatus.FAILED, error="step b: boom")
    ]


def test_the_first_failure_is_the_error_of_the_run() -> None:
    actions = plan(DIAMOND, RUN, [done("a", 1), bad("b", 3, "second"), bad("c", 2, "first"), skipped("d")])

    assert actions == [Finish(status=RunStatus.FAILED, error="step c: first")]


def test_a_step_whose_task_was_cancelled_fails_the_run() -> None:
    states = [StepState(step_id="a", status=StepStatus.CANCELLED, finished=1), *map(skipped, "bcd")]

    assert plan(DIAMOND, RUN, states) == [
        Finish(status=RunStatus.FAILED, error="step a: cancelled", error_kind="cancelled")
    ]


SAGA = read(undone("a"), undone("b", "a", queue="q", priority=1), step("x", "a"), step("c", "b", "x"))


def test_compensation_runs_in_reverse_order_of_completion_one_at_a_time() -> None:
    states = [done("a", 1, "A"), done("x", 2), done("b", 3, "B"), bad("c", 4)]
    compensating = replace(RUN, detail="compensating")
    last = Start(
        step_id="compensate:b", type="undo", payload={"was": "B"}, queue="q", priority=1, compensates=task("b")
    )
    first = Start(step_id="compensate:a", type="undo", payload={"was": "A"}, compensates=task("a"))

    assert plan(SAGA, RUN, states) == [Mark(detail="compensating", error="step c: boom"), last]
    assert plan(SAGA, compensating, [*states, busy("compensate:b")]) == []
    assert plan(SAGA, compensating, [*states, done("compensate:b", 5)]) == [first]
    assert plan(SAGA, compensating, [*states, done("compensate:b", 5), done("compensate:a", 6)]) == [
        Finish(status=RunStatus.FAILED, detail="compensated", error="step c: boom")
    ]


def test_a_compensation_that_fails_is_listed_and_the_others_still_run() -> None:
    states = [done("a", 1), done("x", 2), done("b", 3), bad("c", 4), bad("compensate:b", 5, "no way")]
    compensating = replace(RUN, detail="compensating")

    assert started(plan(SAGA, compensating, states)) == ["compensate:a"]
    assert plan(SAGA, compensating, [*states, done("compensate:a", 6)]) == [
        Finish(
            status=RunStatus.FAILED,
            detail="compensation_failed",
            error="step c: boom; not undone: compensate:b (no way)",
        )
    ]


def test_a_cancel_during_compensation_does_not_stop_it() -> None:
    states = [done("a", 1), done("x", 2), done("b", 3), bad("c", 4), done("compensate:b", 5)]

    actions = plan(SAGA, replace(RUN, detail="compensating", cancel_asked=True), states)

    assert started(actions) == ["compensate:a"]


def test_only_completed_steps_are_compensated() -> None:
    assert plan(SAGA, RUN, [bad("a", 1), skipped("b"), skipped("x"), skipped("c")]) == [
        Finish(status=RunStatus.FAILED, error="step a: boom")
    ]


def test_a_compensation_whose_payload_has_no_value_failed() -> None:
    workflow = read(step("a", compensate={"type": "u", "with": {"x": "${{ steps.a.result.x }}"}}), step("b", "a"))

    actions = plan(workflow, RUN, [done("a", 1, {}), bad("b", 2)])

    assert actions[0] == Fail(step_id="compensate:a", error="x: steps.a.result has no 'x'; it is empty")
    assert isinstance(actions[1], Finish)
    assert actions[1].detail == "compensation_failed"


CLEANUP = read(
    undone("a"),
    step("b", "a"),
    on_failure=[
        {"id": "never", "type": "noop", "if": "steps.b.status == 'completed'"},
        {
            "id": "undo",
            "type": "compensation",
            "with": {"task": "${{ run.failed.taskId }}", "type": "${{ run.failed.type }}", "why": "${{ run.error }}"},
        },
        {"id": "tell", "type": "noop", "with": {"undone": "${{ steps.undo.status }}", "at": "${{ run.failed.step }}"}},
    ],
)


def test_on_failure_runs_after_the_compensations_one_step_at_a_time() -> None:
    compensating = replace(RUN, detail="compensating")
    states = [done("a", 1), bad("b", 2), done("compensate:a", 3)]
    undo = Start(
        step_id="undo",
        type="compensation",
        payload={"task": str(task("b")), "type": "noop", "why": "step b: boom"},
    )
    tell = Start(step_id="tell", type="noop", payload={"undone": "completed", "at": "b"})

    assert plan(CLEANUP, compensating, states) == [Skip(step_id="never", reason="its condition was false"), undo]
    states.append(skipped("never"))
    assert plan(CLEANUP, compensating, [*states, busy("undo")]) == []
    assert plan(CLEANUP, compensating, [*states, done("undo", 4)]) == [tell]
    assert plan(CLEANUP, compensating, [*states, done("undo", 4), bad("tell", 5)]) == [
        Finish(status=RunStatus.FAILED, detail="compensated", error="step b: boom")
    ]


def test_a_compensation_task_in_on_failure_that_fails_leaves_the_run_not_compensated() -> None:
    workflow = read(step("a"), on_failure=[{"id": "undo", "type": "compensation"}])

    actions = plan(workflow, replace(RUN, detail="compensating"), [bad("a", 1), bad("undo", 2, "down")])

    assert actions == [
        Finish(status=RunStatus.FAILED, detail="compensation_failed", error="step a: boom; not undone: undo (down)")
    ]


def test_on_failure_does_not_run_when_nothing_failed() -> None:
    assert plan(CLEANUP, RUN, [done("a", 1), done("b", 2)]) == [Finish(status=RunStatus.COMPLETED, output={"b": None})]


def test_after_a_cancel_nothing_starts_and_what_runs_is_asked_to_stop() -> None:
    cancelled = replace(RUN, cancel_asked=True)
    states = [done("a", 1), busy("b")]

    assert plan(SAGA, cancelled, states) == [
        Skip(step_id="x", reason="the run was cancelled"),
        Skip(step_id="c", reason="the run was cancelled"),
        Mark(detail="cancelling", error=None),
        Cancel(step_id="b", task_id=task("b"), reason="the run was cancelled"),
    ]


@pytest.mark.parametrize("end", [done("b", 2), bad("b", 2), done("b", 2)._replace(status=StepStatus.CANCELLED)])
def test_a_cancelled_run_ends_cancelled_and_uncompensated_however_its_last_task_ends(end: StepState) -> None:
    cancelling = replace(RUN, cancel_asked=True, detail="cancelling")
    states = [done("a", 1), skipped("x"), skipped("c")]

    assert plan(SAGA, cancelling, [*states, busy("b", cancel_asked=True)]) == []
    assert [type(action) for action in plan(SAGA, cancelling, [*states, end])] == [Finish]
    assert plan(SAGA, cancelling, [*states, end])[0].status is RunStatus.CANCELLED  # type: ignore[union-attr]


def test_a_cancel_that_comes_after_the_last_step_changes_nothing() -> None:
    states = [done(one, n) for n, one in enumerate("abcd")]

    assert plan(DIAMOND, replace(RUN, cancel_asked=True), states) == [
        Finish(status=RunStatus.COMPLETED, output={"d": None})
    ]


def test_a_run_that_has_not_begun_is_cancelled_at_once() -> None:
    actions = plan(DIAMOND, replace(RUN, status=RunStatus.PENDING, cancel_asked=True), [])

    assert actions[-1] == Finish(status=RunStatus.CANCELLED)
    assert started(actions) == []


@pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED])
def test_a_run_that_is_over_stays_so(status: RunStatus) -> None:
    assert plan(DIAMOND, replace(RUN, status=status), [done("a", 1)]) == []


@dataclass(kw_only=True)
class World:
    """Stores what `plan` asks for and ends tasks as it is told to, so that a run can be driven to its end."""

    workflow: Workflow
    run: Run = RUN
    states: dict[str, StepState] = field(default_factory=dict)
    began: list[str] = field(default_factory=list)
    needs: dict[str, dict[str, StepStatus]] = field(default_factory=dict)
    places: int = 0
    ended: list[str] = field(default_factory=list)
    before_cancel: list[str] = field(default_factory=list)
    finish: Finish | None = None
    now: datetime = EPOCH

    def cancel(self) -> None:
        if not self.run.cancel_asked:
            self.run = replace(self.run, cancel_asked=True)
            self.before_cancel = list(self.began)

    def advance(self) -> None:
        """Plan and store; the same state gives the same plan, and once stored there is nothing more to do."""
        actions = self.plan()
        assert self.plan() == actions
        for action in actions:
            self.store(action)
        assert self.plan() == []

    def plan(self) -> list[Action]:
        return plan(self.workflow, self.run, list(self.states.values()), now=self.now)

    def store(self, action: Action) -> None:
        match action:
            case Start(step_id=step_id):
                assert step_id not in self.states, "a step starts once"
                self.began.append(step_id)
                step = self.workflow.by_id.get(step_id)
                self.needs[step_id] = {need: self.status(need) for need in step.needs} if step else {}
                self.states[step_id] = busy(step_id, rounds=1, started_at=EPOCH)
            case Again(step_id=step_id, round=round_):
                assert self.states[step_id].is_answered, "one round at a time"
                assert (self.states[step_id].due_at or EPOCH) <= self.now, "and none before its time"
                self.began.append(step_id)
                self.states[step_id] = self.states[step_id]._replace(rounds=round_, is_answered=False, due_at=None)
            case Pause(step_id=step_id, until=until):
                self.states[step_id] = self.states[step_id]._replace(due_at=until)
            case Accept(step_id=step_id):
                self.ended.append(step_id)
                self.states[step_id] = self.states[step_id]._replace(
                    status=StepStatus.COMPLETED, finished=self.next_place(), is_answered=False
                )
            case Skip(step_id=step_id):
                assert step_id not in self.states
                self.states[step_id] = skipped(step_id)._replace(finished=self.next_place())
            case Fail(step_id=step_id, error=error, error_kind=kind):
                self.states[step_id] = bad(step_id, self.next_place(), error)._replace(error_kind=kind)
            case End(step_id=step_id, status=status, result=result):
                assert not self.status(step_id).is_final
                self.states[step_id] = StepState(
                    step_id=step_id, status=status, result=result, finished=self.next_place()
                )
            case Cancel(step_id=step_id):
                self.states[step_id] = self.states[step_id]._replace(cancel_asked=True)
            case Mark(detail=detail):
                self.run = replace(self.run, detail=detail)
            case Finish(status=status, detail=final):
                assert self.finish is None, "a run finishes once"
                self.finish = action
                self.run = replace(self.run, status=status, detail=final)

    def end_task(self, step_id: str, status: StepStatus) -> None:
        step = self.workflow.by_id.get(step_id)
        if step and step.repeat and status is StepStatus.COMPLETED:
            self.states[step_id] = self.states[step_id]._replace(is_answered=True, result={"of": step_id})
            return
        self.ended.append(step_id)
        self.states[step_id] = self.states[step_id]._replace(
            status=status, finished=self.next_place(), error="boom", result={"of": step_id}
        )
        if status is StepStatus.FAILED:
            kind = "exit:1" if self.places % 2 else "timeout"
            self.states[step_id] = self.states[step_id]._replace(error_kind=kind)

    def next_place(self) -> int:
        self.places += 1
        return self.places

    def status(self, step_id: str) -> StepStatus:
        return self.states[step_id].status if step_id in self.states else StepStatus.PENDING

    @property
    def busy(self) -> list[str]:
        running = {step_id: state for step_id, state in self.states.items() if state.status is StepStatus.RUNNING}
        return [step_id for step_id, state in running.items() if not state.is_answered]

    def pass_time(self) -> None:
        self.now = min(state.due_at for state in self.states.values() if state.due_at)
        self.advance()


REPEATS: list[Any] = [
    {"until": "round >= 2"},
    {"while": "round < 2", "delay": "5s", "backoff": 2},
    {"until": "false", "max": 2},
    {"until": "false", "delay": "1m", "timeout": "90s"},
    {"while": "false"},
    {"until": "result.none"},
]


@st.composite
def workflows(draw: st.DrawFn, repeats: bool = True, limits: bool = True) -> Workflow:
    ids = [f"s{n}" for n in range(draw(st.integers(1, 8)))]
    steps = []
    for n, id_ in enumerate(ids):
        needs = draw(st.lists(st.sampled_from(ids[:n]), unique=True, max_size=3)) if n else []
        more: dict[str, Any] = {}
        if draw(st.integers(0, 5)) == 0:
            more["if"] = draw(st.sampled_from(["false", "input.n > 5", "input.n == 3", "input.n.x"]))
        if needs:
            more["run_if"] = draw(st.sampled_from([None, None, *RunIf]))
        if draw(st.integers(0, 3)) == 0:
            more["continue_on_error"] = draw(st.sampled_from([True, ["exit:1"], ["cancelled", "expression"]]))
        if draw(st.integers(0, 7)) == 0:
            more["with"] = {"x": "${{ input.missing }}" if n % 2 else "${{ input.list[5] }}"}
        if repeats and draw(st.integers(0, 5)) == 0:
            more["repeat"] = draw(st.sampled_from(REPEATS))
        steps.append((undone if draw(st.booleans()) else step)(id_, *needs, **more))
    for n in range(draw(st.integers(0, 2))):  # switches over steps that nothing needed by them comes after
        place = draw(st.integers(0, len(ids)))
        needs = draw(st.lists(st.sampled_from(ids[:place]), unique=True, max_size=2)) if place else []
        chosen = st.lists(st.sampled_from(ids[place:]), unique=True, max_size=2) if place < len(ids) else st.just([])
        cases: list[Any] = [
            {"if": draw(st.sampled_from(["false", "input.n == 3", "input.n.x"])), "then": draw(chosen)}
            for _ in range(draw(st.integers(0, 2)))
        ]
        one: dict[str, Any] = {"id": f"w{n}", "switch": [*cases, {"else": draw(chosen)}]}
        steps.append(one | ({"needs": [*needs]} if needs else {}))
    late = [{"id": f"f{n}", "type": "noop"} for n in range(draw(st.integers(0, 2)))]
    inputs = {"n": "any", "list": "any", "missing": "any"}
    document: Any = {"input": inputs, "steps": draw(st.permutations(steps)), "on_failure": late}
    if limits and draw(st.booleans()):
        document["max_parallel"] = draw(st.integers(1, 3))
    return parse_workflow("w", document)


def drive(workflow: Workflow, data: st.DataObject, *, fails: bool, cancels: bool) -> World:
    world = World(workflow=workflow)
    world.advance()
    most = 8 * (len(workflow.steps) + len(workflow.on_failure)) + 4
    while world.finish is None:
        most -= 1
        assert most > 0, "a run ends"
        if not world.busy and any(state.due_at for state in world.states.values()):
            world.pass_time()
            continue
        assert world.busy, "a run that is not over waits for a task"
        assert len(world.busy) <= (workflow.max_parallel or len(world.busy)), "no more than max_parallel go on"
        if cancels and data.draw(st.integers(0, 4)) == 0:
            world.cancel()
            world.advance()
            if world.finish or not world.busy:
                continue
        outcomes = [StepStatus.COMPLETED] * 4 + ([StepStatus.FAILED, StepStatus.CANCELLED] if fails else [])
        for step_id in data.draw(st.lists(st.sampled_from(world.busy), unique=True, min_size=1)):
            world.end_task(step_id, data.draw(st.sampled_from(outcomes)))
        world.advance()
    return world


def needs_hold(world: World) -> bool:
    """Whether every step began when its ``run_if`` allowed it, as its needs stood then."""
    bad = {StepStatus.FAILED, StepStatus.CANCELLED}
    good = {StepStatus.COMPLETED}

    def holds(one: Step) -> bool:
        needs = [status for need, status in world.needs[one.id].items() if need not in one.switches]
        if one.switches and not any(one.id in chosen(world, switch) for switch in one.switches):
            return False
        if not needs:
            return True
        match one.run_if:
            case RunIf.ALL_COMPLETED:
                return set(needs) <= good | bad
            case RunIf.ANY_COMPLETED:
                return bool(good & set(needs))
            case RunIf.NONE_FAILED:
                return set(needs) <= good | {StepStatus.SKIPPED} and bool(good & set(needs))
            case RunIf.ALL_DONE:
                return all(status.is_final for status in needs)
        return bool(bad & set(needs))

    return all(holds(one) for one in world.workflow.steps if one.id in world.began)


def chosen(world: World, switch: str) -> Any:
    return world.states[switch].result or [] if world.status(switch) is StepStatus.COMPLETED else []


def choices_hold(world: World) -> bool:
    """Whether, in a run that is completed, no step was left out that a switch chose and nothing else kept from it."""
    for one in world.workflow.steps:
        is_free = one.condition is None and set(one.needs) == set(one.switches)
        is_chosen = any(one.id in chosen(world, switch) for switch in one.switches)
        if is_chosen and is_free and world.status(one.id) is StepStatus.SKIPPED:
            return False
    return True


def compensations(names: list[str]) -> list[str]:
    return [name.removeprefix("compensate:") for name in names if name.startswith("compensate:")]


@given(workflows(), st.data())
@settings(max_examples=150, deadline=None)
def test_any_run_ends_and_keeps_every_promise(workflow: Workflow, data: st.DataObject) -> None:
    world = drive(workflow, data, fails=True, cancels=False)

    assert world.finish is not None
    assert needs_hold(world)
    assert all(one.id in world.states for one in workflow.steps)
    main = [world.states[one.id].status for one in workflow.steps]
    if world.finish.status is RunStatus.COMPLETED:
        bad = [(one, world.states[one.id]) for one in workflow.steps if world.states[one.id].status.is_bad]
        assert all(one.tolerates(error_kind(state)) for one, state in bad)
        assert set(main) <= {StepStatus.COMPLETED, StepStatus.SKIPPED} | {state.status for _, state in bad}
        assert compensations(world.began) == []
        assert not any(one.id in world.states for one in workflow.on_failure)
        assert choices_hold(world)
    else:
        assert world.finish.status is RunStatus.FAILED
        assert {StepStatus.FAILED, StepStatus.CANCELLED} & set(main)
        to_undo = {one.id for one in workflow.steps if one.compensate}
        order = [one for one in world.ended if one in to_undo and world.states[one].status is StepStatus.COMPLETED]
        assert compensations(world.began) == order[::-1]
        assert compensations(world.ended) == order[::-1]
        late = [one.id for one in workflow.on_failure]
        assert [one for one in world.began if one in late] == late


@given(workflows(), st.data())
@settings(max_examples=100, deadline=None)
def test_any_run_that_is_cancelled_at_any_time_ends_and_starts_nothing_after(
    workflow: Workflow, data: st.DataObject
) -> None:
    world = drive(workflow, data, fails=True, cancels=True)

    assert world.finish is not None
    assert needs_hold(world)
    if world.finish.status is RunStatus.CANCELLED:
        assert world.began == world.before_cancel


@given(workflows(repeats=False, limits=False))
@settings(max_examples=100, deadline=None)
def test_what_can_run_at_the_same_time_does(workflow: Workflow) -> None:
    world = World(workflow=workflow)
    world.advance()
    rounds = 0
    while world.finish is None and not world.run.detail:
        rounds += 1
        for step_id in world.busy:
            world.end_task(step_id, StepStatus.COMPLETED)
        world.advance()

    assert rounds <= longest(workflow)


def longest(workflow: Workflow) -> int:
    depth: dict[str, int] = {}
    for one in workflow.steps:
        depth[one.id] = 1 + max((depth[need] for need in one.needs), default=0)
    return max(depth.values())
