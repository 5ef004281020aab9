"""`data_processing`: select, derive, aggregate, check, profile and convert CSV, JSON and Parquet files with DuckDB."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qw.core.errors import guess
from qw.core.task.handler_api import Failure, Reject
from qw.core.task.payload import Json
from qw.handlers.data.orders import process_order
from qw.handlers.data.payload import OPERATIONS, DataPayload
from qw.handlers.registry import Handlers

__all__ = ["OPERATIONS", "DataOptions", "ForcedFailure", "add_data_processing"]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """*directory*: has the datasets, and in ``output/`` the files of `convert`; None: only samples, no `convert`."""

    directory: Path | None = None


class ForcedFailure(Failure):
    """The payload requested a failure."""


def add_data_processing(app: Handlers, options: DataOptions) -> None:
    @app.handler("data_processing")
    def data_processing(payload: DataPayload) -> Json:
        if payload.forceFailure:
            raise ForcedFailure("Forced failure for testing purposes")
        operation = payload.operation or ("profile" if payload.dataset else "noop")
        if operation not in OPERATIONS:
            hint = guess(operation, OPERATIONS)
            raise Reject(f"operation: {operation[:60]!r} is unknown; known are {', '.join(OPERATIONS)}{hint}")
        if operation == "noop":
            return {"operation": operation}
        if operation == "process_order":
            return {"operation": operation, **process_order(payload)}
        return {"operation": operation, "dataset": payload.dataset, **_query(operation, payload, options.directory)}


def _query(operation: str, payload: DataPayload, directory: Path | None) -> dict[str, Json]:
    from qw.handlers.data import operations
    from qw.handlers.data.engine import opened

    with opened(payload.dataset, directory) as source:
        match operation:
            case "transform":
                return operations.transform(source, payload)
            case "aggregate":
                return operations.aggregate(source, payload)
            case "validate":
                return operations.validate(source, payload)
            case "profile":
                return operations.profile(source)
            case _:
                return operations.convert(source, payload)
