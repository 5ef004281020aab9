"""Makes the manual pages of qw from its help texts: one of all commands, and one for each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from qw import __version__

EXITS = {
    0: "success",
    1: "the task or run failed, or a problem was found",
    2: "wrong usage or input",
    3: "not found",
    4: "conflict: a key is taken, or the state forbids it",
    5: "the database role lacks the right",
    69: "the database or the broker is unavailable",
    75: "the database is read-only at the moment; try again",
    78: "wrong settings, or a schema of another version",
    124: "timed out",
    130: "interrupted",
    141: "broken pipe",
}


def whole_page(root: Any) -> str:
    """Return the page ``qw`` with every command. *root* is the root command."""
    lines = [
        f'.TH QW 1 "" "qw {__version__}" "User Commands"',
        *_section("NAME", [f"qw \\- {escaped(_first_line(root))}"]),
        *_section("SYNOPSIS", [".B qw", "COMMAND [OPTIONS] [ARGUMENTS]"]),
        '.SH "COMMANDS"',
        *_all_described(root),
        *_ending(),
    ]
    return "\n".join(lines)


def _all_described(root: Any) -> Iterator[str]:
    for path, command in commands(root):
        yield f'.SS "{_usage(path, command)}"'
        yield from _described(path, command)


def page_of(path: Sequence[str], command: Any) -> str:
    """Return the page of one command, such as ``qw-task-list``. *path* is its words after ``qw``."""
    words, name = " ".join(("qw", *path)), "-".join(("qw", *path))
    lines = [
        f'.TH {name.upper()} 1 "" "qw {__version__}" "User Commands"',
        *_section("NAME", [f"{escaped(name)} \\- {escaped(_first_line(command))}"]),
        *_section("SYNOPSIS", [_usage(words, command)]),
        *_section("DESCRIPTION", list(_described(words, command))),
        *_ending(),
        *_section("SEE ALSO", [".BR qw (1)"]),
    ]
    return "\n".join(lines)


def commands(command: Any, path: tuple[str, ...] = ("qw",)) -> Iterator[tuple[str, Any]]:
    """Yield every command that can be run, with its words."""
    if not hasattr(command, "list_commands"):
        yield " ".join(path), command
        return
    for name in command.list_commands(None):
        yield from commands(command.get_command(None, name), (*path, name))


def _usage(path: str, command: Any) -> str:
    context = command.make_context(path, [], resilient_parsing=True)
    return escaped(f"{path} {' '.join(command.collect_usage_pieces(context))}")


def _described(path: str, command: Any) -> Iterator[str]:
    context = command.make_context(path, [], resilient_parsing=True)
    yield from (escaped(line) or ".PP" for line in (command.help or "").splitlines())
    for param in command.get_params(context):
        if shown := param.get_help_record(context):
            yield from (".TP", f".B {escaped(shown[0])}", escaped(re.sub(r"\s+", " ", shown[1])) or "\\ ")
    if command.epilog:
        yield from (".PP", escaped(command.epilog))


def _ending() -> Iterator[str]:
    yield '.SH "EXIT STATUS"'
    for code, meaning in EXITS.items():
        yield from (".TP", f".B {code}", escaped(meaning))
    yield from _section(
        "ENVIRONMENT", ["Every setting is a variable; qw config show lists them.", "NO_COLOR is honoured."]
    )


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    yield f'.SH "{title}"'
    yield from lines


def _first_line(command: Any) -> str:
    return str(command.help or "").partition("\n")[0]


def escaped(text: str) -> str:
    """Return *text* escaped so that roff does not interpret any of it."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain
