"""Finds exclusive branches: steps whose conditions are never both true, or that no case of a switch names together."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

from qw.core.expression.evaluation import is_coalesce
from qw.core.workflow.graph import order
from qw.core.workflow.join import RunIf
from qw.core.workflow.step import Step

MAX_NEEDS = 50  # steps with more needs are not checked


class Exclusive(NamedTuple):
    """Two needs of a step, one of which is always skipped. ``why``: their conditions, or the switch."""

    one: str
    other: str
    why: str


class Branches:
    """The conditions under which steps run, computed once for all *steps*. Their needs must not form a cycle."""

    def __init__(self, steps: Mapping[str, Step]) -> None:
        self._steps = steps
        self._conditional: dict[
            str, dict[str, Step]
        ] = {}  # by step: itself and the required steps, if they may be skipped
        for id_ in order({step.id: step.needs for step in steps.values()}):
            step = steps[id_]
            found = {id_: step} if step.condition or step.switches else {}
            for required in _required(step):
                found |= self._conditional[required]
            self._conditional[id_] = found

    def exclusive_needs(self, step: Step) -> Exclusive | None:
        """Return two needs of *step* of which one is always skipped, if the conditions show it."""
        if not 2 <= len(step.needs) <= MAX_NEEDS:
            return None
        conditional = [need for need in step.needs if self._conditional[need]]
        for one, other in combinations(conditional, 2):
            if why := _exclusive(self._conditional[one], self._conditional[other], self._steps):
                return Exclusive(one, other, why)
        return None


_NEGATED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.Lt: ast.GtE,
    ast.Gt: ast.LtE,
    ast.In: ast.NotIn,
}
_NEGATED |= {negated: op for op, negated in _NEGATED.items()}


class _Atom(NamedTuple):
    """A part of a condition that must hold: a comparison, or (without operator) the truth of *left*."""

    left: str
    op: type[ast.cmpop] | None
    right: str
    is_constant: bool = False
    holds: bool = True

    def excludes(self, other: _Atom) -> bool:
        if self.left != other.left:
            return False
        if self.op is ast.Eq and other.op is ast.Eq and self.is_constant and other.is_constant:
            return self.right != other.right
        if self.right != other.right:
            return False
        if self.op is None or other.op is None:
            return self.op is other.op and self.holds is not other.holds
        return _NEGATED.get(self.op) is other.op


def _required(step: Step) -> list[str]:
    """Return the needs without which the step is skipped."""
    needs = [need for need in step.needs if need not in step.switches]
    if step.run_if is not RunIf.ALL_COMPLETED and (len(needs) != 1 or step.run_if is RunIf.ALL_DONE):
        needs = []
    return [*needs, *(step.switches if len(step.switches) == 1 else ())]


def _exclusive(some: Mapping[str, Step], others: Mapping[str, Step], steps: Mapping[str, Step]) -> str | None:
    """Return why one of the two sides is always skipped; None if that cannot be shown."""
    shared = some.keys() & others.keys()
    for branch in some.values():
        for other in others.values():
            if branch.id in shared or other.id in shared:
                continue
            if len(branch.switches) == 1 and branch.switches == other.switches:
                cases = steps[branch.switches[0]].cases
                if not any(branch.id in case.then and other.id in case.then for case in cases):
                    return f"switch {branch.switches[0]}"
            if branch.condition is None or other.condition is None:
                continue
            atoms = _atoms(other.condition.expression.tree)
            if any(mine.excludes(theirs) for mine in _atoms(branch.condition.expression.tree) for theirs in atoms):
                return f"{branch.condition.expression.source} / {other.condition.expression.source}"
    return None


def _atoms(node: ast.expr, holds: bool = True) -> list[_Atom]:
    """Return what must hold for *node* to be true (or false); unsupported parts are omitted."""
    match node:
        case ast.BoolOp(values=values) if any(map(is_coalesce, values)):
            return []
        case ast.BoolOp(op=op, values=values) if isinstance(op, ast.And) is holds:
            return [atom for value in values for atom in _atoms(value, holds)]
        case ast.BoolOp():
            return []
        case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
            return _atoms(operand, not holds)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _comparison(left, type(op), right, holds)
    return [_Atom(ast.unparse(node), None, "", holds=holds)]


def _comparison(left: ast.expr, op: type[ast.cmpop], right: ast.expr, holds: bool) -> list[_Atom]:
    op = {ast.Is: ast.Eq, ast.IsNot: ast.NotEq}.get(op, op)
    if not holds:
        if op not in _NEGATED:
            return []
        op = _NEGATED[op]
    if isinstance(left, ast.Constant) and op in (ast.Eq, ast.NotEq):
        left, right = right, left
    return [_Atom(ast.unparse(left), op, ast.unparse(right), isinstance(right, ast.Constant))]
