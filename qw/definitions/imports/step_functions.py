"""Imports state machines of AWS Step Functions (JSON or YAML). Each state that does work becomes a step.

``$`` is tracked from state to state, as an expression over the results of steps.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from qw.core.errors import Invalid
from qw.core.task.payload import JsonObject
from qw.definitions.imports.draft import Draft, DraftWorkflow, Ids, Noted, left_out, retry_policy, workflow_name
from qw.definitions.imports.step_functions_data import (
    at_path,
    filled,
    literal,
    passed,
    put,
    rule_condition,
    selected,
    source,
    taken,
    template,
)

_STATE_KEYS = {"Type", "Comment", "Next", "End", "Resource", "Parameters", "Arguments", "ResultPath", "ResultSelector",
               "InputPath", "OutputPath", "Output", "Result", "Retry", "Catch", "TimeoutSeconds", "Choices", "Default",
               "Seconds", "SecondsPath", "Timestamp", "TimestampPath", "Error", "Cause", "Branches", "ItemProcessor",
               "Iterator", "ItemsPath", "Items", "ItemSelector", "MaxConcurrency", "ItemReader", "ResultWriter",
               "QueryLanguage"}  # fmt: skip


def convert(document: JsonObject, name: str) -> Draft:
    """Convert a state machine. Raise Invalid if it is none."""
    if not isinstance(document.get("States"), dict) or "StartAt" not in document:
        raise Invalid("not a state machine: it needs StartAt and States")
    made = Draft()
    _Machine(document, workflow_name(name), made).fill()
    return made


@dataclass(frozen=True, kw_only=True)
class _Edge:
    """A transition to a state, from a step (or the start) and under ``condition``. ``data`` is ``$`` there."""

    step: str = ""
    outcome: str = "completed"
    condition: str = ""
    data: Any = None

    @property
    def test(self) -> str:
        """The condition, including the required outcome of the step."""
        parts = [f"steps.{self.step}.status == '{self.outcome}'"] if self.step else []
        return " && ".join([*parts, *([f"({self.condition})"] if self.condition else [])])


@dataclass(frozen=True, kw_only=True)
class _Poll:
    """A task that is repeated while the choice after it goes back to it, possibly through a wait."""

    choice: str
    wait: str | None
    loop: tuple[str, ...]


class _Machine:
    def __init__(self, document: dict[str, Any], name: str, made: Draft, *, start: str = "input.input") -> None:
        self.states: dict[str, Any] = document["States"]
        self.document, self.made = document, made
        self.main = DraftWorkflow(name=name)
        self.ids = Ids()
        self.arrivals: dict[str, list[_Edge]] = {document["StartAt"]: [_Edge(data=start)]}
        self.ends: list[_Edge] = []
        self.back: set[tuple[str, str]] = set()  # transitions that close a loop
        self.polls: dict[str, _Poll] = {}  # tasks that are repeated until they are done
        self.is_jsonata = document.get("QueryLanguage") == "JSONata"

    def fill(self) -> None:
        main = self.main
        main.head = {"input": {"input": {"type": "any", "default": {}}}, "defaults": {"retry": retry_policy(1)}}
        if self.document.get("Comment"):
            main.head = {"description": str(self.document["Comment"]), **main.head}
        if self.document.get("TimeoutSeconds"):
            main.head["timeout"] = f"{self.document['TimeoutSeconds']}s"
        main.notes.append("input.input is the input of the state machine ($)")
        for name in self._order():
            self._state(name, self.states[name], self.arrivals.get(name, []))
        if not main.steps:
            main.steps.append(Noted(step={"id": "nothing", "type": "noop"}))
        data = self._joined(self.ends) if self.ends else "input.input"
        main.head["outputs"] = {"output": f"${{{{ {source(data)} }}}}"}
        self.made.workflows.insert(0, main)

    def _order(self) -> list[str]:
        """Return the states in topological order; transitions back are noted and omitted."""
        done: list[str] = []
        open_: list[str] = []

        def visit(name: str) -> None:
            if name in done or name not in self.states:
                return
            open_.append(name)
            for following in _following(self.states[name]):
                if following in open_:
                    self._loop(name, following, open_[open_.index(following) :])
                else:
                    visit(following)
            open_.remove(name)
            done.append(name)

        visit(str(self.document["StartAt"]))
        return done[::-1]

    def _loop(self, origin: str, to: str, loop: list[str]) -> None:
        """Handle a transition back. If the loop has only a task, a choice and a wait, the task is repeated."""
        self.back.add((origin, to))
        kinds = [str(self.states[name].get("Type")) for name in loop]
        if kinds.count("Task") == kinds.count("Choice") == 1 and kinds.count("Wait") == len(kinds) - 2 <= 1:
            named = dict(zip(kinds, loop, strict=True))
            self.polls[named["Task"]] = _Poll(choice=named["Choice"], wait=named.get("Wait"), loop=tuple(loop))
            return
        self.main.notes.append(
            f"{origin} goes back to {to}: a loop; put {', '.join(loop)} into a workflow of its own, and repeat: it"
        )

    def _repeat(self, step: JsonObject, poll: _Poll, data: Any, notes: list[str]) -> None:
        """*data* is ``$`` after the task."""
        choice = self.states[poll.choice]
        until = _bool(choice.get("Default") not in poll.loop)
        for rule in reversed(choice.get("Choices", [])):
            condition, leaves = rule_condition(rule, data, notes), rule.get("Next") not in poll.loop
            if until == _bool(not leaves):
                until = condition if leaves else f"!({condition})"
            elif until != _bool(leaves):
                until = f"{_bool(leaves)} if {condition} else ({until})"
        seconds = self.states[poll.wait].get("Seconds", 1) if poll.wait else 0
        if poll.wait and "Seconds" not in self.states[poll.wait]:
            notes.append(f"{poll.wait}: its time is not a number of seconds: see delay: of repeat:")
        result = re.sub(rf"steps\.{re.escape(str(step['id']))}\.result(?![\w-])", "result", until)
        step["repeat"] = {"until": result, "delay": f"{seconds}s", "max": 100_000}

    def _go(self, origin: str, to: str | None, edge: _Edge) -> None:
        if to is None:
            self.ends.append(edge)
        elif (origin, to) not in self.back:
            self.arrivals.setdefault(to, []).append(edge)

    def _joined(self, edges: list[_Edge]) -> Any:
        """Return ``$`` after several transitions, of which one was taken."""
        first = edges[0].data
        if all(edge.data == first for edge in edges):
            return first
        value = source(edges[-1].data)
        for edge in reversed(edges[:-1]):
            value = f"({source(edge.data)} if {edge.test or 'true'} else {value})"
        return value

    def _state(self, name: str, state: dict[str, Any], arrivals: list[_Edge]) -> None:
        kind, notes = str(state.get("Type")), [f"{name}: {note}" for note in left_out(state, _STATE_KEYS)]
        if not arrivals:
            return
        data = self._joined(arrivals)
        data = taken(state.get("InputPath", "$"), data, notes)
        if kind == "Choice":
            self._choice(name, state, arrivals, data, notes)
            self.main.notes += notes
            return
        if kind == "Succeed" or (kind == "Pass" and not arrivals[0].step):
            result = passed(state, data, notes)
            for edge in arrivals:
                self._go(
                    name,
                    self._next(state),
                    _Edge(step=edge.step, outcome=edge.outcome, condition=edge.condition, data=result),
                )
            self.main.notes += notes
            return
        id_ = self.ids.of(name)
        step: JsonObject = {"id": id_}
        froms = list(dict.fromkeys(edge.step for edge in arrivals if edge.step))
        if froms:
            step["needs"] = froms[0] if len(froms) == 1 else list(froms)
        tests = [edge.test for edge in arrivals]
        is_plain = len(arrivals) == 1 and not arrivals[0].condition and arrivals[0].outcome == "completed"
        tolerant = {one.step["id"] for one in self.main.steps if one.step.get("continue_on_error")}
        if is_plain and arrivals[0].step in tolerant:
            is_plain = False
        if not is_plain and all(tests):
            if froms:
                step["run_if"] = "all_done"
            step["if"] = " || ".join(f"({test})" for test in tests) if len(tests) > 1 else tests[0]
        step |= self._work(name, kind, state, data, notes)
        self._retry(step, state, notes)
        if state.get("TimeoutSeconds") and kind == "Task":
            step["timeout"] = f"{state['TimeoutSeconds']}s"
        catches = state.get("Catch") or []
        if catches:
            self._catch(name, step, catches, data, notes)
        if kind == "Pass":
            result = passed(state, data, notes)
        elif kind == "Wait":
            result = data
        else:
            result = selected(state, self._result(id_, kind, step), notes)
            result = put(state.get("ResultPath", "$"), data, result)
        result = taken(state.get("OutputPath", "$"), result, notes)
        if name in self.polls:
            self._repeat(step, self.polls[name], result, notes)
        if kind != "Fail":
            self._go(name, self._next(state), _Edge(step=id_, data=result))
        self.main.steps.append(Noted(step=step, notes=notes))

    def _catch(self, name: str, step: JsonObject, catches: list[dict[str, Any]], data: Any, notes: list[str]) -> None:
        """Add a transition for each catcher, by kind of error; an error that none catches fails the run."""
        error = f"steps.{step['id']}.error"
        seen = f"{{'Error': {error}.kind, 'Cause': {error}.message}}"
        earlier: list[str] = []
        for one in catches:
            kinds = _kinds(one.get("ErrorEquals", ["States.ALL"]))
            new = [kind for kind in kinds if kind not in earlier]
            conditions = [f"{error}.kind in {json.dumps(new)}"] if kinds else []
            conditions += [f"!({error}.kind in {json.dumps(earlier)})"] if earlier and not kinds else []
            earlier += new
            data_ = put(one.get("ResultPath", "$"), data, seen)
            edge = _Edge(step=str(step["id"]), outcome="failed", condition=" && ".join(conditions), data=data_)
            self._go(name, one["Next"], edge)
            if not kinds:
                step["continue_on_error"] = True
                return
        step["continue_on_error"] = [*earlier]

    def _next(self, state: dict[str, Any]) -> str | None:
        return state.get("Next")

    def _result(self, id_: str, kind: str, step: JsonObject) -> Any:
        if kind == "Parallel":
            return f"steps.{id_}.result.output"
        if step.get("type") == "http_request":
            return {"ResponseBody": f"steps.{id_}.result.response", "StatusCode": f"steps.{id_}.result.status"}
        return f"steps.{id_}.result"

    def _work(self, name: str, kind: str, state: dict[str, Any], data: Any, notes: list[str]) -> JsonObject:
        match kind:
            case "Task":
                return self._task(state, data, notes)
            case "Pass":
                return {"type": "noop"}
            case "Wait":
                if "Seconds" in state:
                    return {"type": "sleep", "with": {"for": f"{state['Seconds']}s"}}
                if "SecondsPath" in state:
                    return {"type": "sleep", "with": {"for": template(at_path(state["SecondsPath"], data, notes))}}
                until = state.get("Timestamp") or template(at_path(state.get("TimestampPath", "$"), data, notes))
                return {"type": "sleep", "with": {"until": until}}
            case "Fail":
                cause = f"{state.get('Error', 'Error')}: {state.get('Cause', 'failed')}"
                return {"run": 'echo "$CAUSE" >&2; exit 1', "env": {"CAUSE": cause}}
            case "Parallel":
                return self._parallel(name, state, data, notes)
            case "Map":
                return self._map(name, state, data, notes)
        notes.append(f"a state of type {kind} has no equivalent")
        return {"type": "noop"}

    def _task(self, state: dict[str, Any], data: Any, notes: list[str]) -> JsonObject:
        resource = str(state.get("Resource", ""))
        asked = state.get("Parameters", state.get("Arguments"))
        given = filled(asked, data, notes) if asked is not None else data
        if ":http:invoke" in resource and isinstance(given, dict):
            given.setdefault("Method", literal("GET"))
            body: JsonObject = {
                "url": template(given.get("ApiEndpoint")),
                "method": template(given["Method"]),
            }
            for key, ours in (("Headers", "headers"), ("RequestBody", "body")):
                if key in given:
                    body[ours] = template(given[key])
            return {"type": "http_request", "with": body}
        if "waitForTaskToken" in resource:
            notes.append(
                f"{resource}: continue it with qw workflow signal RUN NAME; notify whoever decides in an earlier step"
            )
            return {"type": "wait_signal"}
        if ":states:startExecution" in resource:
            child = str((asked or {}).get("StateMachineArn", "child")).rpartition(":")[2]
            notes.append(f"{child} is another state machine: import it too")
            return {
                "type": "workflow",
                "with": {"workflow": workflow_name(child), "input": {"input": template(given)}},
            }
        function = resource
        if ":lambda:invoke" in resource and isinstance(given, dict):
            function = str(given.get("FunctionName", "function"))
            given = given.get("Payload", data)
        function = function.removesuffix(":$LATEST").rpartition(":")[2] or "task"
        notes.append(f"{resource}: register a handler for the type {workflow_name(function)}, or write run:")
        shown = template(given)
        return {"type": workflow_name(function), "with": shown if isinstance(shown, dict) else {"input": shown}}

    def _parallel(self, name: str, state: dict[str, Any], data: Any, notes: list[str]) -> JsonObject:
        names = [self._child(f"{name}-{number}", branch) for number, branch in enumerate(state["Branches"], start=1)]
        asked = state.get("Parameters", state.get("Arguments"))
        given = template(filled(asked, data, notes) if asked is not None else data)
        runner = DraftWorkflow(name=workflow_name(f"{self.main.name}-{self.ids.of(name)}"))
        runner.head = {"input": {"input": "any"}, "outputs": {}}
        for number, child in enumerate(names, start=1):
            step: JsonObject = {
                "id": f"branch-{number}",
                "type": "workflow",
                "with": {"workflow": child, "input": {"input": "${{ input.input }}"}},
            }
            runner.steps.append(Noted(step=step))
        runner.head["outputs"] = {
            "output": [f"${{{{ steps.branch-{n}.result.output }}}}" for n in range(1, len(names) + 1)]
        }
        self.made.workflows.append(runner)
        return {"type": "workflow", "with": {"workflow": runner.name, "input": {"input": given}}}

    def _map(self, name: str, state: dict[str, Any], data: Any, notes: list[str]) -> JsonObject:
        inner = state.get("ItemProcessor") or state.get("Iterator")
        if state.get("ItemReader") or state.get("ResultWriter"):
            notes.append("ItemReader and ResultWriter have no equivalent: read the items in a step before")
        over = (
            at_path(state.get("ItemsPath", "$"), data, notes)
            if "Items" not in state
            else filled(state["Items"], data, notes)
        )
        made: JsonObject = {"type": "workflow", "foreach": template(over)}
        if (most := state.get("MaxConcurrency")) and isinstance(most, int):
            made["max_parallel"] = most
        asked = state.get("ItemSelector", state.get("Parameters"))
        notes.append("each result is {output: …}, what the workflow of an item returns")
        item = filled(asked, data, notes) if asked is not None else "item"
        made["with"] = {"workflow": self._child(name, inner or {}), "input": {"input": template(item)}}
        return made

    def _child(self, name: str, document: dict[str, Any]) -> str:
        child = workflow_name(f"{self.main.name}-{name}")
        _Machine({"QueryLanguage": self.document.get("QueryLanguage"), **document}, child, self.made).fill()
        return child

    def _retry(self, step: JsonObject, state: dict[str, Any], notes: list[str]) -> None:
        rules = state.get("Retry") or []
        if not rules:
            return
        if step.get("type") in ("sleep", "wait_signal") or "foreach" in step:
            notes.append("Retry: a step that waits, or goes over items, is not tried again: give its steps retry:")
            return
        gives_up = [kind for one in rules if not one.get("MaxAttempts", 3) for kind in _kinds(one["ErrorEquals"])]
        rules = [one for one in rules if one.get("MaxAttempts", 3)] or rules[:1]
        one = max(rules, key=lambda rule: int(rule.get("MaxAttempts", 3)))
        policy = retry_policy(
            int(one.get("MaxAttempts", 3)) + 1,
            delay=f"{one.get('IntervalSeconds', 1)}s",
            backoff=one.get("BackoffRate", 2),
        )
        if one.get("MaxDelaySeconds"):
            policy["max_delay"] = f"{one['MaxDelaySeconds']}s"
        kinds = [_kinds(rule.get("ErrorEquals", ["States.ALL"])) for rule in rules]
        if all(kinds):
            policy["on"] = list(dict.fromkeys(kind for some in kinds for kind in some))
        if gives_up:
            policy["give_up_on"] = [*gives_up]
        if len(rules) > 1:
            notes.append("Retry: several rules became one, with the delays of the one that tries most often")
        step["retry"] = policy

    def _choice(self, name: str, state: dict[str, Any], arrivals: list[_Edge], data: Any, notes: list[str]) -> None:
        earlier: list[str] = []
        cases = [(rule_condition(one, data, notes), one["Next"]) for one in state.get("Choices", [])]
        if default := state.get("Default"):
            cases.append(("", default))
        for condition, following in cases:
            parts = [f"!({one})" for one in earlier] + ([condition] if condition else [])
            earlier.append(condition)
            for edge in arrivals:
                whole = " && ".join(
                    [*([f"({edge.condition})"] if edge.condition else []), *(f"({one})" for one in parts)]
                )
                self._go(name, following, _Edge(step=edge.step, outcome=edge.outcome, condition=whole, data=data))


_KINDS = {"States.Timeout": "timeout", "States.HeartbeatTimeout": "timeout", "States.Runtime": "expression"}
_ALL = {"States.ALL", "States.TaskFailed"}


def _kinds(errors: list[str]) -> list[str]:
    """Return the kinds of errors for these names; empty: all. Unknown names are exception classes of handlers."""
    if _ALL & set(errors):
        return []
    return list(dict.fromkeys(_KINDS.get(error, error.rpartition(".")[2]) for error in errors))


def _bool(value: bool) -> str:
    return str(value).lower()


def _following(state: dict[str, Any]) -> list[str]:
    found = [state.get("Next"), state.get("Default")]
    found += [one.get("Next") for one in [*(state.get("Choices") or []), *(state.get("Catch") or [])]]
    return [one for one in found if one]


__all__ = ["convert"]
