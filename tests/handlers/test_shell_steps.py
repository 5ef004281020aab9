"""What people write beside ``run:``: directories, input, users, forms of output, and files for later steps."""

from __future__ import annotations

import os
import pwd
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from qw.core.errors import Invalid
from qw.core.task.handler_api import Reject
from qw.definitions import loads
from qw.store.connection import Connection
from tests.handlers.test_command import command, shell
from tests.running import Runner, runner

IS_ROOT = os.geteuid() == 0


@pytest.fixture
async def qw(url: str, tmp_path: Path) -> AsyncIterator[Runner]:
    async with runner(url, tmp_path) as running:
        yield running


def steps(text: str) -> str:
    return "workflows:\n  w:\n    steps:\n" + "".join(f"      {line}\n" for line in text.strip().split("\n"))


def faults(text: str) -> list[str]:
    with pytest.raises(Invalid) as raised:
        loads(steps(text), "w.yaml")
    return [str(fault) for fault in raised.value.faults]


@pytest.mark.parametrize(
    ("printed", "form", "stdout"),
    [
        (r"a b\n\n", "text", "a b"),
        (r"a\nb\n", "text", "a\nb"),
        (r"", "text", ""),
        (r"a\n\nb\n", "lines", ["a", "", "b"]),
        (r"a\r\nb\r\n", "lines", ["a", "b"]),
        (r"", "lines", []),
        (r"{\"n\": [1]}\n", "json", {"n": [1]}),
        (r"12\n", "json", 12),
        (r"a\n", None, "a\n"),
    ],
)
async def test_stdout_is_text_lines_or_json_without_the_newline_at_its_end(
    printed: str, form: str | None, stdout: Any
) -> None:
    assert (await shell(f'printf "{printed}"', output=form))["stdout"] == stdout


async def test_what_is_no_json_fails_the_attempt_with_the_place() -> None:
    with pytest.raises(Invalid, match=r"output: json: .* not JSON: .*line 1"):
        await shell("echo '{oops'", output="json")


async def test_values_written_to_qw_output_are_in_the_result() -> None:
    result = await shell('echo "version=1.2=3" >> "$QW_OUTPUT"; printf "notes<<END\\na\\nb=1\\nEND\\n" >> "$QW_OUTPUT"')

    assert result["outputs"] == {"version": "1.2=3", "notes": "a\nb=1"}


@pytest.mark.parametrize(
    ("written", "message"),
    [("no sign", "line 1, 'no sign', is not NAME=value"), ("a<<E\\nb", "the value of a is not ended by a line 'E'")],
)
async def test_what_qw_output_cannot_mean_is_told(written: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        await shell(f'printf "{written}\\n" >> "$QW_OUTPUT"')


@pytest.mark.skipif(not IS_ROOT, reason="only root runs commands as somebody else")
async def test_a_command_runs_as_the_user_it_names() -> None:
    result = await shell("id -un; echo $HOME; cat; : > here; echo '{}' > $QW_RESULT", user="nobody", input="hello")

    home = pwd.getpwnam("nobody").pw_dir
    assert (result["stdout"], result["result"]) == (f"nobody\n{home}\nhello", {})


async def test_a_user_that_is_not_there_is_named() -> None:
    with pytest.raises(Reject, match="user: there is no user 'nobodi' here"):
        await shell("id", user="nobodi")


async def test_a_daemon_that_is_not_root_runs_nothing_as_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)

    with pytest.raises(Reject, match="user: this daemon runs as user 4711; only one that runs as root runs commands"):
        await shell("id", user="nobody")


async def test_files_belong_to_steps_only() -> None:
    with pytest.raises(Reject, match="artifacts: only a step of a workflow"):
        await command({"run": "touch a", "artifacts": {"a": "a"}})
    with pytest.raises(Reject, match=r"cwd: .QW_ARTIFACTS: only a step of a workflow"):
        await command({"run": "touch a", "cwd": "$QW_ARTIFACTS"})


async def test_a_step_has_a_directory_an_input_and_a_form_of_output(qw: Runner) -> None:
    text = steps("""
- id: list
  cwd: ${{ input.dir }}
  run: "ls"
  output: lines
- id: each
  needs: list
  foreach: ${{ steps.list.result.stdout }}
  stdin: { name: "${{ item }}" }
  run: cat
  output: json
""")
    text = text.replace("  w:\n", "  w:\n    input: { dir: string }\n")
    (qw.folder / "data").mkdir()
    (qw.folder / "data" / "a b").touch()
    (qw.folder / "data" / "c").touch()

    run = await qw.run(text, {"dir": str(qw.folder / "data")})

    found = (await qw.steps(run.id))["each"].result
    assert isinstance(found, list)
    assert [one["stdout"] for one in found if isinstance(one, dict)] == [{"name": "a b"}, {"name": "c"}]


async def test_an_error_says_the_exit_code_and_the_end_of_stderr_to_on_failure(qw: Runner) -> None:
    text = steps("""
- id: copy
  shell: bash
  run: cat /nowhere | wc -l
  retry: { max_retries: 1 }
""")
    text += """    on_failure:
      - { id: tell, run: cat, stdin: "${{ run.error }}", output: text }
"""
    run = await qw.run(text)

    told = (await qw.steps(run.id))["tell"].result
    assert isinstance(told, dict)
    assert told["stdout"] == "step copy: exit code 1: cat: /nowhere: No such file or directory"


async def test_a_later_step_finds_the_files_of_an_earlier_one_by_name(qw: Runner, conn: Connection) -> None:
    text = steps("""
- id: make
  run: mkdir out; echo one > out/a.txt; ln -s a.txt out/b.txt; echo two > c
  artifacts: { out: out, note: "${{ input.file }}" }
- id: use
  needs: make
  run: cat "$QW_ARTIFACTS/out/b.txt" "$NOTE"; ls -A "$QW_ARTIFACTS"
  env: { NOTE: "${{ steps.make.result.artifacts.note }}" }
  output: lines
""")
    text = text.replace("  w:\n", "  w:\n    input: { file: string }\n")

    run = await qw.run(text, {"file": "c"})

    used = (await qw.steps(run.id))["use"].result
    assert isinstance(used, dict)
    assert used["stdout"] == ["one", "two", "note", "out"]
    assert await qw.artifacts.prune(conn) == 0

    await conn.execute("delete from qw.run where id = %s", [run.id])
    assert await qw.artifacts.prune(conn) == 1
    assert not list((qw.folder / "artifacts").glob("*/*"))


async def test_a_step_that_does_not_leave_its_file_fails_with_its_name(qw: Runner) -> None:
    run = await qw.run(
        steps("""
- id: make
  run: "true"
  artifacts: { report: out/report.csv }
  retry: { max_retries: 1 }
""")
    )

    assert run.error == "step make: artifact report: the command left no 'out/report.csv'"


async def test_items_of_a_foreach_keep_their_files_apart(qw: Runner) -> None:
    run = await qw.run(
        steps("""
- id: each
  foreach: [x, y]
  run: echo "$V" > f
  env: { V: "${{ item }}" }
  artifacts: { f: f }
- id: all
  needs: each
  run: cat f/0 f/1
  cwd: $QW_ARTIFACTS
  output: lines
""")
    )

    found = (await qw.steps(run.id))["all"].result
    assert isinstance(found, dict)
    assert found["stdout"] == ["x", "y"]


@pytest.mark.skipif(not IS_ROOT, reason="only root runs commands as somebody else")
async def test_a_file_is_read_as_the_user_of_its_step(qw: Runner) -> None:
    run = await qw.run(
        steps("""
- id: steal
  user: nobody
  run: ln -s /etc/shadow s
  artifacts: { s: s }
  retry: { max_retries: 1 }
""")
    )

    assert run.error is not None
    assert "Permission denied" in run.error
    assert not list((qw.folder / "artifacts").rglob("s"))


def test_keys_of_a_shell_step_are_checked_with_their_places() -> None:
    assert faults("""
- id: a
  run: cat
  cwd: [x]
  user: "${{ input.user }}"
  output: yaml
  stdin: "${{ run.id }}"
  with: { x: 1 }
  artifacts: { "../a": b, c: 7 }
- { id: b, type: noop, cwd: /tmp, output: json }
""") == [
        "w.yaml:4:9: an expression takes 'user', which is not an input",
        "w.yaml:6:9: must be the path of a directory",
        "w.yaml:7:9: '${{ input.user }}' is not the name of a user; it cannot be an expression",
        "w.yaml:8:9: 'yaml' is not one of text, lines, json",
        "w.yaml:9:9: give stdin: or with:, not both: with: is passed on stdin too",
        "w.yaml:11:22: '../a' is not a name of letters, digits and _ . - (at most 128)",
        "w.yaml:11:33: must be the path of a file or directory that the step leaves, not a number",
        "w.yaml:12:30: is allowed only with run:",
        "w.yaml:12:41: is allowed only with run:",
    ]
