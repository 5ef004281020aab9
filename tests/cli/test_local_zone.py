"""The time zone of a machine, from what its folders hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from qw.cli.options.local_zone import local_zone
from qw.core.errors import Invalid

TABLES = {
    "Europe/Berlin": b"berlin", "Asia/Tokyo": b"tokyo", "Etc/UTC": b"utc", "UTC": b"utc", "posix/Asia/Tokyo": b"tokyo",
    "Japan": b"tokyo", "tzdata.zi": b"#",
}  # fmt: skip


def found(tmp_path: Path, *, tz: str = "", content: bytes = b"", link: str = "", said: str = "") -> tuple[str, str]:
    tables, etc = tmp_path / "zoneinfo", tmp_path / "etc"
    etc.mkdir()
    for name, table in TABLES.items():
        (tables / name).parent.mkdir(parents=True, exist_ok=True)
        (tables / name).write_bytes(table)
    if link:
        (etc / "localtime").symlink_to(tables / link)
    elif content:
        (etc / "localtime").write_bytes(content)
    if said:
        (etc / "timezone").write_text(f"{said}\n")
    name, source = local_zone({"TZ": tz}, etc, [str(tables)])
    return name, source.removeprefix(f"{etc}/")


def test_tz_comes_first_and_must_be_the_name_of_a_zone(tmp_path: Path) -> None:
    assert found(tmp_path, tz=":Asia/Tokyo", link="Europe/Berlin") == ("Asia/Tokyo", "TZ")
    assert local_zone({"TZ": "/usr/share/zoneinfo/Asia/Tokyo"}) == ("Asia/Tokyo", "TZ")
    with pytest.raises(Invalid, match=r"TZ: 'CET-1CEST' is not a time zone.*--timezone"):
        local_zone({"TZ": "CET-1CEST"})


@pytest.mark.parametrize("link", ["Asia/Tokyo", "posix/Asia/Tokyo"])
def test_localtime_may_be_a_link(tmp_path: Path, link: str) -> None:
    assert found(tmp_path, link=link, said="Europe/Berlin") == ("Asia/Tokyo", "localtime")


def test_localtime_may_be_a_plain_file_with_the_content_of_a_zone(tmp_path: Path) -> None:
    assert found(tmp_path, content=b"tokyo", said="Europe/Berlin") == ("Asia/Tokyo", "localtime, by its content")


def test_of_zones_with_the_same_content_the_one_in_timezone_counts(tmp_path: Path) -> None:
    assert found(tmp_path, content=b"tokyo", said="Japan") == ("Japan", "localtime, by its content")


@pytest.mark.parametrize("content", [b"", b"of another version"])
def test_timezone_counts_where_localtime_says_nothing(tmp_path: Path, content: bytes) -> None:
    assert found(tmp_path, content=content, said="Europe/Berlin") == ("Europe/Berlin", "timezone")


def test_a_machine_that_does_not_say_is_in_utc_and_that_is_known(tmp_path: Path) -> None:
    assert found(tmp_path, said="no zone") == ("UTC", "")
