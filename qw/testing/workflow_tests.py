"""`check_workflows`: runs the ``tests:`` of definition files within a program's own tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qw.core.errors import Invalid
from qw.definitions import Definitions, load


def check_workflows(*files: str | Path) -> int:
    """Run the ``tests:`` of definition files and return their number. Runs no step and needs no database.

    Raise AssertionError naming each failed test and the reason, or if there are no tests; raise Invalid for a faulty
    file.
    """
    found = [load(file) for file in files]
    count = sum(len(one.tests) for one in found)
    assert count, f"no tests: in {', '.join(map(str, files)) or 'no file'}"
    faults = [fault for one in found for fault in _faults(one)]
    assert not faults, "\n".join(faults)
    return count


def _faults(found: Definitions) -> Iterator[str]:
    for name, one in found.tests.items():
        try:
            for fault in one.faults(found.workflows):
                yield f"{name}: {fault}"
        except Invalid as error:
            yield f"{name}: {error}"
