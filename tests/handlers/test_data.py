"""`data_processing` over real files, with DuckDB."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from qw.core.task.handler_api import Reject
from qw.handlers import HandlerKind, Handlers
from qw.handlers.data import OPERATIONS, DataOptions, ForcedFailure, add_data_processing
from qw.handlers.data.expressions import translate
from qw.handlers.data.operations import MAX_BYTES, MAX_ROWS
from tests.handlers.context import run

SALES = "id,city,price,amount\n1,Köln,2.50,4\n2,Łódź,10,1\n3,Köln,0.5,\n4,,3,2\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sales.csv").write_text(SALES)
    (tmp_path / "secret.txt").write_text("no dataset")
    return tmp_path


async def process(folder: Path | None = None, **payload: Any) -> Any:
    app = Handlers()
    add_data_processing(app, DataOptions(directory=folder))
    return await run(app, "data_processing", payload)


async def test_the_documented_example_runs_without_a_data_directory() -> None:
    result = await process(dataset="customer_data_2024", operation="transform", forceFailure=False)

    assert result["rows"] == 200
    assert result["data"][0]["customer_id"] == "C0001"
    assert not any(row["name"].isascii() for row in result["data"] if row["country_code"] == "GR")
    assert "truncated" not in result


async def test_a_forced_failure_has_the_documented_text() -> None:
    with pytest.raises(ForcedFailure, match=r"^Forced failure for testing purposes$"):
        await process(dataset="customer_data_2024", operation="transform", forceFailure=True)


async def test_the_default_is_a_profile_of_a_dataset_and_else_nothing(folder: Path) -> None:
    profile = await process(folder, dataset="sales")

    assert profile["operation"] == "profile"
    assert profile["rows"] == 4
    assert [column["column_name"] for column in profile["columns"]] == ["id", "city", "price", "amount"]
    assert await process() == {"operation": "noop"}


async def test_an_unknown_operation_names_the_known_ones() -> None:
    with pytest.raises(Reject, match=r"transform, aggregate, .* did you mean 'transform'"):
        await process(operation="transfrom")


async def test_rows_are_derived_filtered_picked_and_sorted(folder: Path) -> None:
    result = await process(
        folder,
        dataset="sales",
        operation="transform",
        derive={"total": "round(price * amount, 1)", "label": "concat(upper(city), '!')"},
        where=[{"column": "total", "op": ">=", "value": 6}],
        select=["city", "total", "label"],
        rename={"city": "Stadt"},
        sort=["-total", "id"],
        limit=2,
    )

    assert result["columns"] == ["Stadt", "total", "label"]
    assert result["data"] == [
        {"Stadt": "Köln", "total": 10.0, "label": "KÖLN!"},
        {"Stadt": "Łódź", "total": 10.0, "label": "ŁÓDŹ!"},
    ]


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ({"column": "id", "value": 2}, [2]),
        ({"column": "city", "op": "!=", "value": "Köln"}, [2]),
        ({"column": "id", "op": "in", "value": [1, 3]}, [1, 3]),
        ({"column": "id", "op": "not_in", "value": [1, 3]}, [2, 4]),
        ({"column": "id", "op": "in", "value": []}, []),
        ({"column": "city", "op": "contains", "value": "öl"}, [1, 3]),
        ({"column": "city", "op": "starts_with", "value": "Ł"}, [2]),
        ({"column": "price", "op": "ends_with", "value": "5"}, [1, 3]),
        ({"column": "city", "op": "is_null"}, [4]),
        ({"column": "amount", "op": "not_null"}, [1, 2, 4]),
    ],
)
async def test_conditions_mean_what_they_say(folder: Path, condition: dict[str, Any], ids: list[int]) -> None:
    result = await process(folder, dataset="sales", operation="transform", where=condition, sort="id")

    assert [row["id"] for row in result["data"]] == ids


async def test_aggregates_are_grouped(folder: Path) -> None:
    result = await process(
        folder,
        dataset="sales",
        operation="aggregate",
        group_by=["city"],
        metrics=[
            {"name": "n", "function": "count"},
            {"name": "top", "function": "max", "column": "price"},
            {"name": "kinds", "function": "count_distinct", "column": "price"},
        ],
        where={"column": "city", "op": "not_null"},
    )

    assert result["data"] == [
        {"city": "Köln", "n": 2, "top": 2.5, "kinds": 2},
        {"city": "Łódź", "n": 1, "top": 10.0, "kinds": 1},
    ]


async def test_without_metrics_rows_are_counted(folder: Path) -> None:
    assert (await process(folder, dataset="sales", operation="aggregate"))["data"] == [{"count": 4}]


async def test_validation_reports_what_breaks_which_rule(folder: Path) -> None:
    result = await process(
        folder,
        dataset="sales",
        operation="validate",
        rules=[
            {"column": "city", "required": True, "unique": True, "regex": "[A-Z].+"},
            {"column": "price", "type": "integer", "min": 1, "max": 5},
            {"column": "amount", "type": "number"},
        ],
    )

    assert result["valid"] is False
    assert [(fault["column"], fault["rule"], fault["count"], fault["examples"]) for fault in result["faults"]] == [
        ("city", "required", 1, [None]),
        ("city", "unique", 2, ["Köln"]),
        ("city", "regex", 1, ["Łódź"]),
        ("price", "type", 2, [0.5, 2.5]),
        ("price", "min", 1, [0.5]),
        ("price", "max", 1, [10.0]),
    ]


async def test_a_clean_dataset_is_valid(folder: Path) -> None:
    result = await process(folder, dataset="sales", operation="validate", rules=[{"column": "id", "unique": True}])

    assert result == {"operation": "validate", "dataset": "sales", "rows": 4, "valid": True, "faults": []}


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
async def test_what_convert_writes_can_be_read_again(folder: Path, format: str) -> None:
    for _ in range(2):  # a retry writes the same file
        written = await process(folder, dataset="sales", operation="convert", format=format, derive={"x": "id + 1"})
    again = await process(folder, dataset=f"output/sales.{format}", operation="transform", sort="id")

    assert written["file"] == f"output/sales.{format}"
    assert written["rows"] == 4
    assert written["bytes"] == (folder / "output" / f"sales.{format}").stat().st_size
    assert [(row["city"], row["x"]) for row in again["data"]] == [("Köln", 2), ("Łódź", 3), ("Köln", 4), (None, 5)]
    assert sorted(file.name for file in (folder / "output").iterdir()) == [f"sales.{format}"]


async def test_convert_needs_a_data_directory() -> None:
    with pytest.raises(Reject, match="QW_DATA_DIR"):
        await process(dataset="customer_data_2024", operation="convert", format="csv")


@pytest.mark.parametrize("name", ["../evil.csv", "/tmp/evil.csv", "a/b.csv", ".hidden", "x\0.csv"])
async def test_convert_stays_in_its_directory(folder: Path, name: str) -> None:
    with pytest.raises(Reject, match="not a file name"):
        await process(folder, dataset="sales", operation="convert", format="csv", output=name)


async def test_an_output_folder_that_is_a_link_is_refused(folder: Path, tmp_path_factory: Any) -> None:
    (folder / "output").symlink_to(tmp_path_factory.mktemp("elsewhere"))

    with pytest.raises(Reject, match="leads out"):
        await process(folder, dataset="sales", operation="convert", format="csv")


@pytest.mark.parametrize(
    "name", ["../sales", "/etc/passwd", "a/../../sales", "*", "sales.csv', '/etc/passwd", "http://x/y.csv", "~/x", "."]
)
async def test_only_names_below_the_data_directory_are_datasets(folder: Path, name: str) -> None:
    with pytest.raises(Reject, match="is not the name of a file"):
        await process(folder, dataset=name, operation="profile")


@pytest.mark.parametrize("name", ["slaes", "secret", "secret.txt"])
async def test_a_missing_dataset_names_those_that_exist(folder: Path, name: str) -> None:
    with pytest.raises(Reject, match=r"there are customer_data_2024, .*sales"):
        await process(folder, dataset=name, operation="profile")


async def test_a_link_out_of_the_data_directory_is_refused(folder: Path, tmp_path_factory: Any) -> None:
    outside = tmp_path_factory.mktemp("outside") / "x.csv"
    outside.write_text(SALES)
    (folder / "link.csv").symlink_to(outside)

    with pytest.raises(Reject, match="leads out of the data directory"):
        await process(folder, dataset="link", operation="profile")


@pytest.mark.parametrize("content", [b"", b"\x00\x01\xff" * 100])
async def test_an_unreadable_file_is_rejected(folder: Path, content: bytes) -> None:
    (folder / "broken.parquet").write_bytes(content)

    with pytest.raises(Reject, match="'broken' cannot be read"):
        await process(folder, dataset="broken", operation="profile")


@pytest.mark.parametrize(
    "payload",
    [
        {"select": ["id", "nope"]},
        {"select": ["id", "id"]},
        {"where": {"column": "nope", "value": 1}},
        {"where": {"column": "id", "op": "like", "value": 1}},
        {"where": {"column": "id", "op": "in", "value": 1}},
        {"where": {"column": "city", "op": "=", "value": None}},
        {"where": {"column": "id", "op": ">", "value": "x'; drop table y"}},
        {"sort": 'id" desc; select 1; --'},
        {"rename": {"id": "city"}},
        {"derive": {"id": "1"}},
        {"limit": -1},
    ],
)
async def test_a_bad_query_is_rejected(folder: Path, payload: dict[str, Any]) -> None:
    with pytest.raises(Reject):
        await process(folder, dataset="sales", operation="transform", **payload)


@pytest.mark.parametrize(
    "expression",
    [
        "read_text('/etc/passwd')",
        "getenv('HOME')",
        "(select 1)",
        "id; drop table x",
        "__import__('os')",
        "id.__class__",
        "[id for id in x]",
        "lambda: 1",
        "nope + 1",
        "id ** 9999",
        "round(id, digits=2)",
        "1 +",
        "(" * 5000,
        "",
    ],
)
async def test_a_derived_column_is_arithmetic_only(folder: Path, expression: str) -> None:
    with pytest.raises(Reject, match=r"derive|no column"):
        await process(folder, dataset="sales", operation="transform", derive={"x": expression})


def test_constants_of_expressions_are_parameters() -> None:
    assert translate("concat(city, 'o''; --') ", ["city"]) == ('concat("city", ?)', ["o; --"])


async def test_odd_column_names_are_quoted(folder: Path) -> None:
    (folder / "odd.csv").write_text('"a""b;--",c\n1,2\n')

    result = await process(folder, dataset="odd", operation="transform", sort='-a"b;--', rename={"c": "d';--"})

    assert result["data"] == [{'a"b;--': 1, "d';--": 2}]


@pytest.mark.parametrize("rows", [MAX_ROWS, MAX_ROWS + 1])
async def test_a_result_holds_a_thousand_rows(folder: Path, rows: int) -> None:
    (folder / "long.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(rows)))

    result = await process(folder, dataset="long", operation="transform")

    assert result["rows"] == rows
    assert len(result["data"]) == MAX_ROWS
    assert result.get("truncated", False) is (rows > MAX_ROWS)


async def test_a_result_is_cut_by_its_size(folder: Path) -> None:
    (folder / "wide.json").write_text(json.dumps([{"n": n, "text": "ö" * 10_000} for n in range(100)]))

    result = await process(folder, dataset="wide", operation="transform")

    assert result["truncated"] is True
    assert result["rows"] == 100
    assert 0 < len(json.dumps(result, ensure_ascii=False).encode()) <= MAX_BYTES + 1000


async def test_a_regular_expression_cannot_hang_the_worker(folder: Path) -> None:
    (folder / "evil.csv").write_text("text\n" + "a" * 50_000 + "!\n")

    result = await process(folder, dataset="evil", operation="validate", rules=[{"column": "text", "regex": "(a+)+$"}])

    assert result["faults"][0]["count"] == 1


async def test_process_order_sums_in_decimal() -> None:
    order = {"items": [{"price": 0.1, "quantity": 3}, {"price": "19.99", "quantity": 2}], "totalAmount": 40.28}

    result = await process(operation="process_order", order=order)

    assert result == {"operation": "process_order", "orders": 1, "items": 2, "totalAmount": 40.28}


@pytest.mark.parametrize(
    ("payload", "orders"),
    [
        ({}, 0),
        ({"response": {"id": 1, "title": "a todo"}}, 0),
        ({"response": "text"}, 0),
        ({"response": {"items": [{"price": 1, "quantity": 1}]}}, 1),
        ({"response": {"order": {"items": [{"price": 1, "quantity": 1}]}}}, 1),
        ({"response": {"orders": [{"items": [{"price": 1, "quantity": 1}]}] * 2}}, 2),
        ({"orders": []}, 0),
    ],
)
async def test_process_order_takes_what_the_previous_step_left(payload: dict[str, Any], orders: int) -> None:
    assert (await process(operation="process_order", **payload))["orders"] == orders


@pytest.mark.parametrize(
    ("order", "place"),
    [
        ("a parcel", "order.items"),
        ({"items": []}, "order.items"),
        ({"items": [{"price": -1, "quantity": 1}]}, r"order.items\[0\].price"),
        ({"items": [{"price": float("nan"), "quantity": 1}]}, r"order.items\[0\].price"),
        ({"items": [{"price": 1, "quantity": 1}, {"price": 1, "quantity": 1.5}]}, r"order.items\[1\].quantity"),
        ({"items": [{"price": 1, "quantity": True}]}, r"order.items\[0\].quantity"),
        ({"items": [{"price": 1e300, "quantity": 1}]}, r"order.items\[0\].price"),
        ({"items": [None]}, r"order.items\[0\].price"),
        ({"items": [{"price": 1, "quantity": 2}], "totalAmount": 3}, r"order.totalAmount: is 3, .* come to 2"),
    ],
)
async def test_a_wrong_order_is_rejected_with_its_place(order: Any, place: str) -> None:
    with pytest.raises(Reject, match=place):
        await process(operation="process_order", order=order)


async def test_without_duckdb_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)

    with pytest.raises(Reject, match=r"pip install 'qw\[data\]'"):
        await process(folder, dataset="sales", operation="profile")
    assert (await process(operation="noop")) == {"operation": "noop"}


def test_the_names_of_operations_cost_no_duckdb() -> None:
    code = "import sys; from qw.handlers.data import OPERATIONS; sys.exit('duckdb' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert "process_order" in OPERATIONS


def test_it_runs_in_a_thread() -> None:
    app = Handlers()
    add_data_processing(app, DataOptions())
    handler = app.get("data_processing")

    assert handler is not None
    assert handler.kind is HandlerKind.THREAD


def test_duckdb_prints_nothing_when_a_daemon_ends() -> None:
    """Its bindings count what is left of their objects, and print that, where the last look for cycles is left out."""
    code = (
        "import sys, qw.daemon.daemon, duckdb\n"
        "with duckdb.connect() as connection: connection.execute('select 1').fetchall()\n"
        "from qw.cli import main\n"
        "sys.argv = ['qw', '--version']\n"
        "main()\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


async def test_text_that_a_spreadsheet_would_run_is_written_as_text(folder: Path) -> None:
    rows = [{"=a": "=cmd()", "n": -5, "t": text} for text in ("+1+1", "-2+3", "@SUM(A1)", "\tx", "\rx", "-7.5", "a=b")]
    (folder / "cells.json").write_text(json.dumps(rows))

    await process(folder, dataset="cells", operation="convert", format="csv", output="cells.csv")

    with open(folder / "output" / "cells.csv", newline="") as file:
        title, *found = csv.reader(file)
    assert title == ["'=a", "n", "t"]
    assert {row[0] for row in found} == {"'=cmd()"}
    assert {row[1] for row in found} == {"-5"}
    assert [row[2] for row in found] == ["'+1+1", "'-2+3", "'@SUM(A1)", "'\tx", "'\rx", "-7.5", "a=b"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
async def test_a_file_with_too_many_columns_is_refused_at_once(folder: Path, separator: str) -> None:
    line = separator.join(f"c{n}" for n in range(20_000))
    (folder / "wide.csv").write_text(f"{line}\n{line}\n")

    started = time.monotonic()
    with pytest.raises(Reject, match="it has 20,000 columns; at most 2,000 are read"):
        await process(folder, dataset="wide")

    assert time.monotonic() - started < 60


async def test_a_file_that_is_one_endless_line_is_refused(folder: Path) -> None:
    (folder / "long.csv").write_text("x" * 2_000_000)

    with pytest.raises(Reject, match="its first line is longer than"):
        await process(folder, dataset="long")
