"""``switch:`` of a step: cases that name the steps which run; the first whose condition holds is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qw.core.errors import Fault
from qw.core.expression import Condition, Scope
from qw.core.expression.evaluation import kind
from qw.core.parsing import below, names, refuse_unknown
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.conditions import parse_condition

MAX_CASES = 200

_KEYS = ("if", "when", "then", "else")


@dataclass(frozen=True, kw_only=True)
class SwitchCase:
    """Steps to run if ``condition`` holds; None: in any other case (``else``)."""

    condition: Condition | None
    then: tuple[str, ...]

    @property
    def title(self) -> str:
        return self.condition.expression.source if self.condition else "else"


def choose(cases: Sequence[SwitchCase], scope: Scope) -> tuple[str, ...]:
    """The steps of the first case that holds; empty where none does. Raise ExpressionError."""
    return next((case.then for case in cases if case.condition is None or case.condition.holds(scope)), ())


def parse_switch(document: Json, path: str, faults: list[Fault]) -> tuple[SwitchCase, ...]:
    """The cases in *document*; adds to *faults*."""
    if not isinstance(document, list):
        message = f"must be a list of cases, such as {{ if: …, then: STEP }} and {{ else: STEP }}, not {kind(document)}"
        faults.append(Fault(path=path, message=message))
        return ()
    if not 1 <= len(document) <= MAX_CASES:
        faults.append(Fault(path=path, message=f"must have 1 to {MAX_CASES} cases, not {len(document):,}"))
        return ()
    cases = [_case(case, f"{path}[{n}]", faults) for n, case in enumerate(document)]
    for n, case in enumerate(cases[:-1]):
        if case and case.condition is None and not faults:
            message = "else: is the last case; those after it are never reached"
            faults.append(Fault(path=f"{path}[{n}]", message=message))
    return tuple(case for case in cases if case)


def _case(document: Json, path: str, faults: list[Fault]) -> SwitchCase | None:
    if not isinstance(document, dict):
        faults.append(Fault(path=path, message=f"a case must be an object with if: and then:, not {kind(document)}"))
        return None
    refuse_unknown(document, _KEYS, path, "a case", faults)
    if "else" in document:
        if extra := [key for key in ("if", "when", "then") if key in document]:
            message = f"{extra[0]}: and else: are two cases; else: alone is taken if no other case holds"
            faults.append(Fault(path=below(path, extra[0]), message=message))
        return SwitchCase(condition=None, then=names(document["else"], below(path, "else"), faults))
    return SwitchCase(condition=_condition(document, path, faults), then=_then(document, path, faults))


def _condition(document: JsonObject, path: str, faults: list[Fault]) -> Condition | None:
    key = "when" if "when" in document else "if"
    if document.get(key) is None:
        faults.append(Fault(path=path, message="a case needs if: (a condition); the last one may be else: instead"))
    return parse_condition(document.get(key), below(path, key), faults)


def _then(document: JsonObject, path: str, faults: list[Fault]) -> tuple[str, ...]:
    if "then" not in document:
        faults.append(Fault(path=path, message="a case needs then: (the steps that run; [] for none)"))
    return names(document.get("then"), below(path, "then"), faults)


__all__ = ["SwitchCase", "choose", "parse_switch"]
