"""Events, and the messages sent for them to brokers and webhooks."""

from qw.core.event.event import (
    DISPATCHING,
    LOUD,
    TYPES,
    Event,
    Format,
    Message,
    cloud_event,
    default_types,
    message,
    nest_patterns,
    select,
    topic,
    type_of_pattern,
)

__all__ = [
    "DISPATCHING",
    "LOUD",
    "TYPES",
    "Event",
    "Format",
    "Message",
    "cloud_event",
    "default_types",
    "message",
    "nest_patterns",
    "select",
    "topic",
    "type_of_pattern",
]
