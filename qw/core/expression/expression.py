"""`${{ … }}` in the texts of a workflow, and the bare expressions of ``if:``.

Expressions are checked when the workflow is read, so that a fault has a place, and evaluated when a step is ready. The
syntax is a small part of Python's expressions, plus ``&&``, ``||``, ``!``, ``true``, ``false`` and ``null``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from qw.core.errors import Fault
from qw.core.expression.evaluation import ExpressionError, Scope, check_size, evaluate, text
from qw.core.expression.functions import MAX_SIZE
from qw.core.expression.grammar import MAX_LENGTH, check, syntax
from qw.core.task.payload import Json

__all__ = ["Condition", "Expression", "ExpressionError", "Scope", "Template", "has_expression"]

MAX_PATH = 500  # characters; longer paths in faults are cut

_PIECE = re.compile(r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|[{}]""")


@dataclass(frozen=True, kw_only=True)
class Expression:
    """A checked expression. ``steps`` and ``inputs``: the names that it reads as ``steps.…`` and ``input.…``.

    ``is_of_item``: it uses variables of a foreach; ``is_of_round``: it uses variables of a repeat.
    """

    source: str
    tree: ast.expr = field(compare=False, repr=False)
    steps: frozenset[str]
    inputs: frozenset[str]
    is_of_item: bool = False
    is_of_round: bool = False

    @classmethod
    def parse(cls, source: str) -> Expression:
        """Check *source* without evaluating it. Raise ExpressionError if it is not allowed."""
        source = source.strip()
        tree = syntax(source)
        names = check(tree)
        return cls(
            source=source,
            tree=tree,
            steps=frozenset(names["steps"]),
            inputs=frozenset(names["input"]),
            is_of_item=bool(names["item"]),
            is_of_round=bool(names["round"]),
        )

    def value(self, scope: Scope) -> Json:
        value = evaluate(self.tree, scope)
        check_size(value)
        return value


@dataclass(frozen=True, kw_only=True)
class _Text:
    """A string with expressions. The value of a lone expression keeps its type; otherwise the result is a string."""

    parts: tuple[str | Expression, ...]

    def render(self, scope: Scope) -> Json:
        if len(self.parts) == 1 and isinstance(self.parts[0], Expression):
            return self.parts[0].value(scope)
        texts, length = [], 0
        for part in self.parts:
            texts.append(part if isinstance(part, str) else text(part.value(scope)))
            length += len(texts[-1])
            if length > MAX_SIZE:
                raise ExpressionError(f"the text is longer than {MAX_SIZE:,} characters")
        return "".join(texts)


_Node: TypeAlias = "dict[str, _Node] | list[_Node] | _Text | str | int | float | bool | None"


@dataclass(frozen=True, kw_only=True)
class Template:
    """A JSON value with expressions in its strings."""

    root: _Node
    expressions: tuple[Expression, ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, value: Json, *, where: str) -> Template:
        """Raise ExpressionError with all faults, each with its path below *where*."""
        expressions: list[Expression] = []
        faults: list[Fault] = []
        root = _compile(value, where, expressions, faults)
        if faults:
            raise ExpressionError(*faults)
        return cls(root=root, expressions=tuple(expressions))

    def render(self, scope: Scope) -> Json:
        """Return the value over *scope*, with which it may share parts: do not change it. Raise ExpressionError."""
        value = _render(self.root, scope, "")
        check_size(value)
        return value

    def names(self) -> set[str]:
        """Return the ids of the steps that its expressions read."""
        return {name for expression in self.expressions for name in expression.steps}

    def inputs(self) -> set[str]:
        """Return the names of the inputs that its expressions read."""
        return {name for expression in self.expressions for name in expression.inputs}

    @property
    def is_of_item(self) -> bool:
        """Whether it uses variables that exist in a foreach only."""
        return any(expression.is_of_item for expression in self.expressions)

    @property
    def is_of_round(self) -> bool:
        """Whether it uses variables that exist in a repeat only."""
        return any(expression.is_of_round for expression in self.expressions)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """The value of ``if:``. Zero, null and empty values count as false."""

    expression: Expression

    @classmethod
    def parse(cls, source: str) -> Condition:
        """Parse a bare expression; ``${{ }}`` around the whole is accepted too."""
        bare = source.strip()
        if bare.startswith("${{") and bare.endswith("}}"):
            bare = bare[3:-2]
        return cls(expression=Expression.parse(bare))

    def holds(self, scope: Scope) -> bool:
        return bool(self.expression.value(scope))

    def names(self) -> set[str]:
        return set(self.expression.steps)

    def inputs(self) -> set[str]:
        return set(self.expression.inputs)


def rewritten(value: str, expression: Callable[[str], str]) -> str:
    """Return *value* with each ``${{ … }}`` replaced by the result of *expression* for its source.

    Raise ExpressionError if ``}}`` is missing.
    """
    pieces, start = [], 0
    while (opening := value.find("${{", start)) >= 0:
        end = _closing(value, opening + 3)
        pieces += [value[start:opening], expression(value[opening + 3 : end].strip())]
        start = end + 2
    return "".join([*pieces, value[start:]])


def has_expression(value: Json) -> bool:
    """Whether any string in *value* contains ``${{``."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str) and "${{" in item:
            return True
        stack += item.values() if isinstance(item, dict) else item if isinstance(item, list) else []
    return False


def _compile(value: Json, where: str, expressions: list[Expression], faults: list[Fault]) -> _Node:
    """*where* is cut to MAX_PATH: full paths for every value could take more memory than the values."""
    where = where[:MAX_PATH]
    if isinstance(value, dict):
        for key in value:
            if "${{" in key:
                faults.append(Fault(path=f"{where}.{key}", message="an object key cannot contain an expression"))
        return {key: _compile(below, f"{where}.{key}", expressions, faults) for key, below in value.items()}
    if isinstance(value, list):
        return [_compile(below, f"{where}[{n}]", expressions, faults) for n, below in enumerate(value)]
    if not isinstance(value, str) or "${{" not in value:
        return value
    try:
        parts = tuple(_parts(value))
    except ExpressionError as error:
        faults.extend(Fault(path=where, message=fault.message) for fault in error.faults)
        return None
    expressions.extend(part for part in parts if isinstance(part, Expression))
    return _Text(parts=parts)


def _render(node: _Node, scope: Scope, path: str) -> Json:
    path = path[:MAX_PATH]
    if isinstance(node, _Text):
        try:
            return node.render(scope)
        except ExpressionError as error:
            raise ExpressionError(*(Fault(path=path, message=fault.message) for fault in error.faults)) from None
    if isinstance(node, dict):
        return {key: _render(below, scope, f"{path}.{key}" if path else key) for key, below in node.items()}
    if isinstance(node, list):
        return [_render(below, scope, f"{path}[{n}]") for n, below in enumerate(node)]
    return node


def _parts(value: str) -> Iterator[str | Expression]:
    start = 0
    while (opening := value.find("${{", start)) >= 0:
        if opening > start:
            yield value[start:opening]
        end = _closing(value, opening + 3)
        yield Expression.parse(value[opening + 3 : end])
        start = end + 2
    if start < len(value):
        yield value[start:]


def _closing(value: str, start: int) -> int:
    """Return the index of the ``}}`` that ends the expression at *start*; braces and strings inside do not end it."""
    depth = 0
    for piece in _PIECE.finditer(value, start, start + MAX_LENGTH + 2):
        if piece[0] == "{":
            depth += 1
        elif piece[0] == "}" and depth:
            depth -= 1
        elif piece[0] == "}" and value.startswith("}}", piece.start()):
            return piece.start()
    raise ExpressionError(f"'${{{{' has no '}}}}' within {MAX_LENGTH:,} characters")
