"""qw: a durable task queue in the PostgreSQL you already have."""

from qw._version import __version__

__all__ = ["__version__"]
