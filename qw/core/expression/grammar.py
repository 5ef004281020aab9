"""What an expression may say: Python's syntax with a few other spellings, and a list of allowed nodes."""

from __future__ import annotations

import ast
import keyword
import re
import warnings

from qw.core.errors import guess
from qw.core.expression.evaluation import COMPARISONS, FUNCTIONS, LITERALS, OPERATORS, ExpressionError
from qw.core.task.payload import MAX_INT

MAX_LENGTH = 4000  # characters of one expression
MAX_NODES = 500
MAX_DEPTH = 60
ROOTS = ("input", "steps", "run", "env")
ITEM_ROOTS = ("item", "index")  # these have a value in a foreach only
ROUND_ROOTS = ("result", "round")  # and these in a repeat

_TOKEN = re.compile(
    r"""(?P<text>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
      | (?<![\w.])steps\.(?P<step>[A-Za-z_][\w-]*)
      | \.(?P<key>[A-Za-z_]\w*)
      | (?P<and>&&) | (?P<or>\|\|) | (?P<not>!(?!=)) | (?P<tilde>~)""",
    re.VERBOSE,
)


def syntax(source: str) -> ast.expr:
    """The tree of *source*, not checked yet. Raise ExpressionError when it has none."""
    if len(source) > MAX_LENGTH:
        raise ExpressionError(f"an expression of {len(source):,} characters; at most {MAX_LENGTH:,}")
    if not source:
        raise ExpressionError("the expression is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such as an escape in a string that Python does not know
            return ast.parse(_TOKEN.sub(_python, source).replace("\n", " ").strip(), mode="eval").body
    except SyntaxError as error:
        raise ExpressionError(f"{_short(source)} is not an expression: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError):
        raise ExpressionError(f"{_short(source)} is not an expression that can be read") from None


def _python(token: re.Match[str]) -> str:
    """A token in Python's spelling. Step ids may hold dashes and keys may be Python's keywords: both become ["…"]."""
    if token["step"] and ("-" in token["step"] or keyword.iskeyword(token["step"])):
        return f'steps["{token["step"]}"]'
    if token["key"] and keyword.iskeyword(token["key"]):
        return f'["{token["key"]}"]'
    if token["tilde"]:
        raise ExpressionError("'~' is not allowed in an expression")
    words = {
        "and": " and ",
        "or": " or ",
        "not": "~",
    }  # ~ binds as tightly as ! does; not would take a whole comparison
    return words.get(token.lastgroup or "", token[0])


def _short(source: str) -> str:
    return repr(source if len(source) <= 60 else f"{source[:59]}…")


_PLAIN = (ast.BoolOp, ast.IfExp, ast.List, ast.Attribute, ast.Subscript)


def check(tree: ast.expr) -> dict[str, set[str]]:
    """Refuse every node that is not on the list. Returns the names taken from ``steps`` and ``input``, and the roots
    of a foreach under ``item``, of a repeat under ``round``.
    """
    _measure(tree)
    names: dict[str, set[str]] = {"steps": set(), "input": set(), "item": set(), "round": set()}
    stack = [tree]
    while stack:
        node = stack.pop()
        if (member := _member(node)) and member[0] in ("steps", "input"):
            names[member[0]].add(member[1])
            continue
        if isinstance(node, ast.Name) and node.id in (*ITEM_ROOTS, *ROUND_ROOTS):
            names["item" if node.id in ITEM_ROOTS else "round"].add(node.id)
            continue
        _check_node(node)
        stack += node.args if isinstance(node, ast.Call) else _below(node)
    return names


def _measure(tree: ast.expr) -> None:
    """Refuse a tree that could exhaust Python's stack, before anything walks it by recursion."""
    stack, count = [(tree, 1)], 0
    while stack:
        node, depth = stack.pop()
        count += 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            raise ExpressionError(f"the expression is too long: at most {MAX_NODES} parts, nested {MAX_DEPTH} deep")
        stack += [(child, depth + 1) for child in _below(node)]


def _below(node: ast.expr) -> list[ast.expr]:
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]


def _member(node: ast.expr) -> tuple[str, str] | None:
    match node:
        case ast.Attribute(value=ast.Name(id=root), attr=key):
            return root, key
        case ast.Subscript(value=ast.Name(id=root), slice=ast.Constant(value=str(key))):
            return root, key
    return None


def _check_node(node: ast.expr) -> None:
    match node:
        case ast.Constant(value=value):
            _check_constant(value)
        case ast.Name(id=name):
            _check_name(name)
        case ast.Call():
            _check_call(node)
        case ast.Attribute(value=ast.Constant()):
            raise ExpressionError(f"{_short(ast.unparse(node))}: a literal has no attributes")
        case ast.Compare(ops=ops):
            _allow(all(type(op) in COMPARISONS for op in ops), node)
        case ast.BinOp(op=op):
            _allow(type(op) in OPERATORS, node)
        case ast.UnaryOp(op=op):
            _allow(isinstance(op, (ast.Not, ast.Invert, ast.USub)), node)
        case ast.Dict(keys=keys):
            _allow(all(key is not None for key in keys), node)
        case _:
            _allow(isinstance(node, _PLAIN), node)


def _allow(is_allowed: bool, node: ast.expr) -> None:
    if not is_allowed:
        raise ExpressionError(f"{_short(ast.unparse(node))} is not allowed in an expression")


def _check_constant(value: object) -> None:
    if value is not None and not isinstance(value, (str, int, float)):
        raise ExpressionError(f"{str(value)[:60]} is not a JSON value")
    if isinstance(value, int) and value > MAX_INT:
        raise ExpressionError("the number is too large")


def _check_name(name: str) -> None:
    if name == "steps":
        raise ExpressionError("steps needs the name of one: steps.NAME or steps['NAME']")
    if name == "secrets":
        raise ExpressionError("a secret has a value in env: of a shell step and in headers: of http_request only")
    if name not in ROOTS and name not in LITERALS:
        known = (*ROOTS, *LITERALS)
        raise ExpressionError(f"{name[:60]!r} is not known; there are {', '.join(known)}{guess(name[:60], known)}")


def _check_call(node: ast.Call) -> None:
    if not isinstance(node.func, ast.Name) or node.keywords or any(isinstance(arg, ast.Starred) for arg in node.args):
        raise ExpressionError(f"{_short(ast.unparse(node))} is not allowed: only functions are called, by name")
    name = node.func.id
    if name not in FUNCTIONS:
        raise ExpressionError(f"there is no {name[:60]}(); there are {', '.join(FUNCTIONS)}{guess(name, FUNCTIONS)}")
    low, high, _ = FUNCTIONS[name]
    if not low <= len(node.args) <= high:
        count = low if low == high else f"{low} to {high}"
        raise ExpressionError(f"{name}() takes {count} arguments, not {len(node.args)}")
