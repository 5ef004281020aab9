from __future__ import annotations

import itertools
import json
import os
import pty
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from statistics import median

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from qw import __version__
from qw.cli import suggestions
from qw.cli.output.text import counted, printable, printable_json, span
from tests.cli.commands import all_commands
from tests.cli.program import QW, Done, Qw, environment

HEAVY = {
    "rich", "psycopg", "psycopg_pool", "pydantic", "httpx", "orjson", "yaml", "asyncio", "starlette", "reportlab",
    "qw.client", "qw.store", "qw.handlers", "qw.daemon", "qw.services", "qw.config",
}  # fmt: skip
LOADED = """
import sys
from qw.cli import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def loaded(*words: str, **environ: str) -> set[str]:
    """The modules that ``qw`` has loaded when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words], env=environment(**environ), capture_output=True, text=True
    )
    return set(done.stderr.splitlines()[-1].split())


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    for words in (["--help"], ["--version"], ["enqueue", "--help"], ["task", "list", "--help"]):
        modules = loaded(*words)
        assert "typer" in modules
        assert modules & HEAVY == set()


def test_enqueueing_loads_neither_tables_nor_handlers(qw: Qw) -> None:
    modules = loaded("enqueue", "noop", **{name: qw.environ[name] for name in ("QW_DATABASE_URL", "HOME")})

    assert "psycopg" in modules
    assert modules & {"rich", "pydantic", "httpx", "starlette", "reportlab", "qw.handlers", "qw.daemon"} == set()


def seconds(*command: str) -> float:
    """The processor time that *command* takes: its wall time depends on what else runs here."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment(), stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_help_is_quick() -> None:
    pairs = [(seconds(sys.executable, "-c", "pass"), seconds(*QW, "--help")) for _ in range(5)]

    extra = median(shown for _, shown in pairs) - median(bare for bare, _ in pairs)

    assert extra < 0.12 * max(1, median(bare for bare, _ in pairs) / 0.02)  # so much slower as the machine is


def test_importing_the_package_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import qw, sys; print(*sys.modules)"], env=environment(), capture_output=True, text=True
    )

    assert set(done.stdout.split()) & (HEAVY | {"typer"}) == set()


def test_the_version_is_said(qw: Qw) -> None:
    assert qw("--version").out == f"qw {__version__}\n"


def test_every_command_has_help_that_fits_80_columns(qw: Qw) -> None:
    for path, _ in all_commands():
        done = qw(*path, "--help")
        assert done.code == 0
        assert done.out.startswith(f"Usage: qw {' '.join(path)}")
        assert max(map(len, done.out.splitlines())) <= 90
        assert not re.search(r"\[\[|[{}]|<(str|int)>", done.out.partition("\n\n")[0])
        assert "<str>" not in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tsk"], "there is no command 'tsk'; did you mean: qw task list"),
        (["xyz"], "there is no command 'xyz'; see: qw help all"),
        (["task", "xyz"], "there is no command 'qw task xyz'; see: qw task --help"),
        (["task", "list", "--nope"], "No such option: --nope; see: qw task list --help"),
        (["task", "list", "--json"], "No such option: --json; did you mean -o json?"),
        (["task", "list", "--state", "failed"], "No such option: --state; did you mean --status?"),
        (["enqueue", "noop", "--prio", "3"], "No such option: --prio; did you mean --priority?"),
        (["enqueue", "noop", "--delay", "5m"], "No such option: --delay; did you mean --in?"),
        (["enqueue", "--type", "noop"], "the type is the first word: qw enqueue TYPE"),
        (["run", "--immediate", "--", "true"], "leave it out: a command starts as soon as a slot is free"),
        (["run", "-d", "--", "true"], "to run it after another task: --after ID"),
        (["run", "--rm", "ls"], "No such option: --rm; leave it out: the command runs in the background"),
        (["--json", "task", "list"], "put it after the command: qw task list -o json"),
        (["-A", "shop", "worker"], "for tasks in Python: qw daemon --app MODULE:ATTRIBUTE"),
        (["-L", "label", "ls"], "No such option: -L; see: qw --help"),
        (["-c", "0"], "no command after --config; for example: qw task list, qw logs ID"),
        (["status", "-g", "io"], "for one queue: qw task list --queue NAME"),
        (
            ["task", "retry", "--status", "pending", "--dry-run"],
            "retry is for failed, cancelled, retrying tasks, not for",
        ),
        (["task", "list", "failed", "cancelled"], "did you mean: qw task list --status failed,cancelled"),
        (["task", "list", "--since", "2h", "ago"], "leave out 'ago': --since 2h"),
        (
            ["run", "--in", "2 hours", "--", "ls"],
            "--in: '2 hours' is not a duration such as 30s, 5m, 2h or 1d; did you mean 2h?",
        ),
        (["run", "--in", "5M", "--", "ls"], "did you mean 5m?"),
        (["run", "--in", "tomorrow 9am", "--", "ls"], "for a time: --at 'tomorrow 9am'"),
        (["run", "--at", "1800", "--", "ls"], "did you mean 18:00?"),
        (["run", "--notify", "ftp://host/x", "--", "ls"], "'ftp://host/x' is neither a command nor a URL with http://"),
        (["run", "--notify", "", "--", "ls"], "--notify: '' is neither a command nor a URL"),
        (["enqueue", "noop", "--payload", "a=1,b=two"], """did you mean '{"a": "1", "b": "two"}'?"""),
        (["schedule", "add", "--cron", "0 3 * * *", "--", "backup"], "schedule 'backup' has nothing to start: give"),
        (["schedule", "add", "x", "--cron", "0", "3", "--", "ls"], "in one pair of quotes: '0 3 * * *'"),
        (["schedule", "add", "x", "--cron", "@reboot", "--", "ls"], "'@reboot' is not a time; let the service manager"),
        (["daemon", "-d"], "in the background: qw daemon &, as a service: qw service install"),
        (["--wait", "run", "--", "true"], "put options of a command after it: qw run --wait"),
        (["-S", "4"], "No such option: -S; did you mean: qw worker slots 4"),
        (["enqueue", "noop", '{"a": 1}'], """did you mean: qw enqueue noop --payload '{"a": 1}'"""),
        (["queue", "limit", "mail", "4"], "did you mean: qw queue limit mail --concurrency 4"),
        (["queue", "limit", "mail", "100/m"], "did you mean: qw queue limit mail --rate 100/m"),
        (["apply", "flows.yaml"], "did you mean: qw apply -f flows.yaml"),
        (["daemon", "stop"], "press ^C in its terminal, or: qw worker drain WORKER"),
        (["task", "show"], "Missing argument 'ID'; to find one: qw task list"),
        (["worker", "drain"], "Missing argument 'WORKER'; to find one: qw worker list"),
        (["run"], "Missing argument '-- CMD [ARG]...'; for example: qw run -- make all"),
        (["task", "show", "3"], "'3' is not a task id; ids are shown by: qw task list"),
        (["task", "list", "--status", "done"], "suspended; did you mean 'completed'?"),
        (["schedule", "add", "x", "0 3 * * *", "ls"], "as an option: qw schedule add x --cron '0 3 * * *' -- ls"),
        (["schedule", "add", "x", "--every", "5", "--type", "noop"], "--every: '5' has no unit: 5s, 5m, 5h or 5d"),
        (["enqueue", "noop", "--at", "yesterday"], "'yesterday' is not a time such as"),
        (["task", "list", "-o", "xml"], "'xml' is not one of 'table', 'json', 'jsonl'"),
        (["task", "list", "-q"], "Option '-q' requires an argument; see: qw task list --help"),
        (["task", "list", "-n", "some"], "--limit: 'some' is not a valid integer; see: qw task list --help"),
        (["task", "list", "-n", "0"], "--limit: 0 is less than 1; see: qw task list --help"),
        (["schedule", "next", "x", "-n", "1001"], "--count: 1001 is more than 1000; see: qw schedule next --help"),
        (["worker", "show", "first"], "WORKER: 'first' is not a valid integer; to find one: qw worker list"),
    ],
)
def test_a_word_that_is_not_known_is_exit_2_with_the_next_step(qw: Qw, words: list[str], said: str) -> None:
    done = qw(*words)

    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "right"),
    [
        (["list"], "qw task list"),
        (["ls"], "qw task list"),
        (["cancel", "0189", "--running"], "qw task cancel 0189 --running"),
        (["retry"], "qw task retry"),
        (["show", "0189"], "qw task show 0189"),
        (["start", "invoice"], "qw workflow start invoice"),
        (["pause", "mail"], "qw queue pause mail"),
        (["ps"], "qw status"),
        (["tail", "0189"], "qw logs 0189"),
        (["follow", "0189"], "qw logs -f 0189"),
        (["switch", "0189"], "qw task move --front 0189"),
        (["edit", "0189"], "qw task edit 0189"),
        (["parallel", "4"], "qw worker slots 4"),
        (["version"], "qw --version"),
        (["lst"], "qw task list"),
        (["add", "--", "make", "all"], "qw run -- make all"),
        (["add", "noop"], "qw enqueue noop"),
        (["add", "echo", "hi"], "qw run -- echo hi"),
        (["pause"], "qw queue pause --all"),
        (["pause", "--group", "io"], "qw queue pause io"),
        (["parallel", "4", "--group", "io"], "qw queue limit io --concurrency 4 --create"),
        (["restart", "--all-failed"], "qw task retry --status failed"),
        (["rm", "-f", "0189"], "qw task remove --yes 0189"),
        (["call", "greet", "--args", "{}"], "qw enqueue greet --payload '{}'"),
        (["exec", "ls", "-la"], "qw run ls -la"),
        (["up", "-d"], "qw daemon"),
        (["get", "pods"], "qw worker list"),
        (["empty", "default"], "qw queue purge default"),
        (["kill", "0189"], "qw task cancel --running 0189"),
        (["get", "tasks"], "qw task list"),
        (["describe", "task", "0189"], "qw task show 0189"),
        (["delete", "task", "0189"], "qw task remove 0189"),
        (["scale", "worker", "3"], "qw worker slots 3"),
        (["job", "list"], "qw task list"),
        (["workflows"], "qw workflow list"),
        (["cron"], "qw schedule list"),
        (["crontab", "-l"], "qw schedule list"),
        (["atq"], "qw task list --status pending"),
        (["inspect", "active"], "qw task list --status processing"),
        (["control", "revoke", "0189"], "qw task cancel 0189"),
        (["enable", "nightly"], "qw schedule resume nightly"),
        (["lgos", "0189"], "qw logs 0189"),
        (["Run", "--", "ls"], "qw run -- ls"),
        (["enqeue", "greet", "--data={} "], "qw enqueue greet '--payload={} '"),
        (["parallel", "-g", "it's", "4"], "qw queue limit 'it'\"'\"'s' --concurrency 4 --create"),
    ],
)
def test_a_word_of_other_programs_leads_to_the_right_command(qw: Qw, words: list[str], right: str) -> None:
    done = qw(*words)

    assert (done.code, done.out) == (2, "")
    assert done.err == f"qw: there is no command {words[0]!r}; did you mean: {right}\n"


@pytest.mark.parametrize(
    ("words", "right"),
    [
        (["schedule", "rm", "backup"], "qw schedule remove backup"),
        (["schedule", "ls"], "qw schedule list"),
        (["task", "kill", "0189", "--running"], "qw task cancel --running 0189"),
        (["task", "help"], "qw task --help"),
        (["task", "help", "list"], "qw task list --help"),
        (["workflow", "wait", "0189"], "qw wait 0189"),
        (["workflow", "stop", "0189"], "qw workflow cancel 0189"),
        (["workflow", "status"], "qw workflow runs"),
        (["task", "lst"], "qw task list"),
        (["task", "rm", "0189"], "qw task remove 0189"),
        (["queue", "create", "io"], "qw queue limit io"),
        (["worker", "start"], "qw daemon"),
        (["worker", "scale", "3"], "qw worker slots 3"),
    ],
)
def test_a_verb_of_other_programs_leads_to_that_of_the_noun(qw: Qw, words: list[str], right: str) -> None:
    done = qw(*words)

    assert (done.code, done.out) == (2, "")
    assert done.err == f"qw: there is no command 'qw {words[0]} {words[1]}'; did you mean: {right}\n"


def test_a_word_that_means_several_things_is_explained(qw: Qw) -> None:
    for word in suggestions.ADVICE:
        assert qw(word).err == f"qw: there is no command {word!r}; {suggestions.ADVICE[word]}\n"
    assert "systemctl --user" in qw("service", "start").err
    assert "qw.toml" in qw("config", "set", "concurrency", "4").err


_OWN_NOUNS = ("workflow", "queue", "db")  # followed by the word itself


def test_every_suggestion_is_a_command() -> None:
    for text in (*suggestions.COMMANDS.values(), *suggestions._LETTERS.values()):
        assert _starts_with_a_command(text) or text.split()[0] in ("--version", *_OWN_NOUNS), text
    quoted = "; ".join((*suggestions.ADVICE.values(), *suggestions._PHRASES.values()))
    for text in re.findall(r"qw ([a-z]+(?: [a-z]+)*)", quoted):
        assert _starts_with_a_command(text), text


def _starts_with_a_command(text: str) -> bool:
    words = text.split()
    return bool({tuple(words[:number]) for number in (1, 2, 3)} & _paths())


@cache
def _paths() -> set[tuple[str, ...]]:
    return {path for path, _ in all_commands()}


def test_qw_alone_is_a_short_page_and_help_leads_on(qw: Qw) -> None:
    alone, every, one = qw(), qw("help", "all"), qw("help", "task", "list")

    assert (alone.code, alone.err) == (0, "")
    assert len(alone.out.splitlines()) <= 20
    assert max(map(len, alone.out.splitlines())) <= 80
    commands = {line[3:].split("  ")[0] for line in every.out.splitlines() if line.startswith("qw ")}
    assert max(map(len, every.out.splitlines())) <= 80
    assert commands == {" ".join(path) for path, _ in all_commands()}
    for line in re.findall(r"^  qw (.+?)(?:  |$)", alone.out, re.MULTILINE):  # every command that it names is one
        first = re.sub(r" (-\S+|[A-Z]+|\.\.\.|--|CMD|\[ARG\]).*", "", line)
        for words in (first.replace("retry|cancel", verb) for verb in ("retry", "cancel")):
            assert words in commands
    assert one.out == qw("task", "list", "--help").out
    assert qw("help", "task", "lst").err == "qw: there is no command 'qw task lst'; did you mean 'list'?\n"
    assert qw("help", "ps").err == "qw: there is no command 'qw ps'; did you mean: qw status\n"


def test_a_new_project_runs_as_it_was_written(qw: Qw) -> None:
    made = qw("init", "shop")
    again = qw("init", "shop")
    project = Qw(qw.environ, qw.folder / "shop")
    valid = project("workflow", "validate")

    assert (made.code, sorted(path.name for path in project.folder.iterdir())) == (
        0,
        ["qw.toml", "tasks.py", "workflows.yaml"],
    )
    assert (again.code, "nothing was written" in again.err) == (4, True)
    assert (valid.code, valid.out) == (0, "workflows.yaml: 1 workflow\n")
    with project.daemon("--app", "tasks:app"):
        task = project("enqueue", "greet", "--payload", '{"name": "Ada"}', "--wait")
        run = project("workflow", "start", "hello", "--input", '{"name": "Ada"}', "--wait", "-o", "json")
    assert "Hello, Ada!" in task.out
    assert (run.json["status"], run.json["output"]) == ("completed", {"letters": 8})


def test_each_fault_of_an_input_has_a_line_of_its_own(qw: Qw) -> None:
    (qw.folder / "bad.yaml").write_text(
        "workflows:\n  a:\n    steps:\n      - id: one\n        typ: noop\n        nedds: []\n"
    )

    done = qw("apply", "-f", "bad.yaml")

    assert done.code == 2
    assert len(done.err.splitlines()) > 1
    assert all(line.startswith("qw: bad.yaml:") for line in done.err.splitlines())


def test_common_options_stand_before_or_after_the_command(qw: Qw) -> None:
    for words in (["--database-url", "mysql://x", "status"], ["status", "--database-url", "mysql://x"]):
        done = qw(*words)
        assert done.code == 78
        assert "--database-url: is not a PostgreSQL URL" in done.err


def test_wrong_settings_are_exit_78(qw: Qw) -> None:
    done = qw("task", "list", QW_CONCURENCY="3")

    assert done.code == 78
    assert "did you mean 'QW_CONCURRENCY'?" in done.err
    assert qw("task", "list", "--database-url", "mysql://x").code == 78
    assert qw("task", "list", "-c", "none.toml").code == 78


def test_a_database_that_is_away_is_exit_69(qw: Qw) -> None:
    done = qw("task", "list", "--database-url", "postgresql://nobody@127.0.0.1:1/none")

    assert done.code == 69
    assert re.fullmatch(r"qw: the database cannot be reached: .*; run qw doctor to find the cause\n", done.err)


def test_a_role_without_rights_is_exit_5(qw: Qw, url: str) -> None:
    role = f"qw_test_none_{os.getpid()}"
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f'create role "{role}" login'.encode())
        try:
            done = qw("enqueue", "noop", "--database-url", make_conninfo(url, user=role))
        finally:
            conn.execute(f'drop role "{role}"'.encode())
    assert (done.code, done.out) == (5, "")
    assert "qw db grant" in done.err


def test_who_reads_only_the_first_line_ends_it_quietly(qw: Qw) -> None:
    for _ in range(3):
        qw("enqueue", "noop", "--payload", json.dumps({"long": "x" * 50_000}))

    line = f"{' '.join(QW)} task list -o json | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=qw.environ, cwd=qw.folder, capture_output=True, text=True)

    assert done.stdout.split() == ["[", "141"]
    assert done.stderr == ""


NOT_UTF8 = os.fsdecode(b"a\xff")


@pytest.mark.parametrize(
    "words",
    [
        ["task", "list", "-q", NOT_UTF8],
        ["task", "list", "--error", NOT_UTF8],
        ["workflow", "show", NOT_UTF8],
    ],
)
def test_words_that_are_not_utf8_are_refused_as_such(qw: Qw, words: list[str]) -> None:
    done = qw.process(*words)

    assert (done.code, done.err.count("\n"), r"a\xff" in done.err, "bug" in done.err) == (2, 1, True, False)


def test_a_list_shows_what_a_command_has_that_is_not_utf8(qw: Qw) -> None:
    qw.process("run", "--no-stdin", "--", "ls", NOT_UTF8)

    assert r"ls 'a\xff'" in qw("task", "list").out


def test_a_file_that_finds_no_room_is_named_and_not_left_half(qw: Qw) -> None:
    small = "ulimit -f 0; trap '' XFSZ; "  # as a full disk: each write fails

    done = subprocess.run(
        ["sh", "-c", f"{small}{' '.join(QW)} init"], env=qw.environ, cwd=qw.folder, capture_output=True, text=True
    )

    assert (done.returncode, done.stderr) == (1, "qw: qw.toml: File too large\n")
    assert not (qw.folder / "qw.toml").exists()


def test_a_full_disk_is_said_in_one_line(qw: Qw) -> None:
    qw("enqueue", "noop")

    done = subprocess.run(
        ["sh", "-c", f"{' '.join(QW)} task list > /dev/full"], env=qw.environ, capture_output=True, text=True
    )

    assert done.returncode == 1
    assert (
        done.stderr == "qw: input or output: No space left on device; free some space there, or write to another disk\n"
    )


def on_terminal(qw: Qw, columns: int, *words: str, **environ: str) -> str:
    """What a person sees of ``qw`` on a terminal so wide."""
    leader, follower = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    given = {name: value for name, value in qw.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [*QW, *words], env={**given, "TERM": "xterm", **environ}, cwd=qw.folder, stdin=follower, stdout=follower,
        stderr=follower,
    )  # fmt: skip
    os.close(follower)
    seen = b""
    while chunk := _chunk(leader):
        seen += chunk
    os.close(leader)
    assert process.wait(60) == 0
    return seen.decode().replace("\r\n", "\n")


def _chunk(leader: int) -> bytes:
    try:
        return os.read(leader, 65536)
    except OSError:  # what Linux says when the other side is closed
        return b""


@pytest.mark.parametrize("columns", [40, 80, 132])
def test_a_table_fits_the_terminal(qw: Qw, columns: int) -> None:
    id = str(qw("enqueue", "noop", "-q", "a-queue-with-a-rather-long-name").id)

    seen = on_terminal(qw, columns, "task", "list", NO_COLOR="1")

    header, row, *rest = seen.splitlines()
    assert rest == []
    assert max(len(header), len(row)) <= columns
    assert row.startswith(f"{id[:13]} ")
    assert "pending" in row
    assert ("a-queue" in row) == (columns == 132)


INTERRUPTED_IMPORT = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, *rest):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from qw.cli import main
main()
"""


def test_an_interrupt_during_the_start_prints_no_traceback(qw: Qw) -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_IMPORT], env=qw.environ, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_a_value_is_broken_between_words_only(qw: Qw) -> None:
    path = f"/srv/{'a' * 50}/{'b' * 50}.eml"
    task = qw("enqueue", "noop", "--payload", json.dumps({"path": path, "text": "word " * 30})).id

    lines = on_terminal(qw, 80, "task", "show", str(task)).splitlines()

    assert any(f'"{path}"' in line for line in lines)
    assert max(len(line) for line in lines if path not in line) <= 80


def test_colour_is_for_terminals_without_no_color(qw: Qw) -> None:
    qw("enqueue", "noop", "--id", "01890000-0000-7000-8000-000000000001")
    qw("task", "cancel", "--all", "--yes")

    assert "\x1b[" in on_terminal(qw, 80, "task", "list")
    assert "\x1b[" not in on_terminal(qw, 80, "task", "list", NO_COLOR="1")
    assert "\x1b[" not in qw("task", "list").out


def test_control_characters_in_data_do_not_reach_the_terminal(qw: Qw) -> None:
    evil = "a\x1b[31mb\x07\x9bc\u202ed\ne"
    id = str(qw("enqueue", "noop", "--payload", json.dumps({"evil": evil})).id)
    qw("task", "cancel", id)
    failing = str(qw("run", "--max-retries", "1", "--", "sh", "-c", "printf 'x\\033[2Jy'; exit 1").id)
    qw.drain()

    shown = on_terminal(qw, 80, "task", "show", id, NO_COLOR="1")
    logged = on_terminal(qw, 80, "logs", failing, NO_COLOR="1")
    as_json = qw("task", "show", id, "-o", "json")

    assert not set("\x1b\x07\x9b\u202e") & set(shown + logged)
    assert "x\\x1b[2Jy" in logged
    assert not set("\x1b\x07\x9b\u202e") & set(as_json.out)
    assert as_json.json["payload"] == {"evil": evil}


def test_wide_characters_keep_the_columns_straight(qw: Qw) -> None:
    from rich.cells import cell_len

    qw("queue", "pause", "default", "--by", "赤い鳥")

    header, row = on_terminal(qw, 150, "queue", "list", NO_COLOR="1").splitlines()

    assert "赤い鳥" in row
    assert cell_len(row[: row.index("paused")]) == header.index("state")


def test_an_ascii_terminal_gets_ascii(qw: Qw) -> None:
    id = str(qw("enqueue", "noop", "--payload", '{"name": "Zoë"}').id)

    done = qw.process("task", "show", id, "-o", "json", LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii")

    assert done.out.isascii()
    assert done.json["payload"] == {"name": "Zoë"}


def test_text_on_one_line_has_nothing_that_steers() -> None:
    assert printable("a\tb\r\nc\x00\x1b\x7f\u2028\u2066é") == "a\\tb\\r\\nc\\x00\\x1b\\x7f\\u2028\\u2066é"
    assert json.loads(printable_json(json.dumps("\x9b\u202e\x7f", ensure_ascii=False))) == "\x9b\u202e\x7f"


def test_amounts_read_as_people_say_them() -> None:
    from datetime import timedelta

    said = [span(timedelta(seconds=n)) for n in (0.012, 2.44, 200, 240, 4000, 86_400, 3 * 86_400)]
    assert said == ["12 ms", "2.4 s", "3 m 20 s", "4 m", "66 m", "24 h", "3 d"]
    assert (counted(1, "task"), counted(2000, "task")) == ("1 task", "2,000 tasks")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(qw: Qw, shell: str) -> None:
    done = qw("completion", shell)

    assert done.code == 0
    assert "_QW_COMPLETE" in done.out


COMPLETE = {  # what each shell offers for "qw task sh", once it has read its script
    "bash": """eval "$(qw completion bash)"; COMP_WORDS=(qw task sh); COMP_CWORD=2
        $(complete -p qw | sed "s/.*-F //"); echo "${COMPREPLY[@]}" """,
    "zsh": """autoload -Uz compinit; compinit -u -d dump; eval "$(qw completion zsh)"; words=(qw task sh); CURRENT=3
        _arguments() { print -r -- $1 | cut -d'"' -f 2 }; ${_comps[qw]}""",
    "fish": "qw completion fish | source; complete -C 'qw task sh' | cut -f 1",
}


@pytest.mark.parametrize("shell", COMPLETE)
def test_a_shell_completes_what_it_has_sourced(qw: Qw, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (qw.folder / "qw").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m qw "$@"\n')
    (qw.folder / "qw").chmod(0o755)

    done = subprocess.run(
        [shell, {"bash": "--norc", "zsh": "-f", "fish": "--no-config"}[shell], "-c", COMPLETE[shell]],
        env={**qw.environ, "PATH": f"{qw.folder}:{os.environ['PATH']}"}, capture_output=True, text=True, cwd=qw.folder,
    )  # fmt: skip

    assert (done.stdout, done.stderr) == ("show\n", "")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_runs_nothing_of_what_it_shows_of_a_task(qw: Qw) -> None:
    (qw.folder / "qw").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m qw "$@"\n')
    (qw.folder / "qw").chmod(0o755)
    id = qw("run", "--", r"\"); touch made; y=(\"").out.strip()
    script = """autoload -Uz compinit; compinit -u -d dump; eval "$(qw completion zsh)"; words=(qw logs 0); CURRENT=3
        _arguments() { local action=${1#\\*: :}; eval ws\\=\\( "${action[3,-3]}" \\); print -r -- $#ws $ws }
        ${_comps[qw]}"""  # as zsh's own _arguments does

    done = subprocess.run(
        ["zsh", "-f", "-c", script],
        env={**qw.environ, "PATH": f"{qw.folder}:{os.environ['PATH']}"}, capture_output=True, text=True, cwd=qw.folder,
    )  # fmt: skip

    assert done.stdout.startswith(f"1 {id}:pending command")
    assert (done.stderr, (qw.folder / "made").exists()) == ("", False)


def test_a_shell_completes_verbs_and_options() -> None:
    def completed(words: str, place: int) -> list[str]:
        environ = environment(_QW_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(place))
        return subprocess.run(QW, env=environ, capture_output=True, text=True).stdout.split()

    assert completed("qw enq", 1) == ["enqueue"]
    assert set(completed("qw task r", 2)) == {"retry", "remove", "requeue"}
    assert "--dry-run" in completed("qw task retry --d", 3)
    assert completed("qw task list --status f", 4) == ["failed"]


def test_a_duration_has_the_same_name_where_there_is_none(qw: Qw) -> None:
    qw("schedule", "add", "nightly", "--cron", "0 2 * * *", "--type", "noop")
    qw("schedule", "add", "often", "--every", "90s", "--type", "noop")

    found = {each["name"]: each for each in qw("schedule", "list", "-o", "json").json}

    assert found["nightly"].keys() == found["often"].keys()
    assert (found["nightly"]["every_seconds"], found["often"]["every_seconds"]) == (None, 90.0)


def test_a_shell_completes_what_is_in_the_database(qw: Qw) -> None:
    id = qw("enqueue", "noop", "-q", "reports").out.strip()
    qw("schedule", "add", "nightly", "--cron", "0 2 * * *", "--type", "noop")

    def completed(words: str, url: str = qw.environ["QW_DATABASE_URL"]) -> list[str]:
        place = str(len(words.split(" ")) - 1)
        done = qw.process(_QW_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=place, QW_DATABASE_URL=url)
        assert done.err == ""
        return done.out.split()

    assert completed(f"qw task cancel {id[:8]}") == [id]
    assert completed(f"qw task retry {id[:8]}") == []  # it has not failed
    assert completed("qw queue pause re") == ["reports"]
    assert completed("qw schedule next ni") == ["nightly"]
    assert completed("qw task list --status pending,fa") == ["pending,failed"]
    named = f"--database-url {qw.environ['QW_DATABASE_URL']}"
    assert completed(f"qw {named} queue show rep", "postgresql://nobody@127.0.0.1:1/none") == ["reports"]
    assert completed("qw task cancel 0", "postgresql://nobody@127.0.0.1:1/none") == []


def test_completion_loads_neither_typer_nor_psycopg_once_it_knows_the_commands(qw: Qw) -> None:
    id = qw("run", "--", "echo", "hello", "--password=hunter2").out.strip()

    def shown() -> Done:
        return qw.process(
            _QW_COMPLETE="complete_fish", _TYPER_COMPLETE_FISH_ACTION="get-args",
            _TYPER_COMPLETE_ARGS=f"qw logs {id[:8]}", PYTHONPROFILEIMPORTTIME="1",
        )  # fmt: skip

    first, second = shown(), shown()

    assert first.out == second.out == f"{id}\tpending command echo hello …\n"
    loaded = {line.rpartition("|")[2].strip() for line in second.err.splitlines()}
    assert "qw.store.completion" in loaded
    assert not {"typer", "psycopg", "rich", "asyncio"} & loaded


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("qw task retry --status failed --d", {"--dry-run", "--database-url"}),
        ("qw run --queue", {"--queue"}),
        ("qw run -- tar --", set()),
        ("qw completion ", {"bash", "zsh", "fish", "install"}),
        ("qw nonsense ", set()),
        ("qw task show 'unclosed", set()),
    ],
)
def test_what_is_offered_where(qw: Qw, words: str, expected: set[str]) -> None:
    place = str(len(words.split(" ")) - 1)

    assert set(qw.process(_QW_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=place).out.split()) == expected


def test_completion_is_installed_where_the_shell_looks(qw: Qw) -> None:
    done = qw("completion", "install", SHELL="/bin/bash")
    unknown = qw("completion", "install", SHELL="/bin/tcsh")

    file = qw.folder / ".local/share/bash-completion/completions/qw"
    assert (done.code, str(file) in done.err) == (0, True)
    assert "complete -o" in file.read_text()
    assert (unknown.code, "name one: bash, zsh or fish" in unknown.err) == (2, True)


def test_the_page_for_users_of_other_tools_has_only_commands_and_options_that_exist() -> None:
    commands = dict(all_commands())
    page = (Path(__file__).parents[2] / "docs" / "from-other-tools.md").read_text()
    lines = [text.replace("\\|", "|") for text in re.findall(r"`qw ([a-z][^`]*)`", page)]

    assert len(lines) > 60
    for line in lines:
        words = shlex.split(line)
        path = next(path for length in (3, 2, 1) if (path := tuple(words[:length])) in commands)
        known = {name for param in commands[path].params for name in param.opts}
        options = [word for word in itertools.takewhile(lambda word: word != "--", words) if word.startswith("-")]
        assert {option for option in options if len(option) > 1} <= known, line
