"""``switch:`` of a step: cases that name the steps to run; the first case whose condition holds is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qw.core.errors import Fault
from qw.core.expression import Condition, Scope
from qw.core.expression.evaluation import kind
from qw.core.fields import NAMES, Field, Object, Type
from qw.core.parsing import below
from qw.core.task.payload import Json
from qw.core.workflow.conditions import CONDITION

MAX_CASES = 200


@dataclass(frozen=True, kw_only=True)
class SwitchCase:
    """Steps to run if ``condition`` holds; None: in all other cases (``else``)."""

    condition: Condition | None
    then: tuple[str, ...]

    @property
    def title(self) -> str:
        return self.condition.expression.source if self.condition else "else"


def choose(cases: Sequence[SwitchCase], scope: Scope) -> tuple[str, ...]:
    """Return the steps of the first case that holds; empty if none does. Raise ExpressionError."""
    return next((case.then for case in cases if case.condition is None or case.condition.holds(scope)), ())


def _switch(document: Json, path: str, faults: list[Fault]) -> tuple[SwitchCase, ...]:
    if not isinstance(document, list):
        message = f"must be a list of cases, such as {{ if: …, then: STEP }} and {{ else: STEP }}, not {kind(document)}"
        faults.append(Fault(path=path, message=message))
        return ()
    if not 1 <= len(document) <= MAX_CASES:
        faults.append(Fault(path=path, message=f"must have 1 to {MAX_CASES} cases, not {len(document):,}"))
        return ()
    cases = [_case(case, f"{path}[{n}]", faults) for n, case in enumerate(document)]
    for n, case in enumerate(cases[:-1]):
        if case.condition is None and not faults:
            message = "else: is the last case; those after it are never reached"
            faults.append(Fault(path=f"{path}[{n}]", message=message))
    return tuple(cases)


CASE = Object(
    "a case",
    {
        "if": Field(CONDITION, "Condition", alias="when", null=False),
        "then": Field(NAMES, "The steps that run if it holds; [] for none", default=()),
        "else": Field(NAMES, "The steps that run if no other case holds", default=()),
    },
    must="a case must be an object with if: and then:",
    one_of=(("then", "else"), "a case needs then: (the steps that run; [] for none), or is else: alone"),
)


def _case(document: Json, path: str, faults: list[Fault]) -> SwitchCase:
    said = CASE.read(document, path, faults)
    keys = document.keys() if isinstance(document, dict) else {"then", "if"}
    is_else, conditions = "else" in keys, [key for key in ("if", "when") if key in keys]
    if is_else and conditions:
        message = f"{conditions[0]}: and else: are two cases; else: alone is taken if no other case holds"
        faults.append(Fault(path=below(path, conditions[0]), message=message))
    elif not is_else and not conditions:
        faults.append(Fault(path=path, message="a case needs if: (a condition); the last one may be else: instead"))
    return SwitchCase(condition=said["if"], then=said["else" if is_else else "then"])


SWITCH = Type(_switch, {"type": "array", "minItems": 1, "maxItems": MAX_CASES, "items": CASE.definition})

__all__ = ["SWITCH", "SwitchCase", "choose"]
