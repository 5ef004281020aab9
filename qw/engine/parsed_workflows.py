"""A cache of parsed definitions: versions never change, and parsing 1,000 steps takes 0.2 s."""

from __future__ import annotations

from qw.core.task.payload import JsonObject
from qw.core.workflow import Workflow, parse_workflow
from qw.store.runs import StoredRun

_MOST = 256
_parsed: dict[tuple[str, str], Workflow] = {}  # by workflow name and digest of the document


def known_workflow(run: StoredRun) -> Workflow | None:
    """Return the definition of *run* if it is cached."""
    return _parsed.get((run.workflow, run.digest))


def workflow_of(run: StoredRun, document: JsonObject) -> Workflow:
    """Return the definition of *run*, parsed from *document*. Raise Invalid if this version of qw cannot parse it."""
    if workflow := known_workflow(run):
        return workflow
    if len(_parsed) >= _MOST:
        _parsed.clear()
    workflow = _parsed[run.workflow, run.digest] = parse_workflow(run.workflow, document)
    return workflow
