"""The number of handlers of each kind that a worker runs at once, and changes of it at run time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qw.core.errors import Fault, Invalid

LARGEST: Mapping[str, int] = {"async": 10_000, "thread": 1_000, "process": 1_000}


@dataclass(frozen=True)
class SlotChange:
    """New numbers by kind: async handlers, sync handlers (``thread``), commands and process handlers (``process``).

    Kinds that are not in *sizes* keep their number.
    """

    sizes: Mapping[str, int]

    def __post_init__(self) -> None:
        if not self.sizes:
            raise Invalid(f"no number of slots given; the kinds are {', '.join(LARGEST)}")
        faults = [
            Fault(path=kind, message=f"must be 1 to {LARGEST[kind]:,}, not {size:,}")
            for kind, size in self.sizes.items()
            if not 1 <= size <= LARGEST[kind]
        ]
        if faults:
            raise Invalid(*faults)

    @property
    def name(self) -> str:
        """The change as text for the audit log."""
        return ", ".join(f"{size} {kind}" for kind, size in self.sizes.items())
