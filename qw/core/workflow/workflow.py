"""A workflow as a value, and its parser, which reports all faults, each with its place.

The same parser reads definition files and the definitions stored with runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property

from qw.core.errors import Fault, Invalid
from qw.core.expression import Template
from qw.core.expression.evaluation import kind
from qw.core.fields import OBJECT, POSITIVE_DURATION, TEXT, Field, Object, Type, integer
from qw.core.parsing import check_name, hint
from qw.core.task.payload import Json, JsonObject, storable_faults
from qw.core.workflow.branches import Branches
from qw.core.workflow.concurrency import CONCURRENCY, Concurrency
from qw.core.workflow.defaults import DEFAULTS_FIELD, with_defaults
from qw.core.workflow.graph import cycle, order, uncovered
from qw.core.workflow.inputs import INPUTS, Input, check_given
from qw.core.workflow.join import RunIf
from qw.core.workflow.run import COMPENSATION_PREFIX
from qw.core.workflow.secrets import SECRETS_FIELD, Secret, undeclared
from qw.core.workflow.step import Step, StepKind, parse_step
from qw.core.workflow.task_template import TaskTemplate, template
from qw.core.workflow.transitions import CHAIN, chain

MAX_STEPS = 1000
_MAX_FAULTS = 100


def _steps(key: str) -> Type[list[Json]]:
    def read(value: Json, path: str, faults: list[Fault]) -> list[Json] | None:
        if not isinstance(value, list):
            faults.append(Fault(path=path, message=f"must be a list of steps, each with an id, not {kind(value)}"))
            return None
        if len(value) > MAX_STEPS:
            faults.append(Fault(path=path, message=f"{len(value):,} steps; a workflow has at most {MAX_STEPS:,}"))
            return None
        return value

    return Type(read, {"type": "array", "items": {"$ref": f"#/$defs/{key}"}, "maxItems": MAX_STEPS})


def _outputs(value: Json, path: str, faults: list[Fault]) -> Template | None:
    return template(value, path, faults) if OBJECT.read(value, path, faults) else None


WORKFLOW = Object(
    "a workflow",
    {
        "description": Field(TEXT, default=""),
        "input": Field(INPUTS, "Inputs of a run, by name", default={}),
        "secrets": SECRETS_FIELD,
        "defaults": DEFAULTS_FIELD,
        "outputs": Field(Type(_outputs, OBJECT.schema), "Outputs of a run, by name: expressions over its steps"),
        "timeout": Field(POSITIVE_DURATION, "Maximum duration of a run"),
        "max_parallel": Field(integer(1, MAX_STEPS), "Maximum number of steps of a run that are active at a time"),
        "concurrency": Field(
            CONCURRENCY.to(lambda said: Concurrency(**said)), "Limit of active runs with the same key"
        ),
        "steps": Field(_steps("step"), "The steps", required="a workflow requires at least one step under steps:"),
        "on_failure": Field(_steps("late"), "Steps run one after another if the run fails", default=[]),
        "finally": Field(
            _steps("late"),
            "Steps run one after another at the end of every run, whatever its outcome",
            default=[],
        ),
    },
    elsewhere={
        "templates": "templates are given at the top of the file",
        "schedule": "give schedules: at the top of the file",
        "env": "give defaults: { env: … }",
        "retry": "give defaults: { retry: … }",
    },
)


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """A checked definition. In ``steps``, every need comes before its dependants. ``document``: its source.

    ``max_parallel``: the most steps of a run that are active at a time.
    """

    name: str
    description: str
    inputs: Mapping[str, Input]
    steps: tuple[Step, ...]
    on_failure: tuple[Step, ...]
    finally_steps: tuple[Step, ...] = ()  # ``finally:``
    outputs: Template | None = None
    timeout: timedelta | None = None
    max_parallel: int | None = None
    concurrency: Concurrency | None = None
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    document: JsonObject = field(repr=False)

    @cached_property
    def last(self) -> tuple[str, ...]:
        """The steps that no other step needs."""
        needed = {need for step in self.steps for need in step.needs}
        return tuple(step.id for step in self.steps if step.id not in needed)

    @cached_property
    def by_id(self) -> Mapping[str, Step]:
        """All steps, including those of ``on_failure`` and ``finally``."""
        return {step.id: step for step in (*self.steps, *self.on_failure, *self.finally_steps)}

    @cached_property
    def waits(self) -> bool:
        """Whether any step waits for a signal or an approval."""
        return any(step.kind in (StepKind.SIGNAL, StepKind.APPROVAL) for step in self.by_id.values())

    def work(self, step_id: str) -> TaskTemplate | None:
        """Return the work of a step, of an item (``each[3]``) or of a compensation (``compensate:pay``)."""
        name = step_id.removeprefix(COMPENSATION_PREFIX).partition("[")[0]
        if (step := self.by_id.get(name)) is None:
            return None
        return step.compensate if step_id.startswith(COMPENSATION_PREFIX) else step.work

    def type_of(self, step_id: str) -> str:
        """Return the type of a step or of a compensation; one that is not declared undoes runs."""
        work = self.work(step_id)
        return work.type if work else StepKind.WORKFLOW.value

    @property
    def types(self) -> set[str]:
        """All task types that a run may start."""
        return {work.type for step in self.by_id.values() for work in step.tasks}

    @property
    def programs(self) -> list[str]:
        """The steps that define which program to run (``run:``, ``argv``), which only an operator may store."""
        return [step.id for step in self.by_id.values() if any(work.is_program for work in step.works)]

    @property
    def children(self) -> dict[str, str]:
        """The workflows that it starts, by step id."""
        payloads = {id_: step.work.payload.root for id_, step in self.by_id.items() if step.kind is StepKind.WORKFLOW}
        return {id_: str(root["workflow"]) for id_, root in payloads.items() if isinstance(root, dict)}


def _joined(steps: dict[str, Step], document: JsonObject) -> dict[str, Step]:
    """Return the steps. One without ``run_if`` that needs two exclusive branches is changed to run after either.

    With the default, all_completed, it could never run, because one of the branches is always skipped.
    """
    listed = document.get("steps")
    silent = {one.get("id") for one in listed if isinstance(one, dict) and one.get("run_if") is None} if isinstance(
        listed, list
    ) else set()  # fmt: skip
    branches = Branches(steps)
    return {
        id_: replace(step, run_if=RunIf.NONE_FAILED) if id_ in silent and branches.exclusive_needs(step) else step
        for id_, step in steps.items()
    }


def check_input(workflow: Workflow, given: JsonObject) -> JsonObject:
    """Return the input of a run: *given* with defaults added. Raise Invalid with all faults."""
    return check_given(workflow.inputs, given)


def parse_workflow(name: str, document: Json, where: Callable[[str], str] = lambda path: path) -> Workflow:
    """Return the workflow in *document*. Raise Invalid with all faults; *where* converts a path to a place."""
    faults: list[Fault] = []
    workflow = _workflow(name, document, faults)
    if workflow is not None and not faults:
        return workflow
    placed = [Fault(path=where(fault.path), message=fault.message) for fault in faults[:_MAX_FAULTS]]
    if len(faults) > _MAX_FAULTS:
        placed.append(Fault(path=where(""), message=f"and {len(faults) - _MAX_FAULTS:,} more faults"))
    raise Invalid(*placed)


def _workflow(name: str, document: Json, faults: list[Fault]) -> Workflow | None:
    check_name(name, "workflow", faults)
    if not isinstance(document, dict):
        faults.append(Fault(path="", message=f"a workflow must be an object with steps, not {kind(document)}"))
        return None
    faults += _unstorable(document)
    if faults:
        return None
    if "initialTask" in document:
        said = {**WORKFLOW.defaults, **CHAIN.read(document, "", faults)}
        listed = chain(document["initialTask"], said["transitions"], faults)
    else:
        said = WORKFLOW.read(document, "", faults)
        listed = _placed("steps", said["steps"] or ())
        if said["steps"] == []:
            faults.append(Fault(path="", message=WORKFLOW.fields["steps"].required))
    placed = _parsed(listed, said["defaults"], faults)
    late, finally_steps = (
        _parsed(_placed(key, said[key]), said["defaults"], faults, late=key) for key in ("on_failure", "finally")
    )
    for _, step in [*placed, *late, *finally_steps]:
        for work in step.works:
            faults += undeclared(work.secrets, said["secrets"], faults)
    _check_ids([*placed, *late, *finally_steps], faults)
    placed = _wired(placed, faults)
    _check_graph(placed, faults)
    _check_names(placed, [*late, *finally_steps], said["input"], faults)
    _check_whole("outputs", said["outputs"], {step.id for _, step in placed}, said["input"], faults)
    _check_whole("concurrency.key", said["concurrency"] and said["concurrency"].key, (), said["input"], faults)
    if faults:
        return None
    steps = _joined({step.id: step for _, step in placed}, document)
    return Workflow(
        name=name,
        description=said["description"],
        inputs=said["input"],
        steps=tuple(steps[id_] for id_ in order({step.id: step.needs for step in steps.values()})),
        on_failure=tuple(step for _, step in late),
        finally_steps=tuple(step for _, step in finally_steps),
        outputs=said["outputs"],
        timeout=said["timeout"],
        max_parallel=said["max_parallel"],
        concurrency=said["concurrency"],
        secrets=said["secrets"],
        document=document,
    )


def _unstorable(document: JsonObject) -> Iterator[Fault]:
    for fault, _ in zip(storable_faults(document, ""), range(10), strict=False):
        yield Fault(path=fault.path.removeprefix("."), message=fault.message)


def _placed(key: str, steps: Sequence[Json]) -> list[tuple[str, Json]]:
    return [(f"{key}[{n}]", step) for n, step in enumerate(steps)]


def _parsed(
    listed: Iterable[tuple[str, Json]], defaults: JsonObject, faults: list[Fault], late: str = ""
) -> list[tuple[str, Step]]:
    parsed = [(path, parse_step(with_defaults(step, defaults), path, faults, late=late)) for path, step in listed]
    return [(path, step) for path, step in parsed if step is not None]


def _wired(placed: list[tuple[str, Step]], faults: list[Fault]) -> list[tuple[str, Step]]:
    """Return the steps; each step that a case of a switch names also needs that switch. Adds to *faults*."""
    ids = {step.id for _, step in placed}
    switches: dict[str, list[str]] = {}
    for path, step in placed:
        for n, case in enumerate(step.cases):
            place = f"{path}.switch[{n}].{'then' if case.condition else 'else'}"
            for name in case.then:
                if name not in ids or name == step.id:
                    message = f"{name[:60]!r} is not another step{hint(name, ids, faults)}"
                    faults.append(Fault(path=place, message=message))
                elif step.id not in (known := switches.setdefault(name, [])):
                    known.append(step.id)
    return [(path, _behind(step, switches[step.id]) if step.id in switches else step) for path, step in placed]


def _behind(step: Step, switches: list[str]) -> Step:
    return replace(step, needs=tuple(dict.fromkeys([*step.needs, *switches])), switches=tuple(switches))


def _check_ids(placed: list[tuple[str, Step]], faults: list[Fault]) -> None:
    count = Counter(step.id for _, step in placed)
    for path, step in placed:
        if count[step.id] > 1:
            faults.append(Fault(path=path, message=f"{count[step.id]} steps have the id {step.id!r}"))


def _check_graph(placed: list[tuple[str, Step]], faults: list[Fault]) -> None:
    """Check that each need exists, that no step needs itself, and that the needs form no cycle."""
    ids = {step.id for _, step in placed}
    needs = {}
    for path, step in placed:
        needs[step.id] = [need for need in step.needs if need in ids and need != step.id]
        for need in step.needs:
            if need == step.id:
                faults.append(Fault(path=f"{path}.needs", message=f"step {step.id} needs itself"))
            elif need not in ids:
                message = f"step {step.id} needs {need[:60]!r}, which is not a step{hint(need, ids, faults)}"
                faults.append(Fault(path=f"{path}.needs", message=message))
    if found := cycle(needs):
        path = next(path for path, step in placed if step.id == found[0])
        faults.append(
            Fault(path=f"{path}.needs", message=f"the steps depend on each other in a cycle: {' → '.join(found)}")
        )


def _check_names(
    placed: list[tuple[str, Step]], late: list[tuple[str, Step]], inputs: Collection[str], faults: list[Fault]
) -> None:
    """Check that the names in expressions exist, and that named steps have ended when they are evaluated."""
    ids = {step.id for _, step in placed}
    for path, step in [*placed, *late]:
        _check_known(path, step.inputs(), inputs, "an input", faults)
    for path, step in placed:
        _check_known(path, step.names() | _compensation_names(step), ids, "a step", faults)
    known = set(ids)
    for path, step in late:
        _check_known(path, step.names(), known, "a step before it", faults)
        known.add(step.id)
    if not faults:
        _check_covered(placed, faults)


def _check_whole(
    path: str, template: Template | None, steps: Collection[str], inputs: Collection[str], faults: list[Fault]
) -> None:
    """Check the names in an expression that belongs to no step."""
    if template is not None:
        _check_known(path, template.names(), steps, "a step", faults)
        _check_known(path, template.inputs(), inputs, "an input", faults)
        if template.is_of_item:
            faults.append(Fault(path=path, message="item and index can be used only in a step with foreach:"))


def _check_known(path: str, names: set[str], known: Collection[str], what: str, faults: list[Fault]) -> None:
    for name in sorted(names.difference(known)):
        message = f"an expression takes {name[:60]!r}, which is not {what}{hint(name, known, faults)}"
        faults.append(Fault(path=path, message=message))


def _check_covered(placed: list[tuple[str, Step]], faults: list[Fault]) -> None:
    needs = {step.id: step.needs for _, step in placed}
    wanted = {step.id: sorted(step.names() | (_compensation_names(step) - {step.id})) for _, step in placed}
    paths = {step.id: path for path, step in placed}
    for id_, name in uncovered(needs, wanted):
        if name == id_:
            message = f"step {id_} uses steps.{name}, its own result, before it has one"
        else:
            message = f"step {id_} uses steps.{name} but does not need it: add {name} to its needs"
        faults.append(Fault(path=paths[id_], message=message))


def _compensation_names(step: Step) -> set[str]:
    return step.compensate.payload.names() if step.compensate else set()
