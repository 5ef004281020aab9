from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

CHECKOUT = Path(__file__).parents[1]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
LOCK = (CHECKOUT / "requirements.lock").read_text()


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    built = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    with ZipFile(next(folder.glob("*.whl"))) as wheel:
        return set(wheel.namelist())


def files(folder: str, pattern: str) -> set[str]:
    return {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / folder).rglob(pattern)}


def test_the_wheel_has_all_that_qw_reads_at_run_time(shipped: set[str]) -> None:
    assert "qw/py.typed" in shipped
    assert "qw/data/workflows.yaml" in shipped
    assert {f"qw/{name}" for name in files("migrations", "*.sql")} <= shipped
    for pattern in ("*.py", "*.sql", "*.ttf", "*.json", "*.csv", "*.parquet", "*.yaml", "*.html", "*.js", "*.css"):
        assert files("qw", pattern) <= shipped


def test_the_wheel_has_nothing_but_qw_and_its_licence(shipped: set[str]) -> None:
    roots = {name.split("/")[0] for name in shipped}

    assert {re.sub(r"-\d.*\.dist-info", ".dist-info", root) for root in roots} == {"qw", "qw.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in shipped)
    assert not [name for name in shipped if "__pycache__" in name]


def test_the_lock_names_no_address_and_a_hash_for_every_package() -> None:
    pins = re.findall(r"(?m)^[a-z0-9][^\n]*==", LOCK)

    assert "://" not in LOCK
    assert len(re.findall(r"(?m)^[a-z0-9][^\n]*\\\n    --hash=sha256:[0-9a-f]{64}", LOCK)) == len(pins) > 50


def test_the_lock_has_every_dependency() -> None:
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    named = [re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in [*PROJECT["dependencies"], *extras]]

    locked = set(re.findall(r"(?m)^([a-z0-9._-]+)==", LOCK))

    assert set(named) - {"qw"} <= locked


@pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="needs a git checkout")
def test_no_committed_file_names_a_registry() -> None:
    pattern = r"py[p]i\.org|pytho[n]hosted\.org|registry\.np[m]js\.org"

    found = subprocess.run(["git", "grep", "-IlE", pattern], cwd=CHECKOUT, capture_output=True, text=True)

    assert found.stdout == ""


@pytest.mark.parametrize("script", ["scripts/venv", "scripts/test", "scripts/lock", "scripts/clean", "scripts/fuzz"])
def test_scripts_are_sound_for_a_plain_shell(script: str) -> None:
    subprocess.run(["sh", "-n", CHECKOUT / script], check=True)

    assert os.access(CHECKOUT / script, os.X_OK)


def make_venv(folder: Path, python: Path) -> subprocess.CompletedProcess[str]:
    """Run scripts/venv in a copy of what it reads, with *python*."""
    (folder / "scripts").mkdir()
    for name in ("scripts/venv", "requirements.lock", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, folder / name)
    environ = {"PATH": os.environ["PATH"], "PYTHON": str(python)}
    return subprocess.run([folder / "scripts/venv"], env=environ, capture_output=True, text=True)


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_python_that_is_too_old_is_refused(tmp_path: Path) -> None:
    done = make_venv(tmp_path, program(tmp_path / "python", "exit 1"))

    assert done.returncode != 0
    assert "Python 3.11 or newer" in done.stderr


def test_a_python_without_venv_says_what_to_install(tmp_path: Path) -> None:
    done = make_venv(tmp_path, program(tmp_path / "python", 'case "$2" in *venv*) exit 1;; esac'))

    assert done.returncode != 0
    assert "apt install python3-venv" in done.stderr


def test_a_venv_that_is_up_to_date_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    program(tmp_path / ".venv" / "bin" / "python", 'case "$1" in -c) ;; *) echo "$@" >>calls;; esac')

    first = make_venv(tmp_path, Path("no-python"))
    calls = (tmp_path / "calls").read_text()
    second = subprocess.run([tmp_path / "scripts/venv"], capture_output=True, text=True)

    assert (first.returncode, second.returncode) == (0, 0)
    assert "--require-hashes -r requirements.lock" in calls
    assert (tmp_path / "calls").read_text() == calls


def test_ci_runs_the_tests_and_builds_the_documentation(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(CHECKOUT / ".ci" / "run", tmp_path / ".ci" / "run")
    program(tmp_path / "make", 'echo "$CI $@ $(pwd)"; exit 7')

    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([tmp_path / ".ci" / "run"], cwd="/", env=environ, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (7, f"true test docs {tmp_path}\n")


def test_the_bill_of_materials_has_every_package_of_the_image_with_its_hashes() -> None:
    done = subprocess.run([sys.executable, CHECKOUT / "scripts" / "sbom"], capture_output=True, text=True, check=True)

    bill = json.loads(done.stdout)
    lock = (CHECKOUT / "deploy" / "runtime.lock").read_text()
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert [f"{each['name']}=={each['version']}" for each in bill["components"]] == re.findall(
        r"(?m)^\S+==[^\s;]+", lock
    )
    for each in bill["components"]:
        assert each["externalReferences"][0]["hashes"]
        assert each["bom-ref"] in bill["dependencies"][0]["dependsOn"]
