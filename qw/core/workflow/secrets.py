"""``secrets:``: values known to daemons only, referred to by name, and the step texts that contain them.

Definitions and runs hold no values: a step names its secrets, and the daemon that runs it inserts the values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from posixpath import normpath
from typing import TypeAlias

from qw.core.errors import Fault
from qw.core.fields import Field, Object, Type, by_name, checked, text_of
from qw.core.parsing import below, hint
from qw.core.task.payload import Json

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_VARIABLE = re.compile(r"(?!QW_|PG|DB_|LD_|DATABASE_URL$)[A-Za-z_][A-Za-z0-9_]{0,127}")
_REFERENCE = re.compile(r"""\$\{\{\s*secrets(?:\.([A-Za-z_]\w*)|\[(?:'([^']*)'|"([^"]*)")\])\s*\}\}""")
_MENTION = re.compile(r"\$\{\{[^}]*(?<![\w.])secrets\b")


@dataclass(frozen=True, kw_only=True)
class Secret:
    """Where a daemon reads the value: the environment variable ``env``, or ``file`` without its last newline."""

    name: str
    env: str = ""
    file: str = ""

    @property
    def place(self) -> str:
        """The variable or the path, as written in settings."""
        return self.env or normpath(self.file)

    def __str__(self) -> str:
        return f"the variable {self.env}" if self.env else f"the file {self.file}"


@dataclass(frozen=True)
class SecretName:
    name: str


SecretText: TypeAlias = tuple[str | SecretName, ...]
"""A text whose pieces are plain text or secrets."""


@dataclass(frozen=True, kw_only=True)
class SecretTexts:
    """The variables or headers of a step that contain secrets, by name, and their path in the document."""

    texts: Mapping[str, SecretText] = field(default_factory=dict)
    path: str = ""

    def names(self) -> set[str]:
        return {piece.name for text in self.texts.values() for piece in text if isinstance(piece, SecretName)}


_NEEDS_ONE = "needs env: (a variable of the daemon) or file: (a path), one of them"
SECRET = Object(
    "a secret",
    {
        "env": Field(
            text_of(_VARIABLE, "cannot be the variable for a secret; names must not begin with QW_, PG, DB_ or LD_"),
            "Environment variable of the daemon",
            null=False,
        ),
        "file": Field(
            checked(
                {"type": "string", "pattern": "^/"},
                lambda value: isinstance(value, str) and value[:1] == "/" and "\0" not in value and "${{" not in value,
                lambda value: f"must be an absolute path, not {str(value)[:60]!r}",
            ),
            "File that the daemon can read",
            null=False,
        ),
    },
    ref="secret",
    must=_NEEDS_ONE,
    one_of=(("env", "file"), _NEEDS_ONE),
)
_DECLARED = by_name(SECRET, _NAME, "is not a name of letters, digits and _")


def _secrets(value: Json, path: str, faults: list[Fault]) -> dict[str, Secret]:
    declared = _DECLARED.read(value, path, faults) or {}
    return {name: Secret(name=name, env=said["env"] or "", file=said["file"] or "") for name, said in declared.items()}


SECRETS_FIELD = Field(Type(_secrets, _DECLARED.schema), "Secrets of the steps, by name", default={})


def take_secrets(values: Json, path: str, faults: list[Fault]) -> tuple[Json, SecretTexts]:
    """Split *values* of variables or headers: those without secrets, and the texts with secrets. Adds to *faults*."""
    if not isinstance(values, dict):
        return values, SecretTexts()
    texts: dict[str, SecretText] = {}
    for name, value in values.items():
        if isinstance(value, str) and _MENTION.search(value):
            texts[name] = tuple(_pieces(value, below(path, name), faults))
    if not texts:
        return values, SecretTexts()
    return {name: value for name, value in values.items() if name not in texts}, SecretTexts(texts=texts, path=path)


def _pieces(value: str, path: str, faults: list[Fault]) -> Iterator[str | SecretName]:
    start = 0
    for reference in _REFERENCE.finditer(value):
        if value[start : reference.start()]:
            yield value[start : reference.start()]
        yield SecretName(next(name for name in reference.groups() if name is not None))
        start = reference.end()
    if value[start:]:
        yield value[start:]
    if "${{" in _REFERENCE.sub("", value):
        message = (
            "a text with a secret may hold ${{ secrets.NAME }} and plain text only; give other values apart, "
            "such as in another variable"
        )
        faults.append(Fault(path=path, message=message))


def undeclared(texts: SecretTexts, declared: Mapping[str, Secret], faults: list[Fault]) -> Iterator[Fault]:
    for target, text in texts.texts.items():
        for piece in text:
            if isinstance(piece, SecretName) and piece.name not in declared:
                guessed = hint(piece.name, declared, faults)
                message = f"takes the secret {piece.name[:60]!r}, which is not declared under secrets:{guessed}"
                yield Fault(path=below(texts.path, target), message=message)


def mentioned(value: Json) -> set[str]:
    """Return the names of the secrets used by any text in *value*."""
    names, stack = set(), [value]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            names |= {name for groups in _REFERENCE.findall(value) for name in groups if name}
        else:
            stack += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return names
