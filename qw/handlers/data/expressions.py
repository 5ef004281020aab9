"""`derive`: arithmetic over columns, translated to SQL node by node; anything else is rejected."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from qw.core.task.handler_api import Reject
from qw.handlers.data.engine import known

_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Mod: "%",
}
_FUNCTIONS = {
    *("abs", "ceil", "floor", "round", "sqrt", "greatest", "least", "coalesce", "nullif"),
    *("lower", "upper", "trim", "length", "concat", "left", "right", "replace"),
    *("year", "month", "day"),
}
_LONGEST = 1000  # characters


def translate(expression: str, columns: Sequence[str]) -> tuple[str, list[object]]:
    """Return *expression* as SQL, its constants as parameters. Raise Reject if it is not arithmetic over *columns*."""
    try:
        if len(expression) > _LONGEST:
            raise ValueError("too long")
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Reject(f"derive: {expression[:60]!r} is not an expression such as round(price * quantity, 2)") from None
    values: list[object] = []
    return _sql(tree, columns, values), values


def _sql(node: ast.expr, columns: Sequence[str], values: list[object]) -> str:
    match node:
        case ast.Name(id=column):
            return known(column, columns)
        case ast.Constant(value=str() | int() | float() | bool() as value):
            values.append(value)
            return "?"
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return f"(- {_sql(operand, columns, values)})"
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return f"({_sql(left, columns, values)} {_OPERATORS[type(op)]} {_sql(right, columns, values)})"
        case ast.Call(func=ast.Name(id=function), args=args, keywords=[]) if function in _FUNCTIONS:
            return f"{function}({', '.join(_sql(arg, columns, values) for arg in args)})"
    allowed = f"columns, numbers, texts, + - * / % and {', '.join(sorted(_FUNCTIONS))}"
    raise Reject(f"derive: {ast.unparse(node)[:60]!r} is not allowed; allowed are {allowed}")
