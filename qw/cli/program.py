"""The program ``qw``: its root options, and the conversion of errors to messages and exit codes."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from typer.main import get_command

from qw import __version__
from qw.cli.command import Verbs, remember
from qw.cli.output.text import printable
from qw.cli.settings import FLAGS
from qw.core.errors import Denied, Invalid, QwError

DONE, FAILED, USAGE, NOT_FOUND, CONFLICT, DENIED = 0, 1, 2, 3, 4, 5
UNAVAILABLE, TEMPORARY, MISCONFIGURED, TIMED_OUT, INTERRUPTED, BROKEN_PIPE = 69, 75, 78, 124, 130, 141

EXIT_CODES: Mapping[str, int] = {
    "invalid": USAGE,
    "not_found": NOT_FOUND,
    "conflict": CONFLICT,
    "denied": DENIED,
    "unavailable": UNAVAILABLE,
    "read_only": TEMPORARY,
    "misconfigured": MISCONFIGURED,
    "timed_out": TIMED_OUT,
}
_NEXT: Mapping[str, str] = {
    "unavailable": "run qw doctor to find the cause",
    "read_only": "try again when the server accepts writes",
}

app = typer.Typer(
    cls=Verbs,
    name="qw",
    invoke_without_command=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Run qw COMMAND --help for the options of a command and an example, qw help all for every command.",
)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"qw {__version__}")
        raise typer.Exit


@app.callback()
def _qw(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("-V", "--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    database_url: Annotated[
        str | None,
        typer.Option(callback=remember, expose_value=False, metavar="URL", help="PostgreSQL connection URL."),
    ] = None,
    home: Annotated[
        str | None,
        typer.Option(callback=remember, expose_value=False, metavar="DIR", help="Directory of the private PostgreSQL."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "-c", "--config", callback=remember, expose_value=False, metavar="FILE", help="Settings file (TOML)."
        ),
    ] = None,
) -> None:
    """A durable task queue in the PostgreSQL you already have."""
    if ctx.invoked_subcommand is None:
        if FLAGS:
            raise Invalid(
                f"no command after --{next(iter(FLAGS)).replace('_', '-')}; for example: qw task list, qw logs ID"
            )
        from qw.cli.short_help import PAGE

        print(PAGE)


def run(words: Sequence[str]) -> int:
    """Run the command line *words*. Return its exit code; print errors on stderr, one line per fault."""
    FLAGS.clear()
    if isinstance(sys.stdout, io.TextIOWrapper):  # print ? for characters that the locale lacks, instead of failing
        sys.stdout.reconfigure(errors="replace")
    try:
        code = _run(words)
        if sys.stdout is not None and not sys.stdout.closed:  # a daemon's handler may have closed it
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        _drop_output()
        return BROKEN_PIPE
    except SystemExit as end:  # raised by typer for a broken pipe and after a completion
        if isinstance(end.__context__, BrokenPipeError):
            _drop_output()
            return BROKEN_PIPE
        return end.code if isinstance(end.code, int) else DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Invalid as error:
        return _fail(EXIT_CODES.get(error.code, FAILED), *map(str, error.faults))
    except QwError as error:
        return _fail(EXIT_CODES.get(error.code, FAILED), _with_next_step(error))
    except OSError as error:
        return _fail(FAILED, _of_system(error))
    except UnicodeEncodeError as error:  # an argument that is not UTF-8, which Python holds as surrogates
        return _fail(USAGE, f"'{error.object}' is not UTF-8; qw stores names and filters as UTF-8 text only")
    except Exception as error:
        if os.environ.get("QW_LOG_LEVEL", "").lower() == "debug":
            raise
        return _fail(
            FAILED, f"{type(error).__name__}: {error}; this is a bug in qw; set QW_LOG_LEVEL=debug for details"
        )


def _run(words: Sequence[str]) -> int:
    try:
        code = get_command(app).main(list(words), prog_name="qw", standalone_mode=False)
    except typer.Abort:
        return INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):  # only typer's usage errors have it; typer does not export their class
            raise
        return _refuse_usage(error, words)
    return code if isinstance(code, int) else DONE


def _refuse_usage(error: Exception, words: Sequence[str]) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), file=sys.stderr)  # type: ignore[attr-defined]
        return USAGE
    from qw.cli.usage import message_of

    return _fail(USAGE, message_of(error, words))


def _with_next_step(error: QwError) -> str:
    step = error.remedy if isinstance(error, Denied) else _NEXT.get(error.code)
    return f"{error}; {step}" if step else str(error)


def _fail(code: int, *messages: str) -> int:
    with contextlib.suppress(OSError):  # stderr is closed
        for message in messages:
            print(f"qw: {printable(message)}", file=sys.stderr)
    return code


def _of_system(error: OSError) -> str:
    """Return the message of a system error; for a full disk or a removed current directory, with advice."""
    place = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else "input or output"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{place}: {error.strerror}; free some space there, or write to another disk"
    if error.errno == errno.ENOENT and not os.path.isabs(error.filename or "") and _is_directory_gone():
        return "the current directory no longer exists; change to another one"
    return f"{place}: {error.strerror}"


def _is_directory_gone() -> bool:
    try:
        os.getcwd()
    except OSError:
        return True
    return False


def _drop_output() -> None:
    """Redirect stdout to /dev/null so that Python does not fail when it flushes the rest at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
