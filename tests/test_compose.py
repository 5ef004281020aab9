"""The compose files, the Dockerfile and qw say the same; none needs Docker to be tested for that."""

from __future__ import annotations

import http.server
import re
import socket
import subprocess
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from qw.config import load
from qw.config.loading import check_listening
from qw.config.values import Transport
from qw.daemon.brokers import address, transport
from qw.daemon.daemon import CLOSE_SECONDS
from qw.daemon.drain import KILL_SECONDS, RELAY_SECONDS, STOP_SECONDS, THREAD_SECONDS, WRITE_SECONDS

CHECKOUT = Path(__file__).parents[1]
COMPOSE = {
    name: yaml.safe_load((CHECKOUT / name).read_text())
    for name in ("docker-compose.yml", "docker-compose.production.yml")
}
DEVELOPMENT: dict[str, dict[str, Any]] = COMPOSE["docker-compose.yml"]["services"]
SERVICES: dict[str, dict[str, Any]] = COMPOSE["docker-compose.production.yml"]["services"]
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text()
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
LOCKED = dict(re.findall(r"(?m)^([a-z0-9._-]+)==(\S+)", (CHECKOUT / "requirements.lock").read_text()))
SECRETS = {
    "POSTGRES_PASSWORD": "p@ss/w:rd",
    "RABBITMQ_PASSWORD": "r#bb?t",
    "QW_API_TOKENS": "ops:admin:long-enough-word",
}


class Refused(Exception):
    """What compose prints before it starts nothing."""


def environment(service: str, **given: str) -> dict[str, str]:
    """What compose hands the container when *given* stands in .env. Raise Refused as compose would."""

    def filled(found: re.Match[str]) -> str:
        if found[1] not in given and found[2] == ":?":
            raise Refused(f"required variable {found[1]} is missing a value: {found[3]}")
        return given.get(found[1]) or found[3] or ""

    written = SERVICES[service]["environment"]
    return {name: re.sub(r"\$\{(\w+)(?:(:[?-])([^}]*))?\}", filled, str(text)) for name, text in written.items()}


def ports(service: dict[str, Any]) -> dict[int, int]:
    """Outside to inside; all of them on this machine only."""
    found = {}
    for line in service["ports"]:
        host, outside, inside = line.split(":")
        assert host == "127.0.0.1"
        found[int(outside)] = int(inside)
    return found


def instruction(word: str) -> str:
    (last,) = re.findall(rf"(?m)^{word} (.*(?:\\\n.*)*)", DOCKERFILE.rpartition("\nFROM ")[2])
    return str(last)


@pytest.mark.parametrize("file", COMPOSE)
def test_a_service_comes_back_and_says_how_it_is(file: str) -> None:
    services = COMPOSE[file]["services"]
    for found in services.values():
        assert found["restart"] == "unless-stopped"
        assert "healthcheck" in found or ("build" in found and "HEALTHCHECK" in DOCKERFILE)
        assert {volume.partition(":")[0] for volume in found["volumes"]} <= set(COMPOSE[file]["volumes"])
        for other, wanted in found.get("depends_on", {}).items():
            assert wanted == {"condition": "service_healthy"}
            assert other in services


def test_what_is_for_development_starts_on_demand_only() -> None:
    assert [service["profiles"] for service in DEVELOPMENT.values()] == [["dev"]] * len(DEVELOPMENT)


@pytest.mark.parametrize(
    ("service", "port"), [("postgres", 5432), ("rabbitmq", 5672), ("nats", 4222), ("redis", 6379), ("qw", 3030)]
)
def test_a_service_is_where_qw_and_its_tests_look_for_it(service: str, port: int) -> None:
    found = [services[service] for services in (DEVELOPMENT, SERVICES) if service in services]

    assert [ports(each)[port] for each in found] == [port] * len(found)


@pytest.mark.parametrize("missing", SECRETS)
def test_nothing_starts_without_its_secrets_and_one_line_says_which(missing: str) -> None:
    given = {name: value for name, value in SECRETS.items() if name != missing}

    with pytest.raises(Refused) as refused:
        [environment(service, **given) for service in SERVICES]

    assert re.fullmatch(
        rf"required variable {missing} is missing a value: put {missing} into .env, \S.*", str(refused.value)
    )


def test_the_container_of_the_daemon_can_change_nothing_but_its_volume() -> None:
    assert SERVICES["qw"]["read_only"] is True
    assert SERVICES["qw"]["tmpfs"] == ["/tmp"]
    assert SERVICES["qw"]["cap_drop"] == ["ALL"]
    assert SERVICES["qw"]["security_opt"] == ["no-new-privileges:true"]


def test_the_daemon_reads_every_variable_that_it_is_given() -> None:
    settings = load(environment("qw", **SECRETS))

    assert settings.database_url == "postgresql://qw:p%40ss%2Fw%3Ard@postgres/qw"
    assert transport(settings) is Transport.RABBITMQ
    assert address(settings, Transport.RABBITMQ) == "amqp://qw:r%23bb%3Ft@rabbitmq/"
    check_listening(settings)


def test_the_daemon_and_its_servers_agree_on_names_and_passwords() -> None:
    daemon, postgres, rabbitmq = (environment(name, **SECRETS) for name in ("qw", "postgres", "rabbitmq"))

    for ours, theirs in (("USERNAME", "USER"), ("PASSWORD", "PASSWORD"), ("NAME", "DB")):
        assert daemon[f"DB_{ours}"] == postgres[f"POSTGRES_{theirs}"]
    for ours, theirs in (("USERNAME", "USER"), ("PASSWORD", "PASS")):
        assert daemon[f"RABBITMQ_{ours}"] == rabbitmq[f"RABBITMQ_DEFAULT_{theirs}"]
    assert {daemon["DB_HOST"], daemon["RABBITMQ_HOST"]} == set(SERVICES["qw"]["depends_on"])


def test_the_image_runs_qw_as_somebody_without_rights() -> None:
    assert instruction("ENTRYPOINT") == '["qw"]'
    assert "qw" in PROJECT["scripts"]
    assert int(instruction("USER").partition(":")[0]) > 0
    assert int(instruction("EXPOSE")) == load({}).port
    home = re.findall(r"QW_HOME=(\S+)", DOCKERFILE)
    assert [instruction("VOLUME")] == home
    assert SERVICES["qw"]["volumes"] == [f"qw:{home[0]}"]


def test_the_image_has_a_python_that_the_project_knows() -> None:
    oldest = PROJECT["requires-python"].removeprefix(">=")
    for version in re.findall(r"FROM python:(\d+\.\d+)", DOCKERFILE):
        assert [int(part) for part in version.split(".")] >= [int(part) for part in oldest.split(".")]


def test_everything_that_the_image_installs_has_a_hash_in_a_lock() -> None:
    installs = re.findall(r"pip install ([^\\\n]+)", DOCKERFILE)

    locks = [re.search(r"--require-hashes .*-r (\S+)", line) for line in installs if "--no-index" not in line]
    assert {found[1] for found in locks if found} == {"deploy/build.lock", "deploy/runtime.lock"}
    assert all(locks)
    for found in locks:
        assert found is not None
        pins = re.findall(r"(?m)^([a-z0-9._-]+)==(\S+).*\\\n    --hash=sha256:", (CHECKOUT / found[1]).read_text())
        assert dict(pins).items() <= LOCKED.items()
        assert pins


def test_the_image_has_every_dependency_but_those_for_tests() -> None:
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["data"]]
    names = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in wanted}
    runtime = set(re.findall(r"(?m)^([a-z0-9._-]+)==", (CHECKOUT / "deploy" / "runtime.lock").read_text()))

    assert names <= runtime
    assert "pytest" not in runtime


def test_what_the_image_and_the_daemon_are_told_to_run_are_commands(capsys: pytest.CaptureFixture[str]) -> None:
    from qw.cli.program import run

    for command in (instruction("CMD"), str(SERVICES["qw"]["command"])):
        assert run([*yaml.safe_load(command), "--help"]) in (0, None), command


class _Answering(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path in ("/livez", "/readyz") else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def check(*words: str, port: int) -> int:
    """How the health check of the image ends; programs other than bash it does not find."""
    environ = {"PATH": "/nowhere", "QW_PORT": str(port)}
    return subprocess.run([CHECKOUT / "deploy" / "livez", *words], env=environ, timeout=20).returncode


@pytest.mark.parametrize(("status", "ended"), [(200, 0), (503, 1)])
@pytest.mark.parametrize("words", [[], ["readyz"]])
def test_the_health_check_ends_as_the_process_answers(status: int, ended: int, words: list[str]) -> None:
    answering = type("_", (_Answering,), {"status": status})
    with http.server.HTTPServer(("127.0.0.1", 0), answering) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        code = check(*words, port=server.server_port)
        thread.join()

    assert code == ended


def test_the_health_check_fails_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    assert check(port=port) == 1
    assert re.findall(r'(?s)HEALTHCHECK.*?CMD \["(\w+)"\]', DOCKERFILE) == ["livez"]


def test_the_daemon_gets_as_long_to_stop_as_it_may_take() -> None:
    given = int(SERVICES["qw"]["stop_grace_period"].removesuffix("s"))

    ours = STOP_SECONDS + KILL_SECONDS + THREAD_SECONDS + WRITE_SECONDS + RELAY_SECONDS + CLOSE_SECONDS
    assert given >= load({}).grace.total_seconds() + ours
