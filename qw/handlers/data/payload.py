"""The payload of a `data_processing` task."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

OPERATIONS = ("transform", "aggregate", "validate", "profile", "convert", "noop", "process_order")

Scalar = str | int | float | bool | None
Compared = Literal["=", "!=", "<", "<=", ">", ">=", "in", "not_in"]
Searched = Literal["contains", "starts_with", "ends_with"]
Function = Literal["count", "count_distinct", "sum", "avg", "min", "max", "median", "stddev"]
Type = Literal["text", "integer", "number", "boolean", "date", "timestamp"]
Format = Literal["csv", "json", "parquet"]


class RowFilter(BaseModel):
    """``{"column": "country", "op": "in", "value": ["DE", "AT"]}``; ``is_null`` and ``not_null`` take no value."""

    column: str
    op: Compared | Searched | Literal["is_null", "not_null"] = "="
    value: Scalar | list[Scalar] = None

    @model_validator(mode="after")
    def _fitting_value(self) -> RowFilter:
        if self.op in ("in", "not_in") and not isinstance(self.value, list):
            raise ValueError(f"{self.op} needs a list as value")
        if self.op not in ("in", "not_in") and isinstance(self.value, list):
            raise ValueError(f"{self.op} needs one value, not a list")
        if self.value is None and self.op not in ("is_null", "not_null"):
            raise ValueError(f"{self.op} needs a value; for missing ones there are is_null and not_null")
        return self


class Metric(BaseModel):
    """``{"name": "total", "function": "sum", "column": "revenue"}``; only `count` works without a column."""

    name: str
    function: Function
    column: str | None = None

    @model_validator(mode="after")
    def _column_given(self) -> Metric:
        if self.column is None and self.function != "count":
            raise ValueError(f"{self.function} needs a column")
        return self


class ColumnRule(BaseModel):
    """Conditions for every value of ``column``. All but ``required`` ignore missing values."""

    column: str
    required: bool = False
    unique: bool = False
    type: Type | None = None
    min: int | float | str | None = None
    max: int | float | str | None = None
    regex: Annotated[str, Field(max_length=1000)] | None = None


def _listed(value: object) -> object:
    return [value] if isinstance(value, (str, dict)) else value


def _names(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("a column is listed twice")
    return names


Names = Annotated[list[str], BeforeValidator(_listed), AfterValidator(_names)]


class DataPayload(BaseModel):
    """Rows are derived, then filtered, selected and renamed, sorted, and cut at ``limit``.

    ``derive`` maps new columns to expressions over the others, such as ``"round(revenue / orders, 2)"``; ``rename``
    maps old names to new ones; ``sort`` lists columns, with the prefix ``-`` for descending order.
    """

    dataset: str | None = None
    operation: str | None = None
    forceFailure: bool = False
    derive: dict[str, str] = {}
    where: Annotated[list[RowFilter], BeforeValidator(_listed)] = []
    select: Names | None = None
    rename: dict[str, str] = {}
    sort: Names = []
    limit: int | None = Field(default=None, ge=0)
    group_by: Names = []
    metrics: list[Metric] = []
    rules: list[ColumnRule] = []
    format: Format | None = None
    output: str | None = None
    order: Any = None
    orders: Any = None
    response: Any = None
