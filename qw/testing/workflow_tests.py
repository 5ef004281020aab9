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
    definitions = [load(file) for file in files]
    count = sum(len(file_tests.tests) for file_tests in definitions)
    assert count, f"no tests: in {', '.join(map(str, files)) or 'no file'}"
    faults = [fault for file_tests in definitions for fault in _faults(file_tests)]
    assert not faults, "\n".join(faults)
    return count


def _faults(definitions: Definitions) -> Iterator[str]:
    for name, test in definitions.tests.items():
        try:
            for fault in test.faults(definitions.workflows):
                yield f"{name}: {fault}"
        except Invalid as error:
            yield f"{name}: {error}"
