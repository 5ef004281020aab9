"""The grammar of expressions: Python's syntax with some other spellings, and a list of allowed nodes."""

from __future__ import annotations

import ast
import keyword
import re
import warnings

from qw.core.errors import guess
from qw.core.expression.evaluation import (
    COALESCE,
    COMPARISONS,
    FUNCTIONS,
    LITERALS,
    OPERATORS,
    ExpressionError,
    is_coalesce,
)
from qw.core.task.payload import MAX_INT

MAX_LENGTH = 4000  # characters of one expression
MAX_NODES = 500
MAX_DEPTH = 60
ROOTS = ("input", "steps", "run", "env")
ITEM_ROOTS = ("item", "index")  # defined in a foreach only
ROUND_ROOTS = ("result", "round")  # defined in a repeat only

# Keys may have dashes: a dash is a minus only if a value follows.
KEY = (
    r"[A-Za-z_]\w*(?:-(?!(?:input|steps|run|env|params|item|result)[.\[])(?!(?:item|index|result|round)\b)"
    r"[A-Za-z_]\w*(?!\w*\())*"
)

_TOKEN = re.compile(
    rf"""(?P<text>'(?:[^'\\\n]|\\.|'')*'|"(?:[^"\\\n]|\\.)*")
      | (?<![\w.])steps\.(?P<step>[A-Za-z_][\w-]*)
      | \.(?P<key>{KEY})
      | (?P<coalesce>\?\?) | (?P<same>[!=]==) | (?P<foreign>=~|\?|\$|&(?!&))
      | (?P<and>&&) | (?P<or>\|\|) | (?P<not>!(?!=)) | (?P<tilde>~)""",
    re.VERBOSE,
)


def syntax(source: str) -> ast.expr:
    """Parse *source* to an unchecked tree. Raise ExpressionError if it is not an expression."""
    if len(source) > MAX_LENGTH:
        raise ExpressionError(f"an expression of {len(source):,} characters; at most {MAX_LENGTH:,}")
    if not source:
        raise ExpressionError("the expression is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such as an unknown escape in a string
            return ast.parse(_TOKEN.sub(_python, source).replace("\n", " ").strip(), mode="eval").body
    except SyntaxError as error:
        raise ExpressionError(f"{_short(source)} is not an expression: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError):
        raise ExpressionError(f"{_short(source)} is not an expression that can be read") from None


def _python(token: re.Match[str]) -> str:
    """Convert a token to Python: ids and keys with dashes, and those that are Python keywords, become ["…"]."""
    if token["step"] and ("-" in token["step"] or keyword.iskeyword(token["step"])):
        return f'steps["{token["step"]}"]'
    if token["key"] and ("-" in token["key"] or keyword.iskeyword(token["key"])):
        return f'["{token["key"]}"]'
    if token["text"] and token["text"].startswith("'"):
        return "'" + token["text"][1:-1].replace("''", "\\'") + "'"
    if token["same"]:
        raise ExpressionError(f"there is no {token['same']!r}; write {token['same'][:2]!r}, which compares types too")
    if token["foreign"]:
        raise ExpressionError(f"there is no {token['foreign']!r}; {_FOREIGN[token['foreign']]}")
    if token["tilde"]:
        raise ExpressionError("'~' is not allowed in an expression")
    words = {
        "and": " and ",
        "or": " or ",
        "coalesce": f" or {COALESCE} or ",
        "not": "~",
    }  # ~ binds as tightly as ! does; not would take a whole comparison
    return words.get(token.lastgroup or "", token[0])


def _short(source: str) -> str:
    return repr(source if len(source) <= 60 else f"{source[:59]}…")


_PLAIN = (ast.BoolOp, ast.IfExp, ast.List, ast.Attribute, ast.Subscript)


def check(tree: ast.expr) -> dict[str, set[str]]:
    """Raise ExpressionError for any node that is not allowed.

    Return the names read from ``steps`` and ``input``, the variables of a foreach under ``item`` and those of a repeat
    under ``round``.
    """
    _measure(tree)
    names: dict[str, set[str]] = {"steps": set(), "input": set(), "item": set(), "round": set()}
    stack = [(tree, False)]  # the flag: item and index belong to a map()
    while stack:
        node, is_mapped = stack.pop()
        if (member := _member(node)) and member[0] in ("steps", "input"):
            names[member[0]].add(member[1])
            continue
        if isinstance(node, ast.Name) and node.id in (*ITEM_ROOTS, *ROUND_ROOTS):
            if not (is_mapped and node.id in ITEM_ROOTS):
                names["item" if node.id in ITEM_ROOTS else "round"].add(node.id)
            continue
        _check_node(node)
        if isinstance(node, ast.Call):
            maps = isinstance(node.func, ast.Name) and node.func.id in ("map", "filter", "sort")
            stack += [(arg, is_mapped or (maps and n == 1)) for n, arg in enumerate(node.args)]
        else:
            stack += [(child, is_mapped) for child in _below(node) if not _is_coalesced(node, child)]
    return names


def _measure(tree: ast.expr) -> None:
    """Raise ExpressionError for a tree that could exhaust Python's stack, before any recursion over it."""
    stack, count = [(tree, 1)], 0
    while stack:
        node, depth = stack.pop()
        count += 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            raise ExpressionError(f"the expression is too long: at most {MAX_NODES} parts, nested {MAX_DEPTH} deep")
        stack += [(child, depth + 1) for child in _below(node)]


def _below(node: ast.expr) -> list[ast.expr]:
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]


def _is_coalesced(node: ast.expr, child: ast.expr) -> bool:
    """Whether *child* is the marker for ?? between two values of *node*."""
    if not isinstance(node, ast.BoolOp) or not isinstance(node.op, ast.Or) or not is_coalesce(child):
        return False
    return child is not node.values[0] and child is not node.values[-1]


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
    if name in _OTHER_ROOTS:
        raise ExpressionError(f"there is no {name}; {_OTHER_ROOTS[name]}")
    if name not in ROOTS and name not in LITERALS:
        known = (*ROOTS, *LITERALS)
        raise ExpressionError(f"{name[:60]!r} is not known; there are {', '.join(known)}{guess(name[:60], known)}")


def _check_call(node: ast.Call) -> None:
    if not isinstance(node.func, ast.Name) or node.keywords or any(isinstance(arg, ast.Starred) for arg in node.args):
        hint = ""
        if isinstance(node.func, ast.Attribute) and (name := node.func.attr.lower()) in FUNCTIONS:
            hint = f"; write {name}({', '.join(map(ast.unparse, [node.func.value, *node.args]))})"[:200]
        raise ExpressionError(f"{_short(ast.unparse(node))} is not allowed: only functions are called, by name{hint}")
    name = node.func.id
    if name.lower() in _ELSEWHERE and name not in FUNCTIONS:
        raise ExpressionError(f"there is no {name}(); {_ELSEWHERE[name.lower()]}")
    if name not in FUNCTIONS and name.lower() in FUNCTIONS:
        raise ExpressionError(f"there is no {name}(); it is called {name.lower()}()")
    if name not in FUNCTIONS:
        raise ExpressionError(f"there is no {name[:60]}(); there are {', '.join(FUNCTIONS)}{guess(name, FUNCTIONS)}")
    low, high, _ = FUNCTIONS[name]
    if not low <= len(node.args) <= high:
        count = low if low == high else f"{low} to {high}"
        raise ExpressionError(f"{name}() takes {count} arguments, not {len(node.args)}")


_FOREIGN = {
    "?": "instead of CONDITION ? A : B write A if CONDITION else B",
    "=~": "write match(TEXT, 'pattern')",
    "$": "values are input.NAME, steps.ID.result, run, env, item and index",
    "&": "join texts with +; and is &&",
}

# Names from other languages and tools, with the equivalent here.
_ELSEWHERE = {
    "always": "what runs at the end of every run goes under finally; after steps that may fail: run_if: all_done",
    "failure": "what runs after a failure goes under on_failure; run_if: any_failed runs a step after a tolerated one",
    "success": "a step runs if its needs are completed; run_if says otherwise",
    "cancelled": "put the step under finally, with if: run.status == 'cancelled'",
    "length": "it is called len()",
    "size": "it is called len()",
    "count": "it is called len()",
    "tostring": "it is called str()",
    "tonumber": "it is called int() or float()",
    "parseint": "it is called int()",
    "substring": "it is called slice()",
    "includes": "it is called contains()",
    "concat": "join two texts with +, the texts of a list with join(), two lists with flatten([a, b])",
    "append": "write flatten([list, [item]])",
    "asint": "it is called int()",
    "asfloat": "it is called float()",
    "first": "write LIST[0]",
    "last": "write LIST[-1]",
    "any": "write len(filter(LIST, item …)) > 0",
    "all": "write len(filter(LIST, !(item …))) == 0",
    "uuid": "the run has run.id; let a command make another one",
    "coalesce": "write a ?? b",
    "regex": "it is called match()",
    "hashfiles": "let a command do that, and read its result",
}
_OTHER_ROOTS = {
    "needs": "what a step came to is steps.ID.result and steps.ID.status",
    "matrix": "the combination is item",
    "inputs": "write input.NAME",
    "params": "write input.NAME",
    "github": "the run is run.id and run.workflow, what it was given input.NAME",
    "vars": "write env.NAME (QW_ENV_NAME of the daemon)",
}
