"""Secrets of steps: put in by the daemon, stored, logged and told nowhere, refused where they could be."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qw.core.errors import Invalid
from qw.core.task.secret_mask import MaskedStream, SecretMask
from qw.definitions import loads
from qw.store.connection import Connection
from tests.given import column
from tests.handlers.local import service
from tests.running import Runner, runner

VALUE = 's3cret-"value"-\\of-a-shop'


@pytest.fixture
async def qw(url: str, tmp_path: Path) -> AsyncIterator[Runner]:
    async with runner(url, tmp_path, QW_HTTP_ALLOW="127.0.0.1") as running:
        yield running


async def stored_anywhere(conn: Connection, text: str) -> list[str]:
    """The tables that hold *text*, as it is, or as it stands in JSON."""
    found = []
    for table in await column(
        conn, "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'qw'"
    ):
        for spelling in (text, json.dumps(text)[1:-1], json.dumps(json.dumps(text)[1:-1])[1:-1]):
            rows = await conn.execute(
                f"select 1 from {table} t where position(%s in t::text) > 0 or position(%s in t::text) > 0",
                [spelling, spelling.encode().hex()],
            )
            if await rows.fetchone():
                found.append(table)
    return found


SHOP = """
secrets:
  TOKEN: { env: SHOP_TOKEN }
  KEY: { file: %s }
workflows:
  shop:
    steps:
      - id: show
        run: |
          echo "token $TOKEN"; echo "header $HEADER" >&2
          printf '{"token": "%%s"}' x > "$QW_RESULT"; echo "key=$KEY" >> "$QW_OUTPUT"
          printf %%s "$TOKEN" > all; printf %%s "$KEY" >> all
        env: { TOKEN: "${{ secrets.TOKEN }}", HEADER: "Bearer ${{ secrets.TOKEN }}", KEY: "${{secrets['KEY']}}" }
        artifacts: { all: all }
      - id: fail
        needs: show
        run: 'echo "no: $TOKEN" >&2; exit 3'
        env: { TOKEN: "${{ secrets.TOKEN }}" }
        retry: { max_retries: 1 }
"""


async def test_a_secret_reaches_the_command_and_nothing_else(
    qw: Runner, conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("file-key-of-a-shop\n")
    monkeypatch.setenv("SHOP_TOKEN", VALUE)

    run = await qw.run(SHOP % (tmp_path / "key"))

    steps = await qw.steps(run.id)
    shown = steps["show"].result
    assert isinstance(shown, dict)
    assert shown["stdout"] == "token ***\n"
    assert shown["outputs"] == {"key": "***"}
    assert run.error == "step fail: exit code 3: no: ***"
    (made,) = qw.folder.glob("artifacts/*/*/all")
    assert made.read_text() == f"{VALUE}file-key-of-a-shop"
    logged = await column(conn, "select message from qw.task_log order by id")
    assert sorted(logged) == ["header Bearer ***", "no: ***", "token ***"]
    assert await stored_anywhere(conn, "token ***")
    assert await stored_anywhere(conn, VALUE) == []
    assert await stored_anywhere(conn, "file-key-of-a-shop") == []


async def test_a_secret_reaches_the_headers_of_a_request_and_not_what_is_kept_of_the_answer(
    qw: Runner, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "plain-secret")
    async with service({"you said": "Bearer plain-secret"}) as shop:
        shop.headers = {"x-echo": "plain-secret"}
        text = f"""
workflows:
  call:
    secrets: {{ TOKEN: {{ env: SHOP_TOKEN }} }}
    steps:
      - id: ask
        type: http_request
        with:
          url: {shop.url}/
          headers: {{ Authorization: "Bearer ${{{{ secrets.TOKEN }}}}", X-Other: "${{{{ run.id }}}}" }}
        retry: {{ max_retries: 1 }}
"""
        run = await qw.run(text)
        shop.status = 500
        failed = await qw.run(text)

    assert shop.received[0].headers["authorization"] == "Bearer plain-secret"
    assert shop.received[0].headers["x-other"] == str(run.id)
    asked = (await qw.steps(run.id))["ask"].result
    assert isinstance(asked, dict)
    assert asked["response"] == {"you said": "Bearer ***"}
    assert failed.status == "failed"
    assert await stored_anywhere(conn, "plain-secret") == []


async def test_missing_secrets_fail_the_step_before_it_starts_with_their_names(
    qw: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHOP_TOKEN", raising=False)

    run = await qw.run(SHOP % (tmp_path / "key"))

    assert run.error == (
        f"step show: secret KEY: the file {tmp_path}/key cannot be read: No such file or directory; "
        "secret TOKEN: the variable SHOP_TOKEN is not set for this daemon"
    )
    assert not list(qw.folder.glob("artifacts/*/*/all"))


async def test_a_daemon_without_commands_reads_what_its_operator_names(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "plain-secret")
    async with service({}) as shop:
        text = f"""
workflows:
  call:
    secrets: {{ TOKEN: {{ env: SHOP_TOKEN }} }}
    steps:
      - id: ask
        type: http_request
        with: {{ url: {shop.url}, headers: {{ X-Key: "${{{{ secrets.TOKEN }}}}" }} }}
"""
        settings = {"QW_ALLOW_COMMANDS": "no", "QW_HTTP_ALLOW": "127.0.0.1"}
        async with runner(url, tmp_path, **settings) as careful:
            refused = await careful.run(text)
        async with runner(url, tmp_path, **settings, QW_SECRET_SOURCES="SHOP_*") as named:
            served = await named.run(text)
        async with runner(url, tmp_path, **settings, definitions=text) as own:
            local = await own.run(text)

    assert refused.error == (
        "step ask: secret TOKEN: this daemon may not read the variable SHOP_TOKEN: name it in QW_SECRET_SOURCES"
    )
    assert (served.status, local.status) == ("completed", "completed")
    assert [one.headers["x-key"] for one in shop.received] == ["plain-secret"] * 2


async def test_a_task_that_is_no_step_gets_no_secret(qw: Runner) -> None:
    from qw.core.task import NewTask
    from qw.store.ids import new_id

    new = NewTask(id=new_id(), type="command", payload={"run": "env", "secrets": ["TOKEN"]})
    task = await qw.shop.run_one(new)

    assert task.error == "secrets: only a step of a workflow has secrets"


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("run: 'echo ${{ secrets.TOKEN }}'", "workflows.yaml:5:18: contains an expression"),
        (
            'run: cat, stdin: "${{ secrets.TOKEN }}"',
            "workflows.yaml:5:28: a secret has a value in env: of a shell step",
        ),
        ('run: cat, cwd: "/${{ secrets.TOKEN }}"', "workflows.yaml:5:28: a secret has a value in env: of a shell step"),
        ('type: noop, with: { a: "${{ secrets.TOKEN }}" }', "workflows.yaml:5:38: a secret has a value in env:"),
        (
            'type: http_request, with: { url: "https://x/${{ secrets.TOKEN }}" }',
            "workflows.yaml:5:46: a secret has a value in env:",
        ),
        ('run: "true", if: "secrets.TOKEN"', "workflows.yaml:5:31: a secret has a value in env: of a shell step"),
        (
            'run: "true", env: { A: "${{ secrets.TOKEN }}-${{ run.id }}" }',
            "workflows.yaml:5:38: a text with a secret may hold ${{ secrets.NAME }} and plain text only",
        ),
        (
            'run: "true", env: { A: "${{ upper(secrets.TOKEN) }}" }',
            "workflows.yaml:5:38: a text with a secret may hold ${{ secrets.NAME }} and plain text only",
        ),
        (
            'run: "true", env: { A: "${{ secrets.TOKEM }}" }',
            "workflows.yaml:5:38: takes the secret 'TOKEM', which is not declared under secrets:; did you mean 'TO",
        ),
    ],
)
def test_a_secret_that_could_be_stored_is_refused_with_its_place(step: str, message: str) -> None:
    text = f"secrets: {{ TOKEN: {{ env: T }} }}\nworkflows:\n  w:\n    steps:\n      - {{ id: a, {step} }}\n"
    with pytest.raises(Invalid) as raised:
        loads(text, "workflows.yaml")

    assert str(raised.value.faults[0]).startswith(message)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("{}", "3:3: needs env: (a variable of the daemon) or file: (a path), one of them"),
        ("{ env: A, file: /b }", "3:3: needs env: (a variable of the daemon) or file: (a path), one of them"),
        ("{ env: PGPASSWORD }", "3:12: 'PGPASSWORD' cannot be the variable for a secret; names must not begin with"),
        ("{ file: secret.txt }", "3:12: must be an absolute path, not 'secret.txt'"),
        ("plain", "3:3: needs env: (a variable of the daemon) or file: (a path), one of them"),
    ],
)
def test_a_declaration_that_names_no_source_is_refused(declared: str, message: str) -> None:
    with pytest.raises(Invalid) as raised:
        loads(f"workflows: {{}}\nsecrets:\n  TOKEN: {declared}\n", "w.yaml")

    assert str(raised.value.faults[0]).startswith(f"w.yaml:{message}")


def test_a_secret_is_masked_wherever_the_pieces_of_a_stream_are_cut() -> None:
    mask = SecretMask(["abcab", "abcabcd", "two\nlines"])
    text = b"x abcab y abcabcd z abcabc two\nlines; two only; abca"

    for size in range(1, 9):
        stream = MaskedStream(mask)
        shown = b"".join(stream.add(text[n : n + size]) for n in range(0, len(text), size)) + stream.end()
        assert shown == b"x *** y *** z ***c ***; *** only; abca", size
