"""How many handlers of each kind a worker runs at once, and the change of these numbers while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qw.core.errors import Fault, Invalid

LARGEST: Mapping[str, int] = {"async": 10_000, "thread": 1_000, "process": 1_000}


@dataclass(frozen=True)
class SlotChange:
    """New numbers by kind: async handlers, sync handlers (``thread``), commands and process handlers (``process``).

    A kind that is not in *sizes* keeps its number.
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
        """As the audit shows it."""
        return ", ".join(f"{size} {kind}" for kind, size in self.sizes.items())
