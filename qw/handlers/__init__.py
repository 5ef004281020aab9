"""The handlers of the built-in task types, and the `Handlers` object for those of applications."""

from qw.handlers.batch_function import BatchFunction
from qw.handlers.registry import Handler, HandlerKind, Handlers
from qw.handlers.surroundings import CallNext
from qw.handlers.task_function import TaskFunction

__all__ = ["BatchFunction", "CallNext", "Handler", "HandlerKind", "Handlers", "TaskFunction"]
