"""Loads the user's `Handlers` object by name. Errors name the file and line of the user's code."""

from __future__ import annotations

import importlib
import os
import site
import sys
import sysconfig
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import ModuleType

import qw
from qw import telemetry
from qw.core.errors import Misconfigured, QwError, guess
from qw.daemon.event_loop import in_lifespan
from qw.handlers import Handlers

_NOT_THE_USERS = (
    str(Path(qw.__file__).parent),
    *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
    *site.getsitepackages(),
    "<",  # <frozen importlib._bootstrap>
)


def load_app(name: str) -> Handlers:
    """The `Handlers` object at ``package.module:attribute``; the current directory is searched too.

    Raise Misconfigured for anything that the user's code raises on import.
    """
    module_name, _, attribute = name.partition(":")
    if not attribute.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        raise Misconfigured(f"--app {name!r}: write it as package.module:attribute")
    _look_here()
    try:
        module = importlib.import_module(module_name)
        app = getattr(module, attribute, None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise Misconfigured(f"--app {name}: {_description(error, module_name)}") from error
    if not isinstance(app, Handlers):
        raise Misconfigured(f"--app {name}: {_not_handlers(module, attribute)}")
    return app


@asynccontextmanager
async def opened(app: Handlers) -> AsyncIterator[None]:
    """Open the lifespans of *app* and trace its attempts. Raise Misconfigured for what they raise."""
    async with AsyncExitStack() as stack:
        token = in_lifespan.set(True)
        try:
            await stack.enter_async_context(app.opened())
        except QwError:
            raise  # the database may be there in a moment
        except Exception as error:
            raise Misconfigured(f"--app: the lifespan failed: {_description(error, '')}") from error
        finally:
            in_lifespan.reset(token)
        if telemetry.is_tracing():  # the lifespan may have set it up
            app.middleware(telemetry.process)
        yield


def _look_here() -> None:
    try:
        here = os.getcwd()
    except OSError:  # the directory was deleted; the import path may still have the module
        return
    if here not in sys.path:
        sys.path.insert(0, here)


def _description(error: BaseException, module_name: str) -> str:
    """One line: the place in the user's code and the error raised there."""
    text = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError) and _is_missing(error.name, module_name):
        return f"{text}; looked in the current directory and on Python's path"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    place = next(_places(error), "")
    if isinstance(error, SystemExit):
        text = f"the module ends the program ({error.code!r}) while it is imported"
        return f"{place}: {text}" if place else text
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{place}: {what}" if place else what


def _is_missing(missing: str | None, wanted: str) -> bool:
    """Whether the requested module, or a package above it, is the one that is missing."""
    return missing is not None and (wanted == missing or wanted.startswith(f"{missing}."))


def _places(error: BaseException) -> Iterator[str]:
    """``file:line`` of the user's code in the traceback of *error*, innermost first."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        file = frame.f_code.co_filename
        if not file.startswith(_NOT_THE_USERS):
            yield f"{file}:{line}"


def _not_handlers(module: ModuleType, attribute: str) -> str:
    where = getattr(module, "__file__", None) or module.__name__
    if not hasattr(module, attribute):
        names = [name for name, value in vars(module).items() if isinstance(value, Handlers)]
        hint = guess(attribute, vars(module)) or (f"; its Handlers object is {names[0]!r}" if names else "")
        return f"{where} has no {attribute!r}{hint}"
    kind = type(getattr(module, attribute)).__name__
    return f"{attribute!r} in {where} is a {kind}, not a qw.Handlers object"
