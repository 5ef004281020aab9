"""Commands of other tools that insert values into shell text: here the values become environment variables."""

from __future__ import annotations

import re
from collections.abc import Callable


def with_variables(text: str, pattern: re.Pattern[str], name: Callable[[re.Match[str]], str], *, python: bool) -> str:
    """Return *text* with each match of *pattern* replaced by the variable from *name*, quoted as its place requires.

    Outside of quotes the variable stays unquoted, so the shell splits its value into words, as with inserted text.
    """
    pieces, start, quote = [], 0, ""
    for found in pattern.finditer(text):
        before = text[start : found.start()]
        quote = _quote(before, quote)
        pieces.append(before)
        variable = name(found)
        pieces.append(_python(variable, quote) if python else _shell(variable, quote))
        start = found.end()
    return "".join([*pieces, text[start:]])


def _shell(variable: str, quote: str) -> str:
    return f"'\"${{{variable}}}\"'" if quote == "'" else f"${{{variable}}}"


def _python(variable: str, quote: str) -> str:
    value = f'__import__("os").environ["{variable}"]'
    return f"{quote} + {value} + {quote}" if quote else f"__import__('json').loads({value})"


def _quote(text: str, quote: str) -> str:
    """Return the quote that is open after *text*, if *quote* was open before it."""
    position = 0
    while position < len(text):
        letter = text[position]
        if letter == "\\" and quote != "'":
            position += 1
        elif letter == "#" and not quote and (position == 0 or text[position - 1] in " \t\n"):
            position = text.find("\n", position)
            if position < 0:
                return quote
        elif letter in "'\"":
            quote = "" if letter == quote else quote or letter
        position += 1
    return quote
