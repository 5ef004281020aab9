"""Regular expressions without backtracking: the time is at most proportional to text length times pattern length.

Python's ``re`` may take exponential time. So only its parser is used, and the states of a Thompson automaton are
followed in parallel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from re import _constants as sre  # type: ignore[attr-defined]  # the names in the parser's result
from re import _parser  # type: ignore[attr-defined]  # there is no public parser
from typing import Any

MAX_STATES = 500
MAX_WORK = 2_000_000  # characters of the text times states of the pattern

_Test = Callable[[str], bool]


class _Automaton:
    """``tests[n]``: what state *n* accepts before state n + 1; None: nothing, it continues at ``jumps[n]``."""

    def __init__(self) -> None:
        self.tests: list[_Test | None] = []
        self.jumps: list[list[int]] = []
        self.anchors: list[str] = []

    def add(self, test: _Test | None = None, jumps: Iterable[int] = (), anchor: str = "") -> int:
        if len(self.tests) >= MAX_STATES:
            raise ValueError("the pattern is too long")
        self.tests.append(test)
        self.jumps.append(list(jumps))
        self.anchors.append(anchor)
        return len(self.tests) - 1

    def build(self, tree: Iterable[tuple[Any, Any]]) -> None:
        for op, value in tree:
            self._part(op, value)

    def _part(self, op: Any, value: Any) -> None:
        if op is sre.SUBPATTERN:
            self.build(value[3])
        elif op is sre.BRANCH:
            self._branch(value[1])
        elif op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            self._repeat(*value)
        elif op is sre.AT:
            self._anchor(value)
        else:
            self.add(_test(op, value))

    def _anchor(self, value: Any) -> None:
        kinds = {sre.AT_BEGINNING: "^", sre.AT_BEGINNING_STRING: "^", sre.AT_END: "$", sre.AT_END_STRING: "$"}
        if value not in kinds:
            raise ValueError("\\b and \\B are not supported")
        state = self.add(anchor=kinds[value])
        self.jumps[state] = [state + 1]

    def _branch(self, trees: list[Any]) -> None:
        fork, ends = self.add(), []
        for tree in trees:
            self.jumps[fork].append(len(self.tests))
            self.build(tree)
            ends.append(self.add())
        for end in ends:
            self.jumps[end] = [len(self.tests)]

    def _repeat(self, low: int, high: Any, tree: Any) -> None:
        for _ in range(low):
            self.build(tree)
        if high is sre.MAXREPEAT:
            fork = self.add()
            self.build(tree)
            self.add(jumps=[fork])
            self.jumps[fork] = [fork + 1, len(self.tests)]
            return
        forks = []
        for _ in range(high - low):
            forks.append(self.add())
            self.build(tree)
        for fork in forks:
            self.jumps[fork] = [fork + 1, len(self.tests)]

    def closure(self, states: Iterable[int], *, at_start: bool, at_end: bool) -> set[int]:
        reached: set[int] = set()
        stack = list(states)
        while stack:
            state = stack.pop()
            if state in reached:
                continue
            reached.add(state)
            if state < len(self.tests) and self.tests[state] is None:
                anchor = self.anchors[state]
                if not anchor or (anchor == "^" and at_start) or (anchor == "$" and at_end):
                    stack += self.jumps[state]
        return reached


def _test(op: Any, value: Any) -> _Test:
    if op is sre.LITERAL:
        return lambda char: ord(char) == value
    if op is sre.NOT_LITERAL:
        return lambda char: ord(char) != value
    if op is sre.ANY:
        return lambda char: char != "\n"
    if op is sre.IN:
        return _class(value)
    raise ValueError("groups that look around or back are not supported")


def _class(parts: list[tuple[Any, Any]]) -> _Test:
    is_negated = parts[0][0] is sre.NEGATE
    tests = [_member(op, value) for op, value in parts if op is not sre.NEGATE]
    return lambda char: any(test(char) for test in tests) is not is_negated


_CATEGORIES: dict[Any, _Test] = {
    sre.CATEGORY_DIGIT: str.isdecimal,
    sre.CATEGORY_NOT_DIGIT: lambda char: not char.isdecimal(),
    sre.CATEGORY_SPACE: str.isspace,
    sre.CATEGORY_NOT_SPACE: lambda char: not char.isspace(),
    sre.CATEGORY_WORD: lambda char: char.isalnum() or char == "_",
    sre.CATEGORY_NOT_WORD: lambda char: not (char.isalnum() or char == "_"),
}


def _member(op: Any, value: Any) -> _Test:
    if op is sre.RANGE:
        return lambda char: value[0] <= ord(char) <= value[1]
    return _CATEGORIES[value] if op is sre.CATEGORY else _test(op, value)


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> _Automaton:
    automaton = _Automaton()
    try:
        automaton.build(_parser.parse(pattern))
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{pattern[:60]!r} is not a regular expression: {error}") from None
    return automaton


def search(pattern: str, text: str) -> bool:
    """Whether *pattern* matches anywhere in *text*. Raise ValueError if it is invalid or would take too much work."""
    if len(pattern) > MAX_STATES:
        raise ValueError("the pattern is too long")
    automaton = _compiled(pattern)
    final = len(automaton.tests)
    if (len(text) + 1) * (final + 1) > MAX_WORK:
        raise ValueError("the text is too long for this pattern")
    states: set[int] = set()
    for n in range(len(text) + 1):
        states = automaton.closure({*states, 0}, at_start=n == 0, at_end=n == len(text))
        if final in states:
            return True
        if n < len(text):
            char = text[n]
            states = {state + 1 for state in states if (test := automaton.tests[state]) is not None and test(char)}
    return False


__all__ = ["search"]
