"""``tests:`` of a file: the expected outcome of a run, given the assumed outcomes of its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from qw.core.errors import Fault, Invalid, guess
from qw.core.expression.evaluation import kind
from qw.core.fields import OBJECT, TEXT, Field, Object, Type, by_name, checked
from qw.core.parsing import raise_at
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow import Workflow
from qw.core.workflow.rehearsal import Assumption, parse_assumption, rehearse
from qw.core.workflow.run import StepStatus

_STATUSES = ("completed", "failed", "cancelled", "running")


def _not_a_status(value: Json) -> str:
    return f"{str(value)[:60]!r} is not one of {', '.join(_STATUSES)}{guess(str(value)[:60], _STATUSES)}"


@dataclass(frozen=True, kw_only=True)
class WorkflowTest:
    """``expected``: the status of the run, a part of its error, and the statuses of some of its steps."""

    workflow: str
    input: JsonObject
    assumed: Mapping[str, Assumption]
    expected: JsonObject

    def faults(self, workflows: Mapping[str, Workflow]) -> Iterator[str]:
        """Yield the differences from the expected outcome. Raise Invalid if the test does not fit its workflow."""
        if self.workflow not in workflows:
            raise Invalid(f"there is no workflow {self.workflow!r}{guess(self.workflow, workflows)}")
        workflow = workflows[self.workflow]
        rehearsal = rehearse(workflow, self.input, self.assumed)
        status = rehearsal.ended.status.value if rehearsal.ended else "running"
        error = (rehearsal.ended.error if rehearsal.ended else None) or ""
        if (wanted := self.expected.get("status")) and wanted != status:
            yield f"the run is {status}, not {wanted}{f': {error}' if error else ''}"
        if (part := self.expected.get("error")) and str(part) not in error:
            yield f"the error is {error or 'none'!r}, without {str(part)!r}"
        steps = self.expected.get("steps")
        for step, wanted in steps.items() if isinstance(steps, dict) else ():
            if step not in workflow.by_id and not step.startswith("compensate:"):
                raise Invalid(f"{step[:60]!r} is not a step of {self.workflow}{guess(step[:60], workflow.by_id)}")
            entry = next((entry_ for entry_ in rehearsal.entries if entry_.step == step), None)
            became = entry.status.value if entry else StepStatus.PENDING.value
            if became != wanted:
                why = f" ({entry.why})" if entry and entry.why else ""
                yield f"step {step} is {became}{why}, not {wanted}"


EXPECTED = Object(
    "expect",
    {
        "status": Field(checked({"enum": [*_STATUSES]}, _STATUSES.__contains__, _not_a_status), "Status of the run"),
        "error": Field(TEXT, "A part of the error of the run"),
        "steps": Field(by_name(TEXT), "Statuses of steps, by their ids"),
    },
)
_RESULT: JsonObject = {"type": "object", "properties": {"result": {}}, "required": ["result"]}
TEST = Object(
    "a test",
    {
        "workflow": Field(TEXT, "Name of the workflow", required="a test needs workflow: (the name of a workflow)"),
        "input": Field(OBJECT, "Input of the run", default={}),
        "assume": Field(
            Type(OBJECT.read, {"type": "object", "additionalProperties": {"anyOf": [TEXT.schema, _RESULT]}}),
            "Outcomes of steps, by their ids: failed, failed:KIND, completed, cancelled or {result: …}",
            default={},
        ),
        "expect": Field(EXPECTED, "Outcome of the run", required="a test needs expect: (status, error or steps)"),
    },
    must="a test must be an object with workflow:",
)


def parse_test(name: str, document: Json, where: Callable[[str], str]) -> WorkflowTest:
    """Return the test in *document*. Raise Invalid with all faults."""
    faults: list[Fault] = []
    said = TEST.read(document, "", faults)
    expected = {key: value for key, value in (said["expect"] or {}).items() if value is not None}
    if said["expect"] is not None and not expected:
        faults.append(Fault(path="", message=TEST.fields["expect"].required))
    assumed: Mapping[str, Assumption] = {}
    try:
        assumed = parse_assumptions(said["assume"], "assume")
    except Invalid as error:
        faults += error.faults
    raise_at(where, faults)
    return WorkflowTest(workflow=said["workflow"], input=said["input"], assumed=assumed, expected=expected)


def parse_assumptions(document: JsonObject, path: str) -> Mapping[str, Assumption]:
    """Return the assumed outcomes by step id. Raise Invalid with all faults."""
    assumed, faults = dict[str, Assumption](), list[Fault]()
    for step, said in document.items():
        try:
            assumed[step] = _assumption(step, said)
        except Invalid as error:
            faults.append(Fault(path=f"{path}.{step}", message=str(error).removeprefix("--assume: ")))
    if faults:
        raise Invalid(*faults)
    return assumed


def _assumption(step: str, said: Json) -> Assumption:
    """Parse a status (``failed:exit:3``) or ``{result: …}``."""
    if isinstance(said, dict) and said.keys() == {"result"}:
        return Assumption(result=said["result"])
    if not isinstance(said, str):
        raise Invalid(f"must be failed, failed:KIND, completed, cancelled or {{result: …}}, not {kind(said)}")
    return parse_assumption(f"{step}={said}")[1]
