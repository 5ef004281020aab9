"""Answers completion requests of shells from a cached table of all commands: importing typer takes too long for a Tab.

The first completion after a change of the commands builds the table (see `completion_table`) and stores it in the
user's cache directory. Input and output have the format of typer's completion scripts.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TypedDict

from qw import __version__
from qw.cli.settings import FLAGS

Offers = Sequence[tuple[str, str]]

VARIABLE = "_QW_COMPLETE"
FLAG, FREE, CHOICE = "", "?", "="  # kinds: no value; any value; one of the listed. Others name a completer
_SETTINGS = {"--database-url": "database_url", "--home": "home", "--config": "config", "-c": "config"}


class CommandCompletion(TypedDict):
    """One command: its subcommands with their help, its options with kind and help, and the kinds of its arguments.

    ``repeats``: the last argument may be repeated. ``stops``: all words after the first argument belong to another
    program.
    """

    words: dict[str, str]
    options: dict[str, tuple[str, str]]
    arguments: list[str]
    repeats: bool
    stops: bool


Table = Mapping[str, CommandCompletion]  # by the words that name the command; empty: qw itself


def complete(commands: Callable[[], Table]) -> int:
    """Print the completions at the cursor. *commands* builds the table. Return the exit code."""
    shell = os.environ[VARIABLE].removeprefix("complete_")
    args, incomplete = _bash_words() if shell == "bash" else _words()
    offers = offered(_table(commands), args, incomplete)
    if os.environ.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
        return 0 if offers else 1
    if text := {"bash": _bash, "zsh": _zsh, "fish": _fish}.get(shell, _bash)(offers):
        print(text)
    return 0


def offered(table: Table, args: Sequence[str], incomplete: str) -> Offers:
    """Return the completions of *incomplete* after *args*."""
    path, waiting, positional, is_open = "", "", 0, True
    for word in args:
        command = table[path]
        name, has_value, value = word.partition("=")
        if waiting:
            _remember(waiting, word)
            waiting = ""
        elif is_open and word == "--":
            is_open = False
        elif is_open and name in command["options"]:
            if command["options"][name][0] != FLAG and not has_value:
                waiting = name
            _remember(name, value)
        elif is_open and word.startswith("-") and word != "-":
            continue
        elif command["words"]:
            path = f"{path} {word}".strip()
            if path not in table:
                return []
        else:
            positional += 1
            is_open = is_open and not command["stops"]
    command = table[path]
    if waiting:
        return _of_kind(command["options"][waiting][0], path, incomplete)
    if is_open and incomplete.startswith("-"):
        options = command["options"].items()
        return [(name, about) for name, (_, about) in options if name.startswith(incomplete)]
    if command["words"]:
        return [(word, about) for word, about in command["words"].items() if word.startswith(incomplete)]
    kinds = command["arguments"]
    if kinds and (positional < len(kinds) or command["repeats"]):
        return _of_kind(kinds[min(positional, len(kinds) - 1)], path, incomplete)
    return []


def _remember(option: str, value: str) -> None:
    if value and option in _SETTINGS:
        FLAGS[_SETTINGS[option]] = value


def _of_kind(kind: str, path: str, incomplete: str) -> Offers:
    from qw.cli.options import completions

    if kind in (FLAG, FREE):
        return []
    if kind.startswith(CHOICE):
        return [(word, "") for word in kind[1:].split(",") if word.startswith(incomplete)]
    completer = getattr(completions, kind)
    if completer.__code__.co_argcount == 1:
        return list(completer(incomplete))
    return list(completer(SimpleNamespace(info_name=path.split()[-1]), incomplete))


def _table(commands: Callable[[], Table]) -> Table:
    stamp = f"{__version__} {_changed()}"
    file = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "qw" / "completion.json"
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["stamp"] == stamp:
            return dict(kept["commands"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    made = commands()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps({"stamp": stamp, "commands": made}), encoding="utf-8")
        new.replace(file)
    except OSError:  # the next completion builds the table again
        pass
    return made


def _changed() -> int:
    """Return when a module of the command line was last modified."""
    here = Path(__file__).parent
    return max(entry.stat().st_mtime_ns for folder in (here, here / "commands") for entry in os.scandir(folder))


def _bash_words() -> tuple[list[str], str]:
    words, place = list(_split(os.environ.get("COMP_WORDS", ""))), int(os.environ.get("COMP_CWORD", "1"))
    return words[1:place], words[place] if place < len(words) else ""


def _words() -> tuple[list[str], str]:
    line = os.environ.get("_TYPER_COMPLETE_ARGS", "")
    words = list(_split(line))[1:]
    return (words[:-1], words[-1]) if words and not line.endswith(" ") else (words, "")


def _split(line: str) -> Iterator[str]:
    """Yield the words of *line*; an unclosed quote extends to the end of the line."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        yield from lexer
    except ValueError:
        yield lexer.token


def _bash(offers: Offers) -> str:
    return "\n".join(word for word, _ in offers)


def _fish(offers: Offers) -> str:
    return "\n".join(f"{word}\t{' '.join(about.split())}" if about else word for word, about in offers)


def _zsh(offers: Offers) -> str:
    if not offers:
        return "_files"
    lines = (f'"{_quoted(word)}":"{_quoted(about)}"' if about else f'"{_quoted(word)}"' for word, about in offers)
    return "_arguments '*: :((" + "\n".join(lines) + "))'"


def _quoted(text: str) -> str:
    for sign, safe in (("\\", "\\\\"), ('"', '""'), ("'", "''"), ("$", "\\$"), ("`", "\\`"), (":", r"\\:")):
        text = text.replace(sign, safe)
    return text
