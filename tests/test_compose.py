"""docker-compose.yml, the Dockerfile and qw say the same; neither needs Docker to be tested for that."""

from __future__ import annotations

import re
import shlex
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
COMPOSE = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text()
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
SECRETS = {
    "POSTGRES_PASSWORD": "p@ss/w:rd",
    "RABBITMQ_PASSWORD": "r#bb?t",
    "QW_API_TOKENS": "ops:admin:long-enough-word",
}


def environment(service: str, **given: str) -> dict[str, str]:
    """What compose hands the container when *given* stands in .env."""

    def filled(found: re.Match[str]) -> str:
        return given.get(found[1]) or found[2] or ""

    written = SERVICES[service]["environment"]
    return {name: re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", filled, str(text)) for name, text in written.items()}


def ports(service: str) -> dict[int, int]:
    """Outside to inside; all of them on this machine only."""
    found = {}
    for line in SERVICES[service]["ports"]:
        host, outside, inside = line.split(":")
        assert host == "127.0.0.1"
        found[int(outside)] = int(inside)
    return found


def instruction(word: str) -> str:
    (last,) = re.findall(rf"(?m)^{word} (.*(?:\\\n.*)*)", DOCKERFILE.rpartition("\nFROM ")[2])
    return str(last)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_of_a_profile_comes_back_and_says_how_it_is(service: str) -> None:
    found = SERVICES[service]

    assert set(found["profiles"]) <= {"dev", "production"}
    assert found["restart"] == "unless-stopped"
    assert "healthcheck" in found or ("build" in found and "HEALTHCHECK" in DOCKERFILE)
    assert {volume.partition(":")[0] for volume in found["volumes"]} <= set(COMPOSE["volumes"])
    for other, wanted in found.get("depends_on", {}).items():
        assert wanted == {"condition": "service_healthy"}
        assert set(found["profiles"]) <= set(SERVICES[other]["profiles"])


@pytest.mark.parametrize(
    ("service", "port"), [("postgres", 5432), ("rabbitmq", 5672), ("nats", 4222), ("redis", 6379), ("qw", 3030)]
)
def test_a_service_is_where_qw_and_its_tests_look_for_it(service: str, port: int) -> None:
    assert ports(service)[port] == port


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


def test_the_image_has_a_python_and_extras_that_the_project_knows() -> None:
    for version in re.findall(r"FROM python:(\d+\.\d+)", DOCKERFILE):
        oldest = PROJECT["requires-python"].removeprefix(">=")
        assert [int(part) for part in version.split(".")] >= [int(part) for part in oldest.split(".")]
    for extra in re.findall(r"\.whl\)\[(\w+)\]", DOCKERFILE):
        assert extra in PROJECT["optional-dependencies"]


def test_what_the_image_and_the_daemon_are_told_to_run_are_commands(capsys: pytest.CaptureFixture[str]) -> None:
    from qw.cli.program import run

    check = re.findall(r"(?s)HEALTHCHECK.*?CMD (\[.*?\])", DOCKERFILE)
    for command in (*check, str(SERVICES["qw"]["command"])):
        words = [word for word in yaml.safe_load(command) if word != "qw"]
        assert run([*words, "--help"]) in (0, None), shlex.join(words)


def test_the_daemon_gets_as_long_to_stop_as_it_may_take() -> None:
    given = int(SERVICES["qw"]["stop_grace_period"].removesuffix("s"))

    ours = STOP_SECONDS + KILL_SECONDS + THREAD_SECONDS + WRITE_SECONDS + RELAY_SECONDS + CLOSE_SECONDS
    assert given >= load({}).grace.total_seconds() + ours
