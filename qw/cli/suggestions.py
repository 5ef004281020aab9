"""Suggests commands and options for unknown ones: those of other programs, and typos."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches

COMMANDS: Mapping[str, str] = {  # commands of other programs, and verbs without their group
    **dict.fromkeys(("list", "ls", "lst"), "task list"),
    **dict.fromkeys(("show", "info", "result"), "task show"),
    **dict.fromkeys(("cancel", "revoke", "dequeue", "atrm"), "task cancel"),
    "kill": "task cancel --running",
    **dict.fromkeys(("retry", "rerun", "restart", "replay"), "task retry"),
    **dict.fromkeys(("remove", "rm", "delete"), "task remove"),
    **dict.fromkeys(("clean", "cleanup", "prune"), "task remove --all"),
    "requeue": "task requeue",
    **dict.fromkeys(("forget", "erase"), "task forget"),
    "compensate": "task compensate",
    **dict.fromkeys(("edit", "change"), "task edit"),
    **dict.fromkeys(("move", "switch", "urgent"), "task move --front"),
    "stack": "task stack",
    "atq": "task list --status pending",
    **dict.fromkeys(("history", "finished"), "task list --status completed,failed,cancelled"),
    "follow": "logs -f",
    **dict.fromkeys(("tail", "log", "output", "cat"), "logs"),
    **dict.fromkeys(("parallel", "slots", "resize"), "worker slots"),
    "runs": "workflow runs",
    **dict.fromkeys(("approve", "reject", "validate", "graph", "plan"), "workflow"),
    **dict.fromkeys(("pause", "resume", "limit", "purge", "drain"), "queue"),
    **dict.fromkeys(("unpause", "continue"), "queue resume"),
    **dict.fromkeys(("flush", "empty"), "queue purge"),
    **dict.fromkeys(("enable", "unsuspend"), "schedule resume"),
    "disable": "schedule pause",
    "suspend": "queue pause",
    "list-timers": "schedule list",
    "list-units": "worker list",
    "trigger": "schedule trigger",
    **dict.fromkeys(("ps", "stats"), "status"),
    "watch": "events tail --follow",
    **dict.fromkeys(("push", "submit", "call", "delay", "apply_async", "send_task", "defer", "spawn"), "enqueue"),
    **dict.fromkeys(("exec", "sh", "shell"), "run"),
    **dict.fromkeys(("dashboard", "web", "flower"), "ui"),
    **dict.fromkeys(("monitor", "htop"), "top"),
    **dict.fromkeys(("work", "up", "pueued"), "daemon"),
    "run-once": "daemon --drain",
    **dict.fromkeys(("server", "serve"), "api"),
    **dict.fromkeys(("install", "systemd"), "service install"),
    **dict.fromkeys(("new", "create-project"), "init"),
    **dict.fromkeys(("check", "health", "ping", "report"), "doctor"),
    **dict.fromkeys(("settings", "env"), "config show"),
    **dict.fromkeys(("migrate", "grant"), "db"),
    "import": "schedule import crontab",
    "version": "--version",
}

ADVICE: Mapping[str, str] = {  # words with several meanings in qw
    "stop": "to stop a task: qw task cancel --running ID, a daemon: qw worker drain WORKER, the database: qw db stop",
    "start": "for a worker: qw daemon, a workflow: qw workflow start NAME, a paused queue: qw queue resume NAME",
    "down": "to stop a daemon: qw worker drain WORKER, the database: qw db stop",
    "send": "to send a signal: qw task signal ID NAME, or qw workflow signal RUN NAME",
    "signal": "to send a signal: qw task signal ID NAME, or qw workflow signal RUN NAME",
    "reset": "to cancel waiting tasks: qw queue purge NAME, to delete finished ones: qw task remove --all",
    "at": "to run a command at a given time: qw run --at 18:00 -- COMMAND",
    "batch": "for one at a time: qw queue limit batch --concurrency 1 --create; then: qw run -q batch -- COMMAND",
    "beat": "every qw daemon fires schedules; to see them: qw schedule list",
    "multi": "for several processes: qw daemon --processes N",
    "group": "a queue is created when it is first used: qw run -q NAME -- COMMAND; to limit it: "
    "qw queue limit NAME --concurrency N --create",
    "stash": "to hold back a queue: qw queue pause NAME; to run a task later: qw task edit ID --in 2h",
    **dict.fromkeys(
        ("reload", "daemon-reload"), "to read definition files again: qw apply -f FILE, or kill -HUP a daemon's process"
    ),
    "scale": "for more slots: qw worker slots N, for more processes: qw daemon --processes N",
    **dict.fromkeys(
        ("update", "upgrade"), "for a new version: pip install --upgrade qw, then its schema: qw db migrate"
    ),
}

_NOUNS: Mapping[str, str] = {  # groups as other programs call them, and plurals
    **dict.fromkeys(("tasks", "job", "jobs"), "task"),
    **dict.fromkeys(("workflows", "flow", "flows", "dag", "dags"), "workflow"),
    **dict.fromkeys(("schedules", "cron", "crons", "cronjob", "cronjobs", "crontab"), "schedule"),
    **dict.fromkeys(("queues", "group", "groups"), "queue"),
    **dict.fromkeys(("workers", "daemons", "pods", "pod", "deployments", "nodes"), "worker"),
    "event": "events",
    "database": "db",
}

_VERBS: Mapping[str, Sequence[str]] = {  # verbs of other programs, and the possible verbs in qw
    **dict.fromkeys(("rm", "delete", "del", "drop"), ("remove", "cancel")),
    **dict.fromkeys(("kill", "stop", "abort"), ("cancel", "pause", "drain")),
    **dict.fromkeys(("ls", "lst", "all", "status", "-l"), ("list", "runs", "show")),
    **dict.fromkeys(("get", "info", "inspect", "describe", "view", "cat"), ("show",)),
    **dict.fromkeys(("create", "new", "set", "add"), ("add", "limit", "grant")),
    **dict.fromkeys(("run", "fire"), ("trigger", "start")),
    **dict.fromkeys(("disable", "suspend", "hold"), ("pause",)),
    **dict.fromkeys(("enable", "unpause", "continue"), ("resume",)),
    **dict.fromkeys(("restart", "rerun", "replay"), ("retry",)),
    **dict.fromkeys(("update", "change", "modify"), ("edit", "add", "limit")),
    **dict.fromkeys(("clear", "empty", "clean", "flush"), ("purge", "remove")),
    **dict.fromkeys(("log", "tail"), ("logs",)),
    **dict.fromkeys(("draw", "picture", "dot"), ("graph",)),
    **dict.fromkeys(("scale", "resize", "parallel", "concurrency"), ("slots", "limit")),
    "remove": ("cancel",),
    "check": ("validate",),
    "init": ("migrate",),
    "upgrade": ("migrate",),
    "start": ("resume", "install"),
}

_PHRASES: Mapping[str, str] = {  # words that the tables above would map to a wrong command
    "info": "qw status",
    "pause": "qw queue pause --all",
    "suspend": "qw queue pause --all",
    "resume": "qw queue resume --all",
    "unpause": "qw queue resume --all",
    "start qw": "qw daemon",
    "system prune": "qw task remove --all",
    "group list": "qw queue list",
    "worker start": "qw daemon",
    "worker run": "qw daemon",
    "worker restart": "stop it with qw worker drain WORKER, and start qw daemon again",
    "queue parallel": "qw queue limit NAME --concurrency",
    "workflow status": "qw workflow runs",
    "task add": "qw enqueue",
    "task create": "qw enqueue",
    "task run": "qw run",
    "task stop": "qw task cancel --running",
    "task kill": "qw task cancel --running",
    "config set": "write a line into qw.toml, or set a variable: QW_CONCURRENCY=4; see: qw config show",
    "config get": "qw config show",
    "config list": "qw config show",
    **dict.fromkeys(
        ("service start", "service stop", "service status", "service restart"),
        "after qw service install: systemctl --user start|stop|status qw",
    ),
    "inspect active": "qw task list --status processing",
    "inspect reserved": "qw task list --status pending",
    "inspect scheduled": "qw task list --status pending",
    "control revoke": "qw task cancel",
    "control shutdown": "qw worker drain",
    "schedule -l": "qw schedule list",
    "schedule -e": "edit a crontab file, and: qw schedule import crontab FILE --yes",
}

_LETTERS: Mapping[str, str] = {  # options of task-spooler
    "-l": "task list",
    "-S": "worker slots",
    "-t": "logs -f",
    "-w": "wait",
    "-C": "task remove --all",
    "-k": "task cancel --running",
    "-r": "task remove",
    "-u": "task move --front",
    "-i": "task show",
    "-p": "task show",
    "-f": "run -f --",
    "-n": "run --",
    "-d": "run --after ID --",
    "-v": "--version",
}

_OPTIONS: Mapping[str, Sequence[str]] = {  # options of other programs, and the possible options in qw
    **dict.fromkeys(("--json", "-j"), ("-o json", "--concurrency")),
    **dict.fromkeys(("--format", "--yaml", "--csv"), ("-o json",)),
    **dict.fromkeys(("--delay", "--countdown"), ("--in",)),
    **dict.fromkeys(("--eta", "--run-at", "--schedule"), ("--at", "--cron")),
    **dict.fromkeys(("--group", "-g"), ("--queue",)),
    **dict.fromkeys(("--state", "--filter", "-s"), ("--status",)),
    **dict.fromkeys(("--prio", "--nice", "--urgent"), ("--priority",)),
    **dict.fromkeys(("--depends", "--depends-on", "--dependency", "-d", "-D"), ("--after", "--in")),
    **dict.fromkeys(("--args", "--kwargs", "--data", "--body"), ("--payload",)),
    **dict.fromkeys(("-i", "--param", "--params", "--set", "--payload"), ("--input",)),
    **dict.fromkeys(("--worker", "--workers", "--jobs", "--parallel"), ("--concurrency",)),
    **dict.fromkeys(("--tz", "--zone"), ("--timezone",)),
    **dict.fromkeys(("--retries", "--max-attempts", "--retry"), ("--max-retries",)),
    **dict.fromkeys(("--force", "--no-confirm", "-f"), ("--yes",)),
    **dict.fromkeys(("--all-failed", "-a"), ("--status failed",)),
    **dict.fromkeys(("--tail", "--lines"), ("--limit",)),
    "--name": ("--key",),
    "--unique": ("--key",),
    "--watch": ("--follow", "--interval"),
}

_OPTION_ADVICE: Mapping[tuple[str, str], str] = {
    ("qw enqueue", "--type"): "the type is the first word: qw enqueue TYPE",
    ("qw run", "--immediate"): "leave it out: a command starts as soon as a slot is free",
    ("qw run", "--shell"): "name the shell: qw run -- sh -c '...'",
    **{
        ("qw daemon", option): "in the background: qw daemon &, as a service: qw service install"
        for option in ("-d", "--daemonize", "--detach")
    },
    **{
        ("qw run", option): "leave it out: the command runs in the background, without a terminal"
        for option in ("-i", "-t", "--rm", "--detach")
    },
    ("qw run", "-d"): "leave it out: the command runs in the background; to run it after another task: --after ID",
    **{("qw status", option): "for one queue: qw task list --queue NAME" for option in ("-g", "--group", "-q")},
    **{
        (path, option): "for tasks in Python: qw daemon --app MODULE:ATTRIBUTE"
        for path in ("qw", "qw worker", "qw daemon")
        for option in ("-A", "--app")
    },
    ("qw", "--json"): "put it after the command: qw task list -o json",
    ("qw logs", "-n"): "for the last lines: qw logs ID | tail -n 5",
    ("qw logs", "--tail"): "for the last lines: qw logs ID | tail -n 5",
    ("qw top", "-n"): "for one frame: qw top --once",
    ("qw", "--verbose"): "for more detail: QW_LOG_LEVEL=debug",
}

_STATUSES = frozenset(("pending", "processing", "running", "completed", "failed", "retrying", "cancelled", "suspended"))

_DAEMON_WORDS: Mapping[str, str] = {
    "start": "start it without an argument: qw daemon",
    "stop": "press ^C in its terminal, or: qw worker drain WORKER",
    "restart": "qw worker drain WORKER, and qw daemon again; to reload definition files: kill -HUP its process",
    "reload": "kill -HUP its process",
    "status": "qw worker list",
}

_BEFORE_NOUN = frozenset(("get", "describe", "delete", "list", "create", "show", "scale", "edit"))  # as in kubectl

_LISTS: Mapping[str, str] = {
    **dict.fromkeys(("ID", "TASK"), "qw task list"),
    **dict.fromkeys(("RUN", "RUN|NAME"), "qw workflow runs"),
    "WORKER": "qw worker list",
}


_PREFIX = "did you mean: "


def command_meant(words: Sequence[str], nouns: Mapping[str, Collection[str]], known: Collection[str]) -> str | None:
    """Return a suggestion for ``qw WORDS``, the first of which may be misspelled; None without a good match.

    *nouns* maps each group to its commands. *known* has all command names.
    """
    word, *rest = words
    if phrase := _phrase(*words[:2], rest=rest[1:]):
        return phrase
    if word in _BEFORE_NOUN and rest and (noun := _noun(rest[0], nouns)):
        return _of_noun(noun, word, rest[1:], nouns[noun])
    if word == "control" and rest:
        return command_meant(rest, nouns, known)
    if (word == "add" and len(rest) == 1) or "--payload" in rest:
        return _did_you_mean("enqueue", rest)
    if word == "add" and rest:
        return _did_you_mean("run" if "--" in rest or rest[0].startswith("-") else "run --", rest)
    if word == "add":
        return "did you mean: qw run -- COMMAND, or qw enqueue TYPE"
    if word == "parallel" and (group := _group(rest)):
        number = next((word for word in rest if word.isdigit()), "N")
        return _did_you_mean("queue limit", [group, "--concurrency", number, "--create"])
    if word == "start" and rest and not rest[0][:1].isdigit():
        return _did_you_mean("workflow start", rest)
    if word in ADVICE:
        return ADVICE[word]
    if word in ("get", "inspect", "describe"):
        return _did_you_mean("task show", rest)
    if noun := _noun(word, nouns):
        return _of_noun(noun, rest[0] if rest else "list", rest[1:], nouns[noun])
    if word in COMMANDS:
        return _did_you_mean(_command(word), rest)
    if word in known:
        return _did_you_mean(word, rest)
    if close := get_close_matches(word.lower(), [*known, *COMMANDS, *_NOUNS], n=1, cutoff=0.7):
        return command_meant([close[0], *rest], nouns, known)
    return None


def repaired(hint: str, options_of: Callable[[Sequence[str]], Collection[str]]) -> str:
    """Return *hint*; options of other programs in the command that it suggests are replaced by qw's, or left out.

    *options_of* returns the options of the command that these words begin with.
    """
    if not hint.startswith(_PREFIX):
        return hint
    words = shlex.split(hint.removeprefix(_PREFIX))
    options = options_of(words)
    kept: list[str] = []
    for number, word in enumerate(words):
        name, has_value, value = word.partition("=")
        if word == "--" or (words[1:2] == ["run"] and number > 1 and not word.startswith("-")):
            kept += words[number:]  # the command and its own options
            break
        if not word.startswith("-") or word == "-" or name in options or word[1:2].isdigit():
            kept.append(word)
        elif right := next((right for right in _OPTIONS.get(name, ()) if right.split()[0] in options), None):
            first, *more = right.split()
            kept += [f"{first}{has_value}{value}", *more]
    return f"{_PREFIX}{shlex.join(kept)}"


def command_of(word: str) -> str | None:
    """Return the command that *word* probably means, without ``qw``."""
    return _command(word) if word in COMMANDS else _NOUNS.get(word)


def verb_meant(path: str, word: str, rest: Sequence[str], verbs: Collection[str], known: Collection[str]) -> str | None:
    """Return a suggestion for ``PATH WORD REST``, where the group *path* has the commands *verbs*; None without a
    good match.
    """
    if word == "help":
        return f"{_PREFIX}{shlex.join([*path.split(), *(name for name in rest[:1] if name in verbs), '--help'])}"
    if phrase := _phrase(path.removeprefix("qw "), word, rest=rest):
        return phrase
    if verb := _verb(word, verbs):
        return f"{_PREFIX}{shlex.join([*path.split(), verb, *rest])}"
    if word in known:
        return f"{_PREFIX}{shlex.join(['qw', word, *rest])}"
    if close := get_close_matches(word, list(verbs), n=1):
        return f"{_PREFIX}{shlex.join([*path.split(), close[0], *rest])}"
    return None


def option_meant(path: str, option: str, options: Collection[str], words: Sequence[str]) -> str | None:
    """Return a suggestion for *option*, which the command *path* with these *options* does not have."""
    if advice := _OPTION_ADVICE.get((path, option)):
        return advice
    if path == "qw" and option in _LETTERS:
        return _did_you_mean(_LETTERS[option], words[words.index(option) + 1 :] if option in words else [])
    for right in _OPTIONS.get(option, ()):
        if right.split()[0] in options:
            return f"did you mean {right}?"
    close = [name for name in options if name.startswith(option)] or get_close_matches(
        option, [name for name in options if name.startswith("--")], n=2, cutoff=0.75
    )
    return f"did you mean {' or '.join(close)}?" if close else None


def arguments_meant(path: str, words: Sequence[str], extra: Sequence[str]) -> str | None:
    """Return a suggestion for arguments that the command *path* does not take."""
    first = extra[0]
    if path == "qw daemon":
        return _DAEMON_WORDS.get(first)
    if path == "qw task list" and first in _STATUSES:
        statuses = [word for word in words if word in _STATUSES]
        return f"{_PREFIX}qw task list --status {','.join(statuses)}"
    if path == "qw task list" and first == "ago":
        return f"leave out {first!r}: --since 2h"
    if path == "qw status":
        return f"for a task or run: qw why {first}, for a queue: qw queue show {first}"
    if path == "qw queue limit" and first[:1].isdigit():
        name = next((word for word in words[2:] if word != first and not word.startswith("-")), "NAME")
        return f"did you mean: qw queue limit {name} {'--rate' if '/' in first else '--concurrency'} {first}"
    if path == "qw enqueue":
        type = next((word for word in words[1:] if not word.startswith("-")), "TYPE")
        payload = shlex.quote(first) if first[:1] in "{@" else '\'{"name": "value"}\''
        return f"did you mean: qw enqueue {type} --payload {payload}"
    if path in ("qw apply", "qw diff"):
        return f"{_PREFIX}{path} -f {shlex.join(extra)}"
    return None


def missing_argument(path: str, metavar: str) -> str | None:
    """Return a hint on the argument *metavar*, which the command *path* requires."""
    if path == "qw run":
        return "for example: qw run -- make all"
    listing = _listing(path, metavar)
    return listing and f"to find one: {listing}"


def _listing(path: str, metavar: str) -> str | None:
    """Return the command that lists possible values of *metavar*."""
    noun = path.removeprefix("qw ").partition(" ")[0]
    name = metavar.removesuffix("...")
    if name in ("NAME", "QUEUE", "SCHEDULE") and noun in ("queue", "schedule", "workflow"):
        return f"qw {noun} list"
    return _LISTS.get(name)


def _noun(word: str, nouns: Iterable[str]) -> str | None:
    return word if word in nouns else _NOUNS.get(word)


def _of_noun(noun: str, verb: str, rest: Sequence[str], verbs: Collection[str]) -> str | None:
    if phrase := _phrase(noun, verb, rest=rest):
        return phrase
    if verb == "get" and not rest:
        verb = "list"
    right = verb if verb in verbs else _verb(verb, verbs)
    return _did_you_mean(f"{noun} {right}", rest) if right else f"see: qw {noun} --help"


def _phrase(*words: str, rest: Sequence[str]) -> str | None:
    right = _PHRASES.get(" ".join(words))
    if right is None or ", " in right or ": " in right:
        return right
    return f"{_PREFIX}{_with(right, rest)}"


def _verb(word: str, verbs: Collection[str]) -> str | None:
    return next((verb for verb in _VERBS.get(word, ()) if verb in verbs), None)


def _group(words: Sequence[str]) -> str | None:
    """Return the value of ``--group`` among *words*."""
    options = (number for number, word in enumerate(words[:-1]) if word in ("-g", "--group"))
    return next((words[number + 1] for number in options), None)


def _command(word: str) -> str:
    right = COMMANDS[word]
    return f"{right} {word}" if right in ("workflow", "queue", "db") else right


def _did_you_mean(command: str, rest: Sequence[str]) -> str:
    return f"{_PREFIX}{_with(f'qw {command}', rest)}"


def _with(command: str, rest: Sequence[str]) -> str:
    flags = {word for word in command.split() if word.startswith("--") and word != "--"}
    return f"{command} {shlex.join(word for word in rest if word not in flags)}".rstrip()
