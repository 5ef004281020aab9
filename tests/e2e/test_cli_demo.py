"""``qw demo`` as a person runs it, on a private PostgreSQL that nobody else has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from pypdf import PdfReader

from qw import embedded
from tests.cli.program import Done, Qw, environment
from tests.databases import private_home

ORDERS = """\
order_id,customer_id,customer_name,status,invoiced,delivery_date,currency,item_name,price,quantity
A-1,early,Early Bird,processing,false,,EUR,Worm,1.00,1
A-2,zoë-7,Zoë Müller-Łukasiewicz,delivered,false,2026-10-01,EUR,Bücherregal,100.00,2
A-2,zoë-7,Zoë Müller-Łukasiewicz,delivered,false,2026-10-01,EUR,Schraube,0.125,8
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with private_home() as home:
        yield home


@pytest.fixture
def qw(home: Path, tmp_path: Path) -> Qw:
    return Qw(environment(QW_HOME=str(home), HOME=str(tmp_path)), tmp_path)


def shown(done: Done, name: str) -> str:
    """What stands after *name* on a line of its own."""
    found = re.search(rf"^{name} +(.+)$", done.out, re.MULTILINE)
    assert found, done.out + done.err
    return found[1]


def test_the_demo_makes_an_invoice_and_stops_what_it_started(qw: Qw, home: Path) -> None:
    done = qw.process("demo")

    assert (done.code, done.err) == (0, "")
    assert re.findall(r"^(\w+) +\w+ +completed", done.out, re.MULTILINE) == ["orders", "invoice", "pdf", "email"]
    total = shown(done, "total").split(",")[0]
    text = "".join(page.extract_text() for page in PdfReader(shown(done, "PDF")).pages)
    assert total.split(" ")[0].replace(".", ",") in text  # the sample customer reads German
    mail = message_from_bytes(Path(shown(done, "mail")).read_bytes(), policy=default)
    assert [part.get_filename() for part in mail.iter_attachments()] == [Path(shown(done, "PDF")).name]
    assert embedded.running(home) is None


def test_what_the_demo_says_to_try_next_works(qw: Qw) -> None:
    done = qw.process("demo", "--customer", "acme", "--keep")
    command = re.search(r"qw (workflow show \S+)", done.out)

    assert command is not None
    page = qw(*command[1].split())
    assert page.code == 0
    assert "completed" in page.out
    assert len(qw("task", "list", "--status", "completed", "--type", "send_email", "--quiet").ids) >= 1


def test_the_demo_takes_the_users_own_orders(qw: Qw) -> None:
    (qw.folder / "mine.csv").write_text(ORDERS)

    done = qw.process("demo", "--orders", "mine.csv")

    assert done.code == 0, done.err
    assert shown(done, "customer") == "Zoë Müller-Łukasiewicz"
    assert shown(done, "total") == "221.10 EUR, of which 20.10 is tax"


def test_a_customer_without_delivered_orders_has_nothing_to_be_billed(qw: Qw) -> None:
    (qw.folder / "mine.csv").write_text(ORDERS)

    done = qw.process("demo", "--orders", "mine.csv", "--customer", "early")

    assert done.code == 0
    assert "Nothing to bill: early has no delivered orders" in done.out


def test_when_a_service_fails_the_demo_says_where_and_what_was_undone(qw: Qw) -> None:
    done = qw.process("demo", PDF_PROCESSOR_URL="http://127.0.0.1:9/pdf")

    assert (done.code, done.err) == (1, "")
    assert "The run is failed: step pdf: PDF generation failed" in done.out
    assert "PDF generation failed" in done.out
    assert "create_invoice: undone" in done.out
    failed = qw("task", "list", "--status", "failed", "--type", "generate_pdf", "-o", "json").json[0]
    assert failed["attempt"] == 3
    assert len(qw("task", "list", "--run", failed["run_id"], "--type", "compensation", "--quiet").ids) == 1


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (ORDERS.splitlines()[0] + "\n", 2, "no customer has a delivered order that is not invoiced yet"),
        ("order_id\n1\n", 2, "the column"),
        (None, 2, "no such file"),
    ],
)
def test_orders_that_cannot_be_used_are_refused_before_anything_starts(
    qw: Qw, content: str | None, code: int, said: str
) -> None:
    if content is not None:
        (qw.folder / "mine.csv").write_text(content)

    done = qw("demo", "--orders", "mine.csv")

    assert done.code == code
    assert said in done.err
    assert all(line.startswith("qw: ") and "mine.csv" in line for line in done.err.splitlines())


def test_the_private_server_is_started_and_stopped_by_hand(qw: Qw, home: Path) -> None:
    started, again = qw("db", "start", "-o", "json"), qw("db", "start", "-o", "json")
    stopped, twice = qw("db", "stop"), qw("db", "stop")

    assert started.json["url"] == again.json["url"]
    assert again.json["started"] is False
    assert "PostgreSQL stopped; its data is in" in stopped.err
    assert "was not running" in twice.err
    assert embedded.running(home) is None
