"""What a file says once for all of its workflows: it becomes part of each, so that a run knows it by itself."""

from __future__ import annotations

from qw.core.errors import Fault
from qw.core.task.payload import JsonObject
from qw.core.workflow.secrets import mentioned, parse_secrets
from qw.definitions.source import YamlSource


def share_secrets(document: JsonObject, source: YamlSource, faults: list[Fault]) -> None:
    """Give each workflow those of the file's ``secrets:`` that it uses and does not declare itself."""
    found: list[Fault] = []
    declared = parse_secrets(document, found)
    faults += [Fault(path=source.where(fault.path), message=fault.message) for fault in found]
    workflows, secrets = document.get("workflows"), document.get("secrets")
    if not isinstance(workflows, dict) or not isinstance(secrets, dict):
        return
    for name, workflow in workflows.items():
        if not isinstance(workflow, dict) or not isinstance(own := workflow.get("secrets", {}), dict):
            continue
        wanted = mentioned(workflow) - own.keys()
        if not wanted <= declared.keys():
            wanted |= declared.keys()  # there is a fault, which may guess at one
        if used := sorted(wanted & declared.keys() - own.keys()):
            workflow["secrets"] = {**own, **{one: secrets[one] for one in used}}
            source.link(f"workflows.{name}.secrets", "secrets")
