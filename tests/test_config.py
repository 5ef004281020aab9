from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from qw.config import LogFormat, Origin, Role, Settings, check_listening, load, redacted, shown
from qw.core.errors import Misconfigured

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a qw.toml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def faults(environ: dict[str, str], flags: dict[str, object] | None = None, file: Path | None = None) -> list[str]:
    with pytest.raises(Misconfigured) as caught:
        load(environ, flags, file)
    return [str(fault) for fault in caught.value.faults]


def display(settings: Settings) -> dict[str, str]:
    return {each.name: each.value for each in shown(settings)}


def test_nothing_set_means_the_defaults_and_a_private_database() -> None:
    settings = load({})

    assert settings.is_private
    assert settings.lease == timedelta(seconds=15)
    assert {each.origin for each in shown(settings)} == {Origin.DEFAULT}


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(here: Path) -> None:
    (here / "qw.toml").write_text("concurrency = 1\nthreads = 1\nlease = '20s'\n")
    environ = {"QW_CONCURRENCY": "2", "QW_THREADS": "2"}

    settings = load(environ, {"concurrency": 3, "threads": None})

    assert (settings.concurrency, settings.threads, settings.lease) == (3, 2, timedelta(seconds=20))
    assert settings.origins == {
        "concurrency": Origin.FLAG,
        "threads": Origin.ENVIRONMENT,
        "lease": Origin.FILE,
    }


def test_every_fault_is_listed_with_its_place(here: Path) -> None:
    (here / "qw.toml").write_text("grace = 'soon'\nthread = 1\n")

    said = faults({"QW_LEASE": "abc", "QW_QUEUES": "a b,c!", "QW_CONCURENCY": "1"}, {"port": 70_000})

    assert said == [
        "QW_CONCURENCY: is not a setting; did you mean 'QW_CONCURRENCY'?",
        "qw.toml: thread: is not a setting; did you mean 'threads'?",
        "QW_QUEUES: 'c!' is not a name: letters, digits and _ . : / - (at most 128)",
        "QW_LEASE: 'abc' is not a duration such as 30s, 5m, 2h or 1d",
        "qw.toml: grace: 'soon' is not a duration such as 30s, 5m, 2h or 1d",
        "--port: 70000 is not an integer from 1 to 65,535",
    ]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("QW_CONCURRENCY", "0"),
        ("QW_CONCURRENCY", "many"),
        ("QW_THREADS", "1.5"),
        ("QW_COMMAND_SLOTS", "99999999999999999999"),
        ("QW_HEARTBEAT", "-1s"),
        ("QW_LEASE", "1s"),
        ("QW_ALLOW_COMMANDS", "maybe"),
        ("QW_HTTP_ALLOW", "10.0.0.0/33"),
        ("QW_HTTP_ALLOW", "300.1.1.1"),
        ("QW_HTTP_BASE_URL", "ftp://x"),
        ("QW_DATABASE_URL", "mysql://h/db"),
        ("QW_EMAIL_URL", "mailto:x"),
        ("QW_MAIL_FROM", "nobody"),
        ("QW_MAIL_FROM", "a@b.c\nBcc: d@e.f"),
        ("QW_LOG_LEVEL", "loud"),
        ("QW_CORS_ORIGINS", "https://example.org/path"),
        ("QW_API_TOKENS", "me:admin"),
        ("QW_API_TOKENS", "me:king:x"),
        ("QW_API_TOKENS", "me:admin:x,me:viewer:y"),
        ("QW_DATABASE_URL_FILE", "nowhere"),
        ("QW_CONFIG", "nowhere.toml"),
        ("QW_HOME", "~no-such-user/qw"),
        ("PORT", "http"),
        ("DATABASE_URL", "sqlite:///x"),
    ],
)
def test_a_wrong_value_is_refused(variable: str, text: str) -> None:
    assert len(faults({variable: text})) == 1


def test_a_wrong_value_that_something_stronger_overrides_does_no_harm() -> None:
    assert load({"QW_LEASE": "abc"}, {"lease": "1m"}).lease == timedelta(minutes=1)


def test_a_lease_needs_two_heartbeats() -> None:
    assert faults({"QW_HEARTBEAT": "10s"}) == ["lease: 15s is too short: it must be at least two heartbeats of 10s"]


def test_variables_for_commands_and_tests_are_known() -> None:
    load({"QW_TASK_ID": "x", "QW_ATTEMPT": "1", "QW_PAYLOAD": "{}", "QW_RESULT": "f", "QW_TEST_POSTGRES_URL": "x"})


def test_the_variables_of_a_kubernetes_service_named_qw_are_explained() -> None:
    linked = {"QW_PORT": "tcp://10.0.0.7:3030", "QW_SERVICE_HOST": "10.0.0.7", "QW_PORT_3030_TCP_PROTO": "tcp"}

    [said] = faults(linked)

    assert "enableServiceLinks" in said


def test_empty_variables_count_as_not_set() -> None:
    assert load({"QW_LEASE": "", "QW_DATABASE_URL": " ", "PGHOST": "", "DB_NAME": ""}) == load({})


def test_lists_come_from_text_toml_and_flags(here: Path) -> None:
    (here / "qw.toml").write_text('http_allow = ["10.1.2.3/8", "Example.org"]\n')

    settings = load({"QW_CORS_ORIGINS": "https://a.b, https://c.d:8080"}, {"queues": ["mail", "pdf", "mail"]})

    assert settings.queues == ("mail", "pdf")
    assert settings.cors_origins == ("https://a.b", "https://c.d:8080")
    assert settings.http_allow == ("10.0.0.0/8", "example.org")


def test_one_variable_sets_both_retentions_and_each_has_its_own() -> None:
    settings = load({"QW_RETENTION": "1d", "QW_RETENTION_FAILED": "2d"})

    assert (settings.retention_completed, settings.retention_failed) == (timedelta(days=1), timedelta(days=2))


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"QW_DATABASE_URL": "postgresql:///a", "DATABASE_URL": "postgresql:///b"}, "postgresql:///a"),
        ({"DATABASE_URL": "postgres://h/b", "DB_HOST": "c"}, "postgres://h/b"),
        ({"DATABASE_URL": "host=/run dbname=x"}, "host=/run dbname=x"),
        ({"DB_HOST": "db", "DB_NAME": "n", "PGHOST": "d"}, "postgresql://db/n"),
        (
            {"DB_HOST": "db", "DB_PORT": "5433", "DB_NAME": "n", "DB_USERNAME": "u", "DB_PASSWORD": "p@/:%"},
            "postgresql://u:p%40%2F%3A%25@db:5433/n",
        ),
        ({"DB_NAME": "n"}, "postgresql://localhost/n"),
        ({"DB_HOST": "/run/pg"}, "postgresql://%2Frun%2Fpg/"),
        ({"DB_HOST": "::1"}, "postgresql://[::1]/"),
        ({"DB_NAME": "n", "DB_PASSWORD": "p"}, "postgresql://localhost/n?password=p"),
        ({"PGSERVICE": "s"}, ""),
        ({"PGHOST": "h"}, ""),
        ({"PGDATABASE": "d"}, ""),
        ({"PGUSER": "u", "PGPASSWORD": "p", "DB_PORT": "1"}, None),
    ],
)
def test_the_database_is_the_first_that_is_named(environ: dict[str, str], url: str | None) -> None:
    assert load(environ).database_url == url


def test_a_database_flag_beats_every_variable() -> None:
    settings = load({"QW_DATABASE_URL": "postgresql:///a"}, {"database_url": "postgresql:///flag"})

    assert settings.database_url == "postgresql:///flag"


def test_documented_variables_are_read_too() -> None:
    settings = load(
        {
            "PORT": "4000",
            "PDF_PROCESSOR_URL": "http://pdf",
            "EMAIL_SERVICE_URL": "smtp://mail",
            "ORDERS_URL": "orders.json",
        }
    )

    assert (settings.port, settings.pdf_url, settings.email_url) == (4000, "http://pdf", "smtp://mail")
    assert settings.orders_url == "orders.json"


def test_secrets_come_from_files_too(here: Path) -> None:
    (here / "tokens").write_text("me:admin:hush\nyou:viewer:a:b\n")
    (here / "password").write_text("hush\n")

    settings = load(
        {"QW_API_TOKENS_FILE": "tokens", "DB_HOST": "db", "DB_USERNAME": "u", "DB_PASSWORD_FILE": "password"}
    )

    assert [(token.name, token.role, token.secret) for token in settings.api_tokens] == [
        ("me", Role.ADMIN, "hush"),
        ("you", Role.VIEWER, "a:b"),
    ]
    assert settings.database_url == "postgresql://u:hush@db/"


def test_a_secret_is_given_once(here: Path) -> None:
    (here / "tokens").write_text("me:admin:hush")

    [said] = faults({"QW_API_TOKENS_FILE": "tokens", "QW_API_TOKENS": "me:admin:hush"})

    assert said == "QW_API_TOKENS: is set, and so is QW_API_TOKENS_FILE; set only one of them"


def test_no_secret_is_shown() -> None:
    settings = load(
        {
            "QW_API_TOKENS": "me:admin:hush",
            "QW_DATABASE_URL": "postgresql://u:hush@h/db?sslpassword=hush",
            "QW_LISTEN_URL": "host=h password='hush it' dbname=d",
            "QW_PDF_URL": "https://u:hush@pdf/?api_key=hush",
        }
    )

    assert "hush" not in repr(settings)
    assert "hush" not in repr(list(shown(settings)))
    assert display(settings)["api_tokens"] == "me:admin:***"
    assert display(settings)["database_url"] == "postgresql://u:***@h/db?sslpassword=***"
    assert display(settings)["listen_url"] == "host=h password=*** dbname=d"


def test_no_message_has_a_secret() -> None:
    said = faults({"QW_API_TOKENS": "me:hush", "DATABASE_URL": "mysql://u:hush@h", "QW_EMAIL_URL": "ftp://u:hush@h"})

    assert len(said) == 3
    assert "hush" not in str(said)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("postgresql://u:p@h:1/db", "postgresql://u:***@h:1/db"),
        ("postgresql://u:p@ss/w@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("http://h:80/x?token=t&y=1", "http://h:80/x?token=***&y=1"),
    ],
)
def test_redacted_keeps_what_is_no_secret(text: str, safe: str) -> None:
    assert redacted(text) == safe


def test_paths_of_a_file_are_meant_from_its_directory(here: Path) -> None:
    (here / "etc").mkdir()
    (here / "etc" / "my.toml").write_text('data_dir = "data"\nhome = "/srv/qw"\n')

    settings = load({"QW_CONFIG": "etc/my.toml"}, {"pg_bin": Path("bin")})

    assert settings.data_dir == here / "etc" / "data"
    assert settings.pg_bin == here / "bin"
    assert settings.output_dir == Path("/srv/qw/output")


def test_a_file_that_is_no_toml_is_named_with_the_line(here: Path) -> None:
    (here / "qw.toml").write_text("lease = 1\nlease\n")

    [said] = faults({})

    assert said.startswith("qw.toml: cannot be read: ")
    assert "line 2" in said


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_tokens(host: str) -> None:
    check_listening(load({"QW_HOST": host}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_other_addresses_need_tokens(host: str) -> None:
    check_listening(load({"QW_HOST": host, "QW_API_TOKENS": "me:admin:hush"}))

    with pytest.raises(Misconfigured, match="QW_API_TOKENS"):
        check_listening(load({"QW_HOST": host, "QW_API_TOKENS": ""}))


def test_what_is_shown_can_be_read_again() -> None:
    first = load({"QW_GRACE": "90s", "QW_QUEUES": "a,b", "QW_LOG_FORMAT": "JSON", "QW_ALLOW_COMMANDS": "no"})

    again = load({each.variable: each.value for each in shown(first)})

    assert again == first
    assert again.log_format is LogFormat.JSON


def test_importing_the_settings_imports_nothing_heavy() -> None:
    heavy = "pydantic psycopg tomllib typer rich asyncio"
    program = f"import sys, qw.config; print([name for name in {heavy.split()} if name in sys.modules])"

    assert subprocess.check_output([sys.executable, "-c", program], text=True, cwd=CHECKOUT) == "[]\n"
