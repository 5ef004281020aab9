"""What runs the types that come with qw, and the `Handlers` object for your own."""

from qw.handlers.registry import Handler, HandlerKind, Handlers

__all__ = ["Handler", "HandlerKind", "Handlers"]
