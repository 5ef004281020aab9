"""What runs the types that come with qw, and the `Handlers` object for your own."""

from qw.handlers.registry import Handler, Handlers, Kind

__all__ = ["Handler", "Handlers", "Kind"]
