"""Converters from files of other tools to definition files, with a comment for everything that was not converted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module

from qw.core.errors import Invalid
from qw.core.task.payload import Json, JsonObject
from qw.definitions.imports.draft import Draft, text_of
from qw.definitions.source import read

TOOLS: Mapping[str, str] = {
    "github-actions": "GitHub Actions",
    "dagu": "Dagu",
    "argo": "Argo Workflows",
    "step-functions": "AWS Step Functions",
}


def convert(tool: str, text: str, name: str) -> str:
    """Return a definition file converted from *text*, a file of *tool*. *name* is used if the file contains no name.

    Raise Invalid if it is not a file of that tool.
    """
    module = import_module(f"qw.definitions.imports.{tool.replace('-', '_')}")
    converter: Callable[[JsonObject, str], Draft] = module.convert
    whole = Draft()
    for piece in _documents(text, _DOCUMENT[tool]) if tool in _DOCUMENT else [text]:
        source = read(piece, name)
        if not isinstance(source.value, dict):
            raise Invalid(f"{name}: not a file of {TOOLS[tool]}: it contains no object")
        try:
            made = converter(source.value, _stem(name))
        except Invalid:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Invalid(f"{name}: not a file of {TOOLS[tool]} that can be read: {error!r}") from error
        whole.workflows += made.workflows
        whole.schedules |= made.schedules
        whole.secrets |= made.secrets
        whole.notes += made.notes
    return text_of(whole, f"{name}, a file of {TOOLS[tool]},")


def recognized(document: Json) -> str | None:
    """Return the tool to which *document* seems to belong."""
    if not isinstance(document, dict) or document.keys() & {"workflows", "version"}:
        return None
    if "argoproj.io" in str(document.get("apiVersion", "")):
        return "argo"
    if "States" in document and "StartAt" in document:
        return "step-functions"
    if "jobs" in document and isinstance(document["jobs"], dict):
        return "github-actions"
    return "dagu" if isinstance(document.get("steps"), list | dict) else None


# A line of each document that defines a workflow, of the tools whose files may hold several.
_DOCUMENT = {
    "argo": re.compile(r"^kind:\s*(Cron|Cluster)?Workflow(Template)?\s*$", re.MULTILINE),
    "dagu": re.compile(r"^steps:", re.MULTILINE),
}


def _documents(text: str, line: re.Pattern[str]) -> list[str]:
    pieces = [piece for piece in re.split(r"(?m)^---\s*$", text) if piece.strip()]
    return [piece for piece in pieces if line.search(piece)] or pieces[:1]


def _stem(name: str) -> str:
    return re.sub(r"(\.asl)?\.(ya?ml|json)$", "", name.rpartition("/")[2])


__all__ = ["TOOLS", "convert", "recognized"]
