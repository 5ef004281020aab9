"""The result of a converter: workflows as documents with notes, and their YAML text."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import yaml

from qw.core.errors import Invalid
from qw.core.schedule.document import parse_schedule
from qw.core.task.payload import Json, JsonObject

_NOT_OF_ID = re.compile(r"[^A-Za-z0-9_-]+")


def retry_policy(attempts: int, **other: Json) -> JsonObject:
    """Return a ``retry:`` with this total number of attempts."""
    return {"max_retries": min(attempts, 32_000), **other}


@dataclass(kw_only=True)
class Noted:
    """A step with notes about what was not converted."""

    step: JsonObject
    notes: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class DraftWorkflow:
    """``head`` has all keys except the lists of steps."""

    name: str
    head: JsonObject = field(default_factory=dict)
    steps: list[Noted] = field(default_factory=list)
    on_failure: list[Noted] = field(default_factory=list)
    finally_steps: list[Noted] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def default_env(self, variables: JsonObject) -> None:
        defaults = self.head.setdefault("defaults", {})
        assert isinstance(defaults, dict)
        known = defaults.setdefault("env", {})
        assert isinstance(known, dict)
        known.update(variables)


@dataclass(kw_only=True)
class Draft:
    workflows: list[DraftWorkflow] = field(default_factory=list)
    schedules: JsonObject = field(default_factory=dict)
    secrets: JsonObject = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def schedule(self, workflow: DraftWorkflow, cron: Json, more: JsonObject | None = None) -> None:
        """Add a schedule for *workflow*, which may have several; an invalid cron line becomes a note."""
        number = sum(1 for one in self.schedules.values() if isinstance(one, dict) and one["workflow"] == workflow.name)
        line = str(cron).strip()
        try:
            parse_schedule(workflow.name, {"cron": line, "workflow": workflow.name, **(more or {})})
        except Invalid as error:
            why = "; ".join(fault.message for fault in error.faults)
            workflow.notes.append(f"schedule: {line} was not converted: {why}")
            return
        key = workflow.name if not number else f"{workflow.name}-{number + 1}"
        self.schedules[key] = {"cron": line, "workflow": workflow.name, **(more or {})}

    def secret(self, name: str) -> str:
        """Declare a secret that daemons read from the variable of that name. Return the expression for its value."""
        safe = variable(name)
        source = f"SECRET_{safe}" if re.match(r"QW_|PG|DB_|LD_|DATABASE_URL$", safe) else safe
        self.secrets[safe] = {"env": source}
        return f"${{{{ secrets.{safe} }}}}"


class Ids:
    """Makes valid, unique ids."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}
        self._taken: set[str] = set()

    def of(self, name: str) -> str:
        """Return the id for *name*, the same on each call."""
        if name not in self._of:
            self._of[name] = self.new(name)
        return self._of[name]

    def __contains__(self, name: str) -> bool:
        return name in self._of

    def new(self, name: str) -> str:
        wanted = _NOT_OF_ID.sub("-", name).strip("-")[:56] or "step"
        wanted = wanted if wanted[0].isalpha() or wanted[0] == "_" else f"s-{wanted}"
        found, number = wanted, 2
        while found in self._taken:
            found, number = f"{wanted}-{number}", number + 1
        self._taken.add(found)
        return found


def left_out(document: Iterable[str], known: Collection[str]) -> list[str]:
    """Return notes about keys that the converter does not know."""
    return [f"{key}: was not converted" for key in sorted(set(document) - {*known})]


def variable(name: str) -> str:
    """Return a valid environment variable for *name*."""
    found = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").upper()[:60] or "VALUE"
    return f"V_{found}" if not found[0].isalpha() or found.startswith(("QW_", "LD_")) else found


def workflow_name(name: str) -> str:
    """Return a valid name; two long names that differ at the end stay different."""
    found = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "imported"
    return found if len(found) <= 100 else f"{found[:91]}-{crc32(found.encode()):08x}"


def member(of: str, *keys: str) -> str:
    """Return the expression that reads *keys*, nested, from the expression *of*."""
    return of + "".join(f".{key}" if key.isidentifier() else f"[{json.dumps(key)}]" for key in keys)


def items(value: Json) -> list[Any]:
    """Return *value* as a list: a list unchanged, None as empty, another value as its only item."""
    return [] if value is None else value if isinstance(value, list) else [value]


def text_of(draft: Draft, origin: str) -> str:
    """Return the file, with a comment at each place that must be checked."""
    lines = [f"# Imported from {origin} by qw workflow import. Look at each line that begins with # TODO."]
    lines += [*_comments(draft.notes, ""), "version: 1"]
    if draft.secrets:
        lines += _dumped({"secrets": draft.secrets}, "")
    lines.append("workflows:")
    for workflow in draft.workflows:
        lines += [*_comments(workflow.notes, "  "), f"  {_key(workflow.name)}:"]
        if workflow.head:
            lines += _dumped(workflow.head, "    ")
        for key, steps in (
            ("steps", workflow.steps),
            ("on_failure", workflow.on_failure),
            ("finally", workflow.finally_steps),
        ):
            if steps:
                lines.append(f"    {key}:")
            for one in steps:
                lines += [*_comments(one.notes, "      "), *_item(one.step, "      ")]
    if draft.schedules:
        lines += _dumped({"schedules": draft.schedules}, "")
    return "\n".join(lines) + "\n"


def _comments(notes: list[str], indent: str) -> Iterator[str]:
    for note in dict.fromkeys(notes):
        yield f"{indent}# TODO {' '.join(note.split())}"


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _string(dumper: _Dumper, value: str) -> Any:
    style = "|" if "\n" in value and not re.search(r"[ \t]+\n", value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _string)


def _dumped(value: Json, indent: str) -> list[str]:
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return [f"{indent}{line}" if line else "" for line in text.splitlines()]


def _item(step: JsonObject, indent: str) -> list[str]:
    lines = _dumped(step, f"{indent}  ")
    return [f"{indent}- {lines[0].lstrip()}", *lines[1:]]


def _key(name: str) -> str:
    return str(yaml.dump(name, Dumper=_Dumper, width=1000)).splitlines()[0]
