"""Expands what files share between workflows: ``include``, ``defaults``, ``secrets`` and step templates.

The result contains only keys of single workflows, so a run, which stores its definition, needs no file. Each expanded
part is linked to the file and line in which it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from qw.core.errors import Fault
from qw.core.expression.evaluation import kind
from qw.core.parsing import below, hint, names
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow.defaults import DEFAULTS_FIELD, merged
from qw.core.workflow.secrets import SECRETS_FIELD, mentioned
from qw.core.workflow.step_template import StepTemplate, from_template, parse_template
from qw.definitions.source import YamlSource

SHARED = ("secrets", "templates")  # sections of included files that the including file may use
SECTIONS = ("workflows", "schedules", "queues", "commands", "webhooks", "remote")
_LISTS = ("steps", "on_failure", "finally")


@dataclass(kw_only=True)
class Expanded:
    """A file with its includes: ``document`` has SECTIONS and the sections to share; ``source`` has all places."""

    source: YamlSource
    document: JsonObject
    templates: dict[str, StepTemplate] = field(default_factory=dict)


Included = Callable[[str, str], "Expanded | None"]
"""Reads a file named by ``include:``, given the name and its path in the document; None if it cannot be read."""


def expand(source: YamlSource, included: Included, faults: list[Fault]) -> Expanded:
    """Return the expanded file *source*. Adds to *faults*, each with its place."""
    document = dict(source.value) if isinstance(source.value, dict) else {}
    whole = Expanded(source=source, document=document)
    found: list[Fault] = []
    others = [other for name, path in _names(document, found) if (other := included(name, path))]
    for section in SHARED:
        _join(whole, section, others, found)
    own = list(_workflows(document))
    _read_templates(whole, others, found)
    for name, workflow in own:
        _use_templates(whole, name, workflow, found)
    _share_defaults(whole, own, found)
    _share_secrets(whole, own, found)
    for section in SECTIONS:
        _join(whole, section, others, found)
    faults += [Fault(path=source.where(fault.path), message=fault.message) for fault in found]
    return whole


def _names(document: JsonObject, faults: list[Fault]) -> Iterator[tuple[str, str]]:
    value = document.pop("include", None)
    for n, name in enumerate(names(value, "include", faults)):
        yield name, f"include[{n}]" if isinstance(value, list) else "include"


def _join(whole: Expanded, section: str, others: list[Expanded], faults: list[Fault]) -> None:
    """Add the definitions of *section* in the included files to those of the file itself."""
    own = whole.document.get(section)
    if not isinstance(own, dict | None):
        return
    joined = dict(own or {})
    for other in others:
        theirs = other.document.get(section)
        for name, value in theirs.items() if isinstance(theirs, dict) else ():
            path = f"{section}.{name}"
            if name in joined and joined[name] is not value:
                message = f"{name[:60]!r} is also defined at {other.source.where(path)}"
                faults.append(Fault(path=path, message=message))
            elif name not in joined:
                joined[name] = value
                whole.source.link(path, path, of=other.source)
    if joined:
        whole.document[section] = joined


def _workflows(document: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """Yield the workflows of the file itself, as copies that may be changed."""
    listed = document.get("workflows")
    if not isinstance(listed, dict):
        return
    listed = document["workflows"] = dict(listed)
    for name, workflow in listed.items():
        if isinstance(workflow, dict):
            listed[name] = copy = dict(workflow)
            yield name, copy


# -- step templates


def _read_templates(whole: Expanded, others: list[Expanded], faults: list[Fault]) -> None:
    for other in others:
        whole.templates |= other.templates
    listed = whole.document.get("templates")
    if listed is not None and not isinstance(listed, dict):
        faults.append(Fault(path="templates", message=f"must be an object, not {kind(listed)}"))
    for name, document in listed.items() if isinstance(listed, dict) else ():
        if any(name in other.templates for other in others):
            continue  # parsed with its own file
        found: list[Fault] = []
        if template := parse_template(name, document, found):
            whole.templates[name] = template
        faults += [Fault(path=below(f"templates.{name}", one.path), message=one.message) for one in found]


def _use_templates(whole: Expanded, name: str, workflow: JsonObject, faults: list[Fault]) -> None:
    for key in _LISTS:
        if not isinstance(steps := workflow.get(key), list):
            continue
        base = f"workflows.{name}.{key}"
        workflow[key] = [_step(whole, step, f"{base}[{n}]", faults) for n, step in enumerate(steps)]


def _step(whole: Expanded, step: Json, path: str, faults: list[Fault]) -> Json:
    if not isinstance(step, dict) or not ("template" in step or "params" in step):
        return step
    used = step.get("template")
    template = whole.templates.get(used) if isinstance(used, str) else None
    if template is None:
        known = ", ".join(whole.templates) or "none"
        guessed = hint(str(used), whole.templates, faults)
        message = f"there is no template {str(used)[:60]!r} under templates:; there are: {known}{guessed}"
        faults.append(Fault(path=below(path, "template"), message=message))
        return {key: value for key, value in step.items() if key not in ("template", "params")} | {"type": "noop"}
    _link_merged(whole.source, path, f"templates.{template.name}", template.step, step)
    found: list[Fault] = []
    made = from_template(template, step, found)
    faults += [Fault(path=below(path, fault.path), message=fault.message) for fault in found]
    return made


def _link_merged(source: YamlSource, path: str, written: str, base: JsonObject, own: JsonObject) -> None:
    """Link keys that *own*, at *path*, takes from a shared definition to the place *written*."""
    for key, value in base.items():
        mine = own.get(key)
        if mine is None:
            source.link(f"{path}.{key}", f"{written}.{key}")
        elif isinstance(value, dict) and isinstance(mine, dict):
            for inner in value.keys() - mine.keys():
                source.link(f"{path}.{key}.{inner}", f"{written}.{key}.{inner}")


# -- defaults and secrets


def _share_defaults(whole: Expanded, own: list[tuple[str, JsonObject]], faults: list[Fault]) -> None:
    shared = DEFAULTS_FIELD.read(whole.document, "defaults", "", faults)
    whole.document.pop("defaults", None)
    for name, workflow in own if shared else ():
        mine = workflow.get("defaults")
        if not isinstance(mine, dict | None):
            continue
        mine = mine or {}
        _link_merged(whole.source, f"workflows.{name}.defaults", "defaults", shared, mine)
        workflow["defaults"] = {**mine, **{key: merged(key, value, mine.get(key)) for key, value in shared.items()}}


def _share_secrets(whole: Expanded, own: list[tuple[str, JsonObject]], faults: list[Fault]) -> None:
    """Add to each workflow those of the file's ``secrets:`` that it uses but does not declare."""
    declared = SECRETS_FIELD.read(whole.document, "secrets", "", faults)
    secrets = whole.document.get("secrets")
    if not isinstance(secrets, dict):
        return
    for name, workflow in own:
        mine = workflow.get("secrets", {})
        if not isinstance(mine, dict):
            continue
        wanted = mentioned(workflow) - mine.keys()
        if not wanted <= declared.keys():
            wanted |= declared.keys()  # an undeclared secret: the fault may suggest any declared name
        for one in sorted(wanted & declared.keys() - mine.keys()):
            mine = {**mine, one: secrets[one]}
            whole.source.link(f"workflows.{name}.secrets.{one}", f"secrets.{one}")
        if mine:
            workflow["secrets"] = mine


__all__ = ["Expanded", "Included", "expand"]
