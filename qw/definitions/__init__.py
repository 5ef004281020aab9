"""Reads definition files (``workflows.yaml``) and reports all faults with line and column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from qw.core.errors import Fault, Invalid, NotFound
from qw.core.event.webhook import Webhook
from qw.core.expression.evaluation import kind
from qw.core.queue import Queue
from qw.core.schedule import Schedule
from qw.core.schedule.document import parse_schedule
from qw.core.task.command import CommandSpec
from qw.core.task.payload import Json, JsonObject
from qw.core.task.remote import Remote
from qw.core.workflow import Workflow, lint, parse_workflow
from qw.definitions.commands import parse_command
from qw.definitions.expansion import Expanded, expand
from qw.definitions.queues import parse_queue
from qw.definitions.remotes import parse_remote
from qw.definitions.schema import FILE
from qw.definitions.source import MAX_BYTES, YamlSource, read
from qw.definitions.tests import WorkflowTest, parse_test
from qw.definitions.webhooks import parse_webhook

__all__ = ["Definitions", "load", "loads"]

T = TypeVar("T")

MAX_FILES = 100  # in one set
_PLACE = re.compile(r":(\d+):(\d+)$")


@dataclass(frozen=True, kw_only=True)
class Definitions:
    """The definitions in a file. ``source``: its name in faults. ``document``: the whole file as data.

    ``owner``: the name of the set, if the file has one. ``warnings``: valid but probably wrong definitions.
    """

    workflows: Mapping[str, Workflow]
    commands: Mapping[str, CommandSpec]
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    queues: Mapping[str, Queue] = field(default_factory=dict)
    webhooks: Mapping[str, Webhook] = field(default_factory=dict)
    remotes: Mapping[str, Remote] = field(default_factory=dict)
    tests: Mapping[str, WorkflowTest] = field(default_factory=dict)
    source: str
    owner: str | None = None
    document: JsonObject = field(default_factory=dict, repr=False, compare=False)
    warnings: tuple[Fault, ...] = ()


def load(path: Path | str) -> Definitions:
    """Read the file at *path* and the files that it includes. Raise NotFound, or Invalid with all faults."""
    faults: list[Fault] = []
    files = _Files(Path(path).parent, faults)
    return _definitions(files.expanded(_read(path), Path(path)), faults)


def loads(content: str, name: str = "<text>") -> Definitions:
    """Read the definitions in *content*; *name* is its name in faults. Raise Invalid with all faults."""
    faults: list[Fault] = []
    source = read(content, name)

    def refuse(name: str, path: str) -> None:
        faults.append(Fault(path=source.where(path), message="only a file can include others"))

    return _definitions(expand(source, refuse, faults), faults)


def _read(path: Path | str) -> YamlSource:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except OSError as error:
        raise Invalid(Fault(path=str(path), message=f"cannot be read: {error.strerror}")) from None
    if len(content) > MAX_BYTES:
        raise Invalid(Fault(path=str(path), message=f"is longer than {MAX_BYTES:,} bytes"))
    try:
        return read(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise Invalid(Fault(path=str(path), message=f"not UTF-8 at byte {error.start}")) from None


class _Files:
    """Reads files that include others: each once, and only from *folder* and below."""

    def __init__(self, folder: Path, faults: list[Fault]) -> None:
        self._folder = folder.resolve()
        self._faults = faults
        self._done: dict[Path, Expanded | None] = {}

    def expanded(self, source: YamlSource, path: Path) -> Expanded:
        self._done[path.resolve()] = None  # not finished: a file that includes itself is rejected
        faults = self._faults

        def included(name: str, at: str) -> Expanded | None:
            try:
                return self._included(path.parent / name, name)
            except NotFound as error:
                faults.append(Fault(path=source.where(at), message=str(error)))
            except _NotIncluded as error:
                faults.append(Fault(path=source.where(at), message=str(error)))
            except Invalid as error:
                faults.extend(error.faults)
            return None

        whole = self._done[path.resolve()] = expand(source, included, faults)
        return whole

    def _included(self, path: Path, name: str) -> Expanded:
        real = path.resolve()
        if not real.is_relative_to(self._folder):
            raise _NotIncluded(f"{name[:200]!r} is not in {self._folder} or below, where the first file is")
        if real in self._done:
            done = self._done[real]
            if done is None:
                raise _NotIncluded(f"{name[:200]!r} includes this file, directly or through others")
            return done
        if len(self._done) >= MAX_FILES:
            raise _NotIncluded(f"more than {MAX_FILES} files")
        source = _read(path)
        _document(source, source.value, self._faults)
        return self.expanded(source, path)


class _NotIncluded(Exception):
    pass


def _definitions(whole: Expanded, faults: list[Fault]) -> Definitions:
    source = whole.source
    document = _document(source, whole.document, faults)
    owner = document.get("owner")
    workflows = _section(document, "workflows", parse_workflow, source, faults)
    definitions = Definitions(
        workflows=workflows,
        schedules=_section(document, "schedules", parse_schedule, source, faults),
        queues=_section(document, "queues", parse_queue, source, faults),
        commands=_section(document, "commands", parse_command, source, faults),
        webhooks=_section(document, "webhooks", parse_webhook, source, faults),
        remotes=_section(document, "remote", parse_remote, source, faults),
        tests=_section(document, "tests", parse_test, source, faults),
        source=source.name,
        owner=owner if isinstance(owner, str) else None,
        document=document,
        warnings=tuple(sorted(_warnings(workflows, source), key=_line)),
    )
    if faults:
        raise Invalid(*sorted(dict.fromkeys(faults), key=_line))
    return definitions


def _document(source: YamlSource, document: Json, faults: list[Fault]) -> JsonObject:
    """Return *document*, after checking the keys of the file itself."""
    if not isinstance(source.value, dict) or not isinstance(document, dict):
        message = f"must hold version: 1 and workflows:, schedules: or commands:, not {kind(source.value)}"
        faults.append(Fault(path=source.where(""), message=message))
        return {}
    file_faults: list[Fault] = []
    FILE.read(source.value, "", file_faults)
    faults += [Fault(path=source.where(fault.path), message=fault.message) for fault in file_faults]
    return document


def _section(
    document: JsonObject,
    key: str,
    parse: Callable[[str, Json, Callable[[str], str]], T],
    source: YamlSource,
    faults: list[Fault],
) -> dict[str, T]:
    section = document.get(key)
    parsed: dict[str, T] = {}
    for name, definition in section.items() if isinstance(section, dict) else ():
        base = f"{key}.{name}"

        def where(path: str, base: str = base) -> str:
            return source.where(f"{base}.{path}" if path else base)

        try:
            parsed[name] = parse(name, definition, where)
        except Invalid as error:
            faults += error.faults
    return parsed


def _warnings(workflows: Mapping[str, Workflow], source: YamlSource) -> Iterator[Fault]:
    for name, workflow in workflows.items():
        for fault in lint.warnings(workflow):
            yield Fault(path=source.where(f"workflows.{name}.{fault.path}"), message=fault.message)


def _line(fault: Fault) -> tuple[int, ...]:
    place = _PLACE.search(fault.path)
    return tuple(map(int, place.groups())) if place else (0, 0)
