"""The table of commands, shown by ``qw --help``. A command's module is imported only when the command is used."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from functools import partial
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from qw.cli.settings import FLAGS
from qw.core.errors import Invalid, LacksRight
from qw.core.rights import Right

VERBS: Mapping[str, Mapping[str, str]] = {
    "Common commands": {
        "enqueue": "Enqueue tasks.",
        "run": "Run a shell command as a task.",
        "daemon": "Run a worker until it is stopped.",
        "api": "Serve the HTTP API without running tasks.",
        "ui": "Serve the dashboard.",
        "status": "Show queues, workers and recent failures.",
        "top": "Watch and act on everything in a full-screen view.",
        "logs": "Show the log of a task.",
        "why": "Explain why a task is not running.",
        "wait": "Wait until tasks have finished.",
        "demo": "Run the sample invoice workflow from start to finish.",
        "init": "Start a project: settings, a workflow and a task in Python.",
    },
    "Resources": {
        "task": "List, inspect, retry and cancel tasks.",
        "workflow": "Start, inspect and validate workflows.",
        "schedule": "Start tasks and workflows on a schedule.",
        "apply": "Apply definition files to the database.",
        "diff": "Show what qw apply would change.",
        "queue": "List, pause, limit, drain and purge queues.",
        "worker": "List, inspect, resize and drain workers.",
        "events": "Follow and replay events.",
        "db": "Manage the database schema, access rights and the private PostgreSQL.",
    },
    "Diagnostics": {
        "audit": "Show who changed what.",
        "doctor": "Check the installation and suggest fixes.",
        "config": "Show all settings and where each value comes from.",
        "service": "Install the daemon as a systemd service.",
        "completion": "Print or install a shell completion script.",
        "man": "Show the manual page of a command.",
        "help": "Show the help of a command, or of all.",
    },
}


class Verb(TyperCommand):
    """A command with the common options that needs no right. `needs` returns the class of commands that need one."""

    rights: ClassVar[Sequence[Right | None]] = ()  # any one suffices, the lowest first; None: only the schema's owner
    own: ClassVar[bool] = False  # the right to enqueue suffices for one's own tasks

    def __init__(self, *args: Any, params: list[Any] | None = None, **more: Any) -> None:
        super().__init__(*args, params=[*(params or []), *get_command(_common).params], **more)

    def get_params(self, ctx: Any) -> list[Any]:
        return _plain(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return _parsed(super().parse_args, ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. If the database refuses a statement, the error names the right that this command needs.

        The command may need a higher right than the refused statement did.
        """
        try:
            return super().invoke(ctx)
        except LacksRight as error:
            if not self.rights:
                raise
            raise error.needed_for(ctx.command_path.removeprefix("qw "), self.rights[0]) from error


def needs(*rights: Right | None, own: bool = False) -> type[Verb]:
    """Return the class of commands that need any one of *rights*; see `Verb`. `scripts/tables` documents the rights."""
    return type("Verb", (Verb,), {"rights": rights, "own": own})


class Noun(TyperGroup):
    """A group of commands about one resource."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _plain(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return _parsed(super().parse_args, ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        word, *rest = args
        if word not in self.commands and not word.startswith("-"):
            from qw.cli.suggestions import repaired, verb_meant

            known = [name for section in VERBS.values() for name in section]
            hint = verb_meant(ctx.command_path, word, rest, self.commands, known) or f"see: {ctx.command_path} --help"
            hint = repaired(hint, partial(_options_of, ctx.find_root().command))
            raise Invalid(f"there is no command '{ctx.command_path} {word}'; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        verbs = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, (verb.help or "").partition("\n")[0]) for name, verb in verbs if verb])


def _options_of(command: Any, words: Sequence[str]) -> set[str]:
    """Return the options of the command that *words* begin with; *command* is that of the first word, ``qw``."""
    for word in words[1:]:
        below = command.get_command(None, word) if hasattr(command, "get_command") else None
        if below is None:
            break
        command = below
    return {option for param in command.params for option in (*param.opts, *param.secondary_opts)} | {"--help", "-h"}


def _parsed(parse: Callable[[Any, list[str]], list[str]], ctx: Any, args: list[str]) -> list[str]:
    """Return the result of *parse* for *args*. On a usage error, set its context so that it names the command.

    Some of typer's own errors lack the context.
    """
    try:
        return parse(ctx, args)
    except Exception as error:
        if getattr(error, "ctx", ctx) is None:
            error.ctx = ctx  # type: ignore[attr-defined]  # a usage error; typer does not export the class
        raise


def _plain(params: list[Any]) -> list[Any]:
    for param in params:
        if "get_runtime_param" not in vars(param):
            param.get_runtime_param = _Plain(param).ready
            _name_value(param)
    return params


def _name_value(param: Any) -> None:
    """Make the help show ``--queue QUEUE``, ``--limit N`` and ``ID``, not ``--queue <str>`` and ``{ID} <str>``."""
    if param.param_type_name == "argument":
        raw = param.display_name_raw
        name = raw if param.required or raw.startswith("[") else f"[{raw}]"
        param.get_usage_pieces = lambda ctx: [name]
        param.display_type_rich = lambda ctx: ""
    elif param.metavar is None and param.type_descriptor.annotation in (int, str):
        param.metavar = "N" if param.type_descriptor.annotation is int else param.name.upper()


class _Plain:
    """Converts values that need no pydantic: text, choices and missing values. Importing pydantic takes 0.1 s.

    It replaces the object with which typer converts the words of one parameter, and passes all other values on to it.
    """

    def __init__(self, param: Any) -> None:
        self._kind = param.type_descriptor.annotation
        self._full = param.get_runtime_param

    def ready(self) -> _Plain:
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if (self._kind in (str, list[str]) and value is not None) or type(value) is self._kind:
            return value
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if isinstance(self._kind, type) and issubclass(self._kind, StrEnum) and value in set(self._kind):
            return self._kind(value)
        return self._full().coerce(value, param=param, ctx=ctx)


class Verbs(Noun):
    """The root command: knows all commands by name and loads the one that is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for section in VERBS.values() for name in section]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = get_command(import_module(f"qw.cli.commands.{cmd_name}").app)
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.list_commands(ctx) and not args[0].startswith("-"):
            from qw.cli.suggestions import command_meant, repaired

            hint = command_meant(args, self._nouns(ctx), self.list_commands(ctx)) or "see: qw help all"
            hint = repaired(hint, partial(_options_of, self))
            raise Invalid(f"there is no command {args[0]!r}; {hint}")
        return TyperGroup.resolve_command(self, ctx, args)

    def _nouns(self, ctx: Any) -> Mapping[str, Collection[str]]:
        commands = {name: self.get_command(ctx, name) for name in VERBS["Resources"]}
        return {name: command.commands for name, command in commands.items() if isinstance(command, Noun)}

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for title, section in VERBS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in section.items()])


def noun(name: str) -> typer.Typer:
    """Return a Typer app for a group of commands; its help comes from the table `VERBS`."""
    return verbs(VERBS["Resources"].get(name) or VERBS["Diagnostics"][name])


def verbs(help: str | None = None) -> typer.Typer:
    """Return a Typer app for one module: a single command, or a group of commands if *help* is given."""
    return typer.Typer(
        cls=Noun,
        help=help,
        no_args_is_help=help is not None,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def remember(param: typer.CallbackParam, value: str | None) -> None:
    if value is not None and param.name is not None:
        FLAGS[param.name] = value


_common = verbs()


@_common.command()
def _flags(
    database_url: str = typer.Option(
        None, callback=remember, expose_value=False, metavar="URL", help="PostgreSQL connection URL."
    ),
    home: str = typer.Option(
        None, callback=remember, expose_value=False, metavar="DIR", help="Directory of the private PostgreSQL."
    ),
    config: str = typer.Option(
        None, "-c", "--config", callback=remember, expose_value=False, metavar="FILE", help="Settings file (TOML)."
    ),
) -> None:
    """Define the options that every command takes."""
