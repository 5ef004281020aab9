"""A step of a workflow: what it asks to be done, when, and how it is tried; and how one is read from its document."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from qw.core.errors import Fault
from qw.core.expression import Condition, Template
from qw.core.expression.evaluation import kind
from qw.core.parsing import below, hint, mapping, names, refuse_unknown
from qw.core.task import Backoff, Policy, TaskSettings
from qw.core.task.ending import is_retried
from qw.core.task.error_kind import matches
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.conditions import parse_condition
from qw.core.workflow.foreach import FOREACH_KEYS, Items, parse_items
from qw.core.workflow.join import RunIf
from qw.core.workflow.repeat import Repeat, parse_repeat
from qw.core.workflow.retry_policy import POLICY_KEYS, duration, error_patterns, parse_policy
from qw.core.workflow.shell_step import RUN_KEYS
from qw.core.workflow.step_kinds import KINDS, StepKind, check_parameters
from qw.core.workflow.switch import SwitchCase, parse_switch
from qw.core.workflow.task_template import COMMAND, WORK_KEYS, TaskTemplate, parse_work

__all__ = ["COMMAND", "Compensation", "Step", "StepKind", "TaskTemplate", "parse_step"]


@dataclass(frozen=True, kw_only=True)
class Compensation(TaskTemplate):
    """The work that undoes a step, and how its task is tried."""

    max_retries: int | None = None
    timeout: timedelta | None = None
    backoff: Backoff | None = None


@dataclass(frozen=True, kw_only=True)
class Step(TaskSettings):
    """A node of a workflow. What is None is left to the policy of its type.

    ``timeout`` is that of each attempt of a task, or of each run; where the step waits, how long it waits.
    ``switches``: those of ``needs`` that decide in their cases whether the step runs. ``tolerated``: the only kinds of
    errors that ``continue_on_error`` means; empty: all.
    """

    id: str
    work: TaskTemplate
    kind: StepKind = StepKind.TASK
    needs: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()
    run_if: RunIf = RunIf.ALL_COMPLETED
    condition: Condition | None = None
    items: Items | None = None
    cases: tuple[SwitchCase, ...] = ()
    repeat: Repeat | None = None
    continue_on_error: bool = False
    tolerated: tuple[str, ...] = ()
    compensate: Compensation | None = None
    backoff: Backoff | None = None

    def tolerates(self, error_kind: str | None) -> bool:
        """Whether the run goes on after this step failed with such an error."""
        return self.continue_on_error and (not self.tolerated or matches(self.tolerated, error_kind))

    def starts_again(self, error_kind: str | None, *, tries: int) -> bool:
        """Whether the workflow that it starts is started once more, after so many of its runs failed."""
        if self.kind is not StepKind.WORKFLOW or self.repeat or tries >= (self.max_retries or 1):
            return False
        return is_retried(error_kind, (), self.backoff or Backoff())

    @property
    def works(self) -> list[TaskTemplate]:
        return [self.work] if self.compensate is None else [self.work, self.compensate]

    @property
    def tasks(self) -> list[TaskTemplate]:
        """Those of its works that become tasks."""
        return self.works if self.kind is StepKind.TASK else self.works[1:]

    @property
    def conditions(self) -> list[Condition]:
        cases = [case.condition for case in self.cases if case.condition]
        return [self.condition, *cases] if self.condition else cases

    def names(self) -> set[str]:
        """The steps that its own expressions name, those of its compensation excluded."""
        found = self.work.payload.names().union(*(one.names() for one in self.conditions))
        found |= self.repeat.condition.names() - {self.id} if self.repeat else set()
        return found | (self.items.source.names() if self.items else set())

    def inputs(self) -> set[str]:
        """The inputs that its expressions name."""
        found = {name for work in self.works for name in work.payload.inputs()}
        found = found.union(*(one.inputs() for one in self.conditions))
        found |= self.repeat.condition.inputs() if self.repeat else set()
        return found | (self.items.source.inputs() if self.items else set())


_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_ALIASES = {"needs": "depends", "if": "when"}
_ALWAYS = ("id", "type", "with", "if", "when")
_COMPENSATION_KEYS = ("retry", "timeout")
_EARLY = ("needs", "depends", "run_if", "continue_on_error", "compensate")
_OF_KIND = {
    StepKind.TASK: (*RUN_KEYS, *POLICY_KEYS, "repeat"),
    StepKind.SLEEP: (),
    StepKind.SIGNAL: ("timeout",),
    StepKind.APPROVAL: ("timeout",),
    StepKind.WORKFLOW: ("repeat", "retry", "timeout"),
    StepKind.SWITCH: ("switch",),
}
_REPEATABLE = (StepKind.TASK, StepKind.WORKFLOW)
_NO_WORK = TaskTemplate(type=StepKind.SWITCH.value, payload=Template(root={}))


def parse_step(document: Json, path: str, faults: list[Fault], *, late: str = "") -> Step | None:
    """The step in *document*, None when it has no usable id. What is wrong goes to *faults*; the rest is still read.

    *late* names a list whose steps run one after another, ``on_failure`` or ``finally``: ``needs`` means nothing there.
    """
    if not isinstance(document, dict):
        faults.append(Fault(path=path, message=f"a step must be an object, not {kind(document)}"))
        return None
    kind_ = StepKind.SWITCH if "switch" in document else KINDS.get(str(document.get("type")), StepKind.TASK)
    _check_keys(document, kind_, path, faults, late=late)
    id_ = _id(document, path, faults)
    work = _NO_WORK if kind_ is StepKind.SWITCH else parse_work(document, path, faults)
    check_parameters(kind_, mapping(document, "with", path, []), below(path, "with"), faults)
    needs = names(_either(document, "needs"), below(path, "needs"), faults)
    step: dict[str, Any] = {
        "kind": kind_,
        "needs": needs,
        "run_if": _run_if(document, needs, path, faults),
        "condition": parse_condition(_either(document, "if"), below(path, "if"), faults),
        "items": parse_items(document, path, faults) if kind_ in _REPEATABLE and not late else None,
        "repeat": parse_repeat(document, path, faults) if kind_ in _REPEATABLE else None,
        "cases": parse_switch(document["switch"], below(path, "switch"), faults) if "switch" in document else (),
        **_continue_on_error(document, path, faults),
        "compensate": _compensation(document.get("compensate"), below(path, "compensate"), faults),
        **_policy(document, kind_, work.type, path, faults),
    }
    if id_ is None:
        return None
    found = Step(id=id_, work=work, **step)
    _check_item(found, path, faults)
    _check_round(found, path, faults)
    return found


def _check_keys(document: JsonObject, kind_: StepKind, path: str, faults: list[Fault], *, late: str) -> None:
    keys = [*_ALWAYS, *_OF_KIND[kind_]]
    if not late:
        keys += [*_EARLY, *(FOREACH_KEYS if kind_ in _REPEATABLE else ())]
    what = f"a step of {late}" if late else "a step" if kind_ is StepKind.TASK else f"a step of type {kind_.value}"
    if kind_ is StepKind.SWITCH:
        _check_switch_keys(document, path, faults, late=late)
        document = {key: value for key, value in document.items() if key not in WORK_KEYS}
    refuse_unknown(document, keys, path, what, faults)
    for key, alias in _ALIASES.items():
        if key in document and alias in document:
            faults.append(Fault(path=below(path, alias), message=f"{alias!r} means {key!r}; give one of them"))


def _check_switch_keys(document: JsonObject, path: str, faults: list[Fault], *, late: str) -> None:
    if late:
        faults.append(Fault(path=below(path, "switch"), message=f"is allowed with steps: only; under {late} use if:"))
    if "switch" not in document:
        faults.append(Fault(path=below(path, "type"), message="give switch: (a list of cases) instead of type: switch"))
    elif given := [key for key in WORK_KEYS if key in document]:
        message = "a step with switch: only branches: put its work into a step of its own, which the switch needs"
        faults.append(Fault(path=below(path, given[0]), message=message))


def _either(document: JsonObject, key: str) -> Json:
    return document.get(key, document.get(_ALIASES[key]))


def _id(document: JsonObject, path: str, faults: list[Fault]) -> str | None:
    value = document.get("id")
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    if value is None:
        faults.append(Fault(path=path, message="a step needs an id"))
    else:
        message = (
            f"{str(value)[:60]!r} is not a step id: letters, digits, _ and -, at most 64, not starting with a digit"
        )
        faults.append(Fault(path=below(path, "id"), message=message))
    return None


def _run_if(document: JsonObject, needs: tuple[str, ...], path: str, faults: list[Fault]) -> RunIf:
    value = document.get("run_if")
    if value is None:
        return RunIf.ALL_COMPLETED
    known = [rule.value for rule in RunIf]
    if not isinstance(value, str) or value not in known:
        message = f"{str(value)[:60]!r} is not one of {', '.join(known)}{hint(str(value), known, faults)}"
        faults.append(Fault(path=below(path, "run_if"), message=message))
        return RunIf.ALL_COMPLETED
    if not needs:
        faults.append(Fault(path=below(path, "run_if"), message="is allowed with needs: only; this step needs none"))
    return RunIf(value)


def _continue_on_error(document: JsonObject, path: str, faults: list[Fault]) -> dict[str, Any]:
    value, place = document.get("continue_on_error", False), below(path, "continue_on_error")
    if isinstance(value, bool):
        return {"continue_on_error": value}
    if not isinstance(value, list) or not value:
        message = f"must be true or false, or a list of kinds of errors such as [exit:1, timeout], not {kind(value)}"
        faults.append(Fault(path=place, message=message))
        return {}
    return {"continue_on_error": True, "tolerated": error_patterns(value, place, faults)}


def _compensation(document: Json, path: str, faults: list[Fault]) -> Compensation | None:
    if document is None:
        return None
    if not isinstance(document, dict):
        faults.append(Fault(path=path, message=f"must be an object with type: and with:, not {kind(document)}"))
        return None
    refuse_unknown(document, (*WORK_KEYS, *_COMPENSATION_KEYS), path, "compensate", faults)
    work = parse_work(document, path, faults)
    tried = {key: value for key, value in document.items() if key in _COMPENSATION_KEYS}
    policy = parse_policy(tried, work.type, path, faults)
    if work.type in KINDS:
        faults.append(
            Fault(path=below(path, "type"), message=f"{work.type} is not a task type; only a task can undo a step")
        )
    return Compensation(
        type=work.type,
        payload=work.payload,
        is_program=work.is_program,
        secrets=work.secrets,
        max_retries=policy["max_retries"],
        timeout=policy["timeout"],
        backoff=policy["backoff"],
    )


def _policy(document: JsonObject, kind_: StepKind, type_: str, path: str, faults: list[Fault]) -> dict[str, Any]:
    if kind_ is StepKind.TASK:
        return parse_policy(document, type_, path, faults)
    if kind_ is StepKind.WORKFLOW:
        return _policy_of_runs(document, type_, path, faults)
    return {"timeout": duration(document, "timeout", path, faults)}


def _policy_of_runs(document: JsonObject, type_: str, path: str, faults: list[Fault]) -> dict[str, Any]:
    """Without ``retry:`` a workflow that failed is not started again; its steps have their own."""
    if document.get("retry") is None:
        return {"timeout": duration(document, "timeout", path, faults)}
    for key in ("repeat", "foreach", "matrix"):
        if document.get(key) is not None:
            message = f"retry: and {key}: do not go together here: put the step with retry: into a workflow of its own"
            faults.append(Fault(path=below(path, "retry"), message=message))
    policy = parse_policy(document, type_, path, faults)
    if policy["max_retries"] is None:
        policy["max_retries"] = Policy.max_retries
    return policy


def _check_item(step: Step, path: str, faults: list[Fault]) -> None:
    """``item`` and ``index`` have a value in the payload of a foreach, and nowhere else."""
    elsewhere = [one.expression.is_of_item for one in step.conditions]
    elsewhere += [step.compensate.payload.is_of_item] if step.compensate else []
    elsewhere += [step.items.source.is_of_item] if step.items else [step.work.payload.is_of_item]
    if any(elsewhere):
        message = "item and index have a value under with: and env: of a step with foreach: only"
        faults.append(Fault(path=path, message=message))


def _check_round(step: Step, path: str, faults: list[Fault]) -> None:
    """``result`` and ``round`` have a value in what repeats a step, and under ``with:`` if it starts a workflow."""
    elsewhere = [one.expression.is_of_round for one in step.conditions]
    elsewhere += [step.compensate.payload.is_of_round] if step.compensate else []
    elsewhere += [step.items.source.is_of_round] if step.items else []
    is_rendered_anew = step.repeat is not None and step.kind is StepKind.WORKFLOW
    elsewhere += [] if is_rendered_anew else [step.work.payload.is_of_round]
    if any(elsewhere):
        message = (
            "result and round have a value in until: and while: of repeat:, and under with: of a step of type workflow "
            "that is repeated; the result of another step is steps.ID.result"
        )
        faults.append(Fault(path=path, message=message))
    if step.repeat and step.items:
        message = "repeat: and foreach: do not go together: repeat a workflow (type: workflow) that has the foreach"
        faults.append(Fault(path=below(path, "repeat"), message=message))
    if step.repeat and step.repeat.condition.expression.is_of_item:
        faults.append(Fault(path=below(path, "repeat"), message="item and index have no value in repeat:"))
