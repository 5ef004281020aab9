"""A step of a workflow (its work, its conditions and its retry policy), and its parser."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from qw.core.errors import Fault
from qw.core.expression import Condition, Template
from qw.core.expression.evaluation import kind
from qw.core.fields import NAMES, TEXT, Field, Object, Type, choice, text_of
from qw.core.parsing import below
from qw.core.task import Backoff, Policy, TaskSettings
from qw.core.task.ending import is_retried
from qw.core.task.error_kind import WORKFLOW, matches
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.conditions import CONDITION
from qw.core.workflow.foreach import FOREACH_FIELDS, Items, parse_items
from qw.core.workflow.join import RunIf
from qw.core.workflow.repeat import REPEATED, Repeat
from qw.core.workflow.retry_policy import POLICY_FIELDS, error_patterns, read_policy
from qw.core.workflow.shell_step import SHELL_FIELDS
from qw.core.workflow.step_kinds import KINDS, StepKind, check_parameters
from qw.core.workflow.switch import SWITCH, SwitchCase
from qw.core.workflow.task_template import COMMAND, WORK_FIELDS, TaskTemplate, work_of

__all__ = ["COMMAND", "Compensation", "Step", "StepKind", "TaskTemplate", "parse_step"]


@dataclass(frozen=True, kw_only=True)
class Compensation(TaskTemplate):
    """The work that undoes a step, and the retry policy of its task."""

    max_retries: int | None = None
    timeout: timedelta | None = None
    backoff: Backoff | None = None


@dataclass(frozen=True, kw_only=True)
class Step(TaskSettings):
    """A node of a workflow. None: the policy of its type applies.

    ``timeout`` limits each attempt of a task, or each run; for a step that waits, the wait. ``switches``: the
    ``needs`` that are switches and decide whether the step runs. ``tolerated``: kinds of errors that
    ``continue_on_error`` covers; empty: all.
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
        """Whether the run continues after this step failed with this kind of error."""
        return self.continue_on_error and (not self.tolerated or matches(self.tolerated, error_kind, self._kind_names))

    def starts_again(self, error_kind: str | None, *, tries: int) -> bool:
        """Whether the workflow of this step is started again after *tries* failed runs."""
        if self.kind is not StepKind.WORKFLOW or self.repeat or tries >= (self.max_retries or 1):
            return False
        return is_retried(error_kind, self._kind_names, self.backoff or Backoff())

    @property
    def _kind_names(self) -> tuple[str, ...]:
        """Return the further names of each of its failures: `workflow`, beside the kind with which its run failed."""
        return (WORKFLOW,) if self.kind is StepKind.WORKFLOW else ()

    @property
    def works(self) -> list[TaskTemplate]:
        return [self.work] if self.compensate is None else [self.work, self.compensate]

    @property
    def tasks(self) -> list[TaskTemplate]:
        """The works (step and compensation) that become tasks."""
        return self.works if self.kind is StepKind.TASK else self.works[1:]

    @property
    def conditions(self) -> list[Condition]:
        cases = [case.condition for case in self.cases if case.condition]
        return [self.condition, *cases] if self.condition else cases

    def names(self) -> set[str]:
        """Return the steps that its expressions read, except those of its compensation."""
        names = self.work.payload.names().union(*(condition.names() for condition in self.conditions))
        names |= self.repeat.condition.names() - {self.id} if self.repeat else set()
        return names | (self.items.source.names() if self.items else set())

    def inputs(self) -> set[str]:
        """Return the inputs that its expressions read."""
        names = {name for work in self.works for name in work.payload.inputs()}
        names = names.union(*(condition.inputs() for condition in self.conditions))
        names |= self.repeat.condition.inputs() if self.repeat else set()
        return names | (self.items.source.inputs() if self.items else set())


_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_REPEATABLE = (StepKind.TASK, StepKind.WORKFLOW)
_NO_WORK = TaskTemplate(type=StepKind.SWITCH.value, payload=Template(root={}))


def _continue_on_error(value: Json, path: str, faults: list[Fault]) -> tuple[bool, tuple[str, ...]]:
    """Return whether the run continues after a failure, and the kinds of errors to which that is limited."""
    if isinstance(value, bool):
        return value, ()
    if isinstance(value, list) and value:
        return True, error_patterns(value, path, faults)
    message = f"must be true or false, or a list of kinds of errors such as [exit:1, timeout], not {kind(value)}"
    faults.append(Fault(path=path, message=message))
    return False, ()


COMPENSATION = Object(
    "compensate",
    {**WORK_FIELDS, **{key: POLICY_FIELDS[key] for key in ("retry", "timeout")}},
    ref="compensation",
    must="must be an object with type: and with:",
)


def _compensation(document: Json, path: str, faults: list[Fault]) -> Compensation | None:
    said = COMPENSATION.read(document, path, faults)
    if not isinstance(document, dict):
        return None
    work = work_of(document, said["with"], path, faults)
    policy = read_policy(said, work.type, path, faults)
    if work.type in KINDS:
        faults.append(
            Fault(path=below(path, "type"), message=f"{work.type} is not a task type; only a task can undo a step")
        )
    return Compensation(
        type=work.type, payload=work.payload, is_program=work.is_program, secrets=work.secrets, **policy
    )


_ANYWHERE = {
    "id": Field(
        text_of(_ID, "is not a step id: letters, digits, _ and -, at most 64, not starting with a digit"),
        "Name of the step",
        required="a step needs an id",
    ),
    **WORK_FIELDS,
    "if": Field(CONDITION, "Condition (an expression); if false, the step is skipped", alias="when"),
    **POLICY_FIELDS,
    "repeat": Field(REPEATED, "Repeat the step, round after round"),
}
_EARLY = {
    "needs": Field(NAMES, "Steps that end before this one starts", alias="depends", default=()),
    "run_if": Field(choice(RunIf), "Outcome of the needed steps for which this step starts"),
    "switch": Field(
        SWITCH,
        "Cases that name steps: the steps of the first case that holds run, those of all other cases are skipped",
        default=(),
        null=False,
    ),
    "continue_on_error": Field(
        Type(_continue_on_error, {"type": ["boolean", "array"], "items": TEXT.schema, "minItems": 1}),
        "If the step fails (with one of these kinds of errors), the run continues",
        default=(False, ()),
    ),
    "compensate": Field(Type(_compensation, COMPENSATION.schema), "Undoes the step if the run fails later"),
    **FOREACH_FIELDS,
}
LATE_STEP = Object("a step", _ANYWHERE, must="a step must be an object")
STEP = Object("a step", {**_ANYWHERE, **_EARLY}, must="a step must be an object")

_OF_KIND = {
    StepKind.TASK: (*SHELL_FIELDS, *POLICY_FIELDS, "repeat", *FOREACH_FIELDS),
    StepKind.SLEEP: (),
    StepKind.SIGNAL: ("timeout",),
    StepKind.APPROVAL: ("timeout",),
    StepKind.WORKFLOW: ("repeat", "retry", "timeout", *FOREACH_FIELDS),
    StepKind.SWITCH: ("switch",),
}
_OF_EACH_KIND = {"id", "type", "with", "if", *_EARLY} - {"switch", *FOREACH_FIELDS}


_IN_ORDER = "these steps run one after another, in this order, even if one of them fails"
_OTHER_RUN = "put it into a workflow of its own, started by a step with type: workflow"
_ELSEWHERE = dict.fromkeys(("repeat", "foreach", "matrix", "retry"), _OTHER_RUN)
_LATE_ELSEWHERE = {"needs": _IN_ORDER, "run_if": _IN_ORDER, "foreach": _OTHER_RUN, "matrix": _OTHER_RUN}


def _fields(of: StepKind, late: str) -> Object:
    """Return the fields of a step of this kind, in ``steps:`` or in the list *late*."""
    what = f"a step of {late}" if late else "a step" if of is StepKind.TASK else f"a step of type {of.value}"
    fields = (LATE_STEP if late else STEP).fields
    own = {key: field for key, field in fields.items() if key in _OF_EACH_KIND or key in _OF_KIND[of]}
    return Object(what, own, elsewhere=_LATE_ELSEWHERE if late else _ELSEWHERE)


_FIELDS = {(of, late): _fields(of, late) for of in StepKind for late in ("", "on_failure", "finally")}


def parse_step(document: Json, path: str, faults: list[Fault], *, late: str = "") -> Step | None:
    """Return the step in *document*; None if it has no valid id. Adds to *faults* and continues after each.

    *late*: ``on_failure`` or ``finally``, lists whose steps run one after another, so ``needs`` is not allowed.
    """
    if not isinstance(document, dict):
        faults.append(Fault(path=path, message=f"a step must be an object, not {kind(document)}"))
        return None
    kind_ = StepKind.SWITCH if "switch" in document else KINDS.get(str(document.get("type")), StepKind.TASK)
    if kind_ is StepKind.SWITCH:
        document = _only_switch(document, path, faults, late=late)
    said = STEP.defaults | _FIELDS[kind_, late].read(document, path, faults)
    work = _NO_WORK if kind_ is StepKind.SWITCH else work_of(document, said["with"], path, faults)
    check_parameters(kind_, said["with"], below(path, "with"), faults)
    if said["run_if"] and not said["needs"]:
        faults.append(Fault(path=below(path, "run_if"), message="is allowed only with needs:; this step needs none"))
    policy = _policy(document, said, kind_, work.type, path, faults)
    items = None
    if kind_ in _REPEATABLE and not late:
        items = parse_items(document, said["max_parallel"], said["fail_fast"], path, faults)
    if said["id"] is None:
        return None
    is_tolerant, tolerated = said["continue_on_error"]
    step = Step(
        id=said["id"],
        work=work,
        kind=kind_,
        needs=said["needs"],
        run_if=said["run_if"] or RunIf.ALL_COMPLETED,
        condition=said["if"],
        items=items,
        repeat=said["repeat"],
        cases=said["switch"],
        continue_on_error=is_tolerant,
        tolerated=tolerated,
        compensate=said["compensate"],
        **policy,
    )
    _check_item(step, path, faults)
    _check_round(step, path, faults)
    return step


def _only_switch(document: JsonObject, path: str, faults: list[Fault], *, late: str) -> JsonObject:
    """Return the document of a step with ``switch:``, without keys for work. Adds to *faults*."""
    work = [key for key in WORK_FIELDS if key in document]
    if late:
        faults.append(Fault(path=below(path, "switch"), message=f"is allowed only with steps:; under {late} use if:"))
    if "switch" not in document:
        faults.append(Fault(path=below(path, "type"), message="give switch: (a list of cases) instead of type: switch"))
    elif work:
        message = "a step with switch: only branches: put its work into a step of its own, which the switch needs"
        faults.append(Fault(path=below(path, work[0]), message=message))
    return {key: value for key, value in document.items() if key not in work and not (late and key == "switch")}


def _policy(
    document: JsonObject, said: Mapping[str, Any], kind_: StepKind, type_: str, path: str, faults: list[Fault]
) -> dict[str, Any]:
    if kind_ is StepKind.TASK:
        return read_policy(said, type_, path, faults)
    if kind_ is not StepKind.WORKFLOW or document.get("retry") is None:
        return {"timeout": said["timeout"]}
    for key in ("repeat", "foreach", "matrix"):
        if document.get(key) is not None:
            message = f"retry: and {key}: cannot be combined here: put the step with retry: into a workflow of its own"
            faults.append(Fault(path=below(path, "retry"), message=message))
    policy = read_policy(said, type_, path, faults)
    return {**policy, "max_retries": policy["max_retries"] or Policy.max_retries}


def _check_item(step: Step, path: str, faults: list[Fault]) -> None:
    """Allow ``item`` and ``index`` in the payload of a foreach only."""
    elsewhere = [condition.expression.is_of_item for condition in step.conditions]
    elsewhere += [step.compensate.payload.is_of_item] if step.compensate else []
    elsewhere += [step.items.source.is_of_item] if step.items else [step.work.payload.is_of_item]
    if any(elsewhere):
        message = "item and index can be used only under with: and env: of a step with foreach:"
        faults.append(Fault(path=path, message=message))


def _check_round(step: Step, path: str, faults: list[Fault]) -> None:
    """Allow ``result`` and ``round`` in the condition of a repeat, and under ``with:`` of a repeated workflow."""
    elsewhere = [condition.expression.is_of_round for condition in step.conditions]
    elsewhere += [step.compensate.payload.is_of_round] if step.compensate else []
    elsewhere += [step.items.source.is_of_round] if step.items else []
    is_rendered_anew = step.repeat is not None and step.kind is StepKind.WORKFLOW
    elsewhere += [] if is_rendered_anew else [step.work.payload.is_of_round]
    if any(elsewhere):
        message = (
            "result and round can be used only in until: and while: of repeat:, and under with: of a step of type "
            "workflow that is repeated; the result of another step is steps.ID.result"
        )
        faults.append(Fault(path=path, message=message))
    if step.repeat and step.items:
        message = "repeat: and foreach: cannot be combined: repeat a workflow (type: workflow) that has the foreach"
        faults.append(Fault(path=below(path, "repeat"), message=message))
    if step.repeat and step.repeat.condition.expression.is_of_item:
        faults.append(Fault(path=below(path, "repeat"), message="item and index cannot be used in repeat:"))
