"""A queue and its limits."""

from qw.core.queue.queue import Queue

__all__ = ["Queue"]
