"""Events, and the messages sent for them to brokers and webhooks."""

from qw.core.event.event import (
    DISPATCHING,
    LOUD,
    TYPES,
    Event,
    EventFormat,
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
    "EventFormat",
    "Message",
    "cloud_event",
    "default_types",
    "message",
    "nest_patterns",
    "select",
    "topic",
    "type_of_pattern",
]
