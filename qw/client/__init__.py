"""The asyncio Python client: see `Client`."""

from qw.client.client import COPY_BATCH, Client
from qw.core.task import Enqueued, Status, Task
from qw.store.tasks import Filter

__all__ = ["COPY_BATCH", "Client", "Enqueued", "Filter", "Status", "Task"]
