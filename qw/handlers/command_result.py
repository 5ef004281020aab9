"""The result of a successful command: its output in the requested format, and the values it wrote for later steps."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import orjson

from qw.core.errors import Invalid
from qw.core.task.command import StdoutFormat
from qw.core.task.payload import MAX_RESULT, Json, JsonObject, clean, parse
from qw.core.task.secret_mask import SecretMask
from qw.handlers.child import Program
from qw.handlers.output import Captured

_MAX_WRITTEN = MAX_RESULT - 32 * 1024  # the rest is for stdout, or at least its end
_OUTPUT = re.compile(r"([A-Za-z_][A-Za-z0-9_-]{0,127})(=|<<)(.*)")


def result_of(
    program: Program, code: int, stdout: Captured, private: Path, form: StdoutFormat | None, mask: SecretMask
) -> JsonObject:
    """Return ``{exitCode, executable, stdout}``, with ``result`` from QW_RESULT and ``outputs`` from QW_OUTPUT.

    *stdout* is already masked; the contents of the two files are masked here. Raise Invalid for unusable contents.
    """
    said: JsonObject = {"exitCode": code, "executable": program.executable}
    if (written := _read(private / "result.json", "QW_RESULT")) is not None:
        said["result"] = parse(mask.data(written), path="QW_RESULT")
    if (written := _read(private / "output", "QW_OUTPUT")) is not None:
        said["outputs"] = _outputs(mask.data(written).decode(errors="replace"))
    return _with_output(said, stdout, form)


def _formed(stdout: Captured, form: StdoutFormat | None) -> Json:
    """Return stdout as *form* says: unchanged, as text without trailing newlines, as a list of lines, or as JSON."""
    text = stdout.text.rstrip("\r\n") if form else stdout.text
    match form:
        case StdoutFormat.LINES:
            return [line.removesuffix("\r") for line in text.split("\n")] if text else []
        case StdoutFormat.JSON:
            try:
                return parse(text, path="stdout")
            except Invalid as error:
                raise Invalid(f"output: json: the output of the command is not JSON: {error}") from None
    return text


def _with_output(result: JsonObject, stdout: Captured, form: StdoutFormat | None) -> JsonObject:
    """Add stdout to *result*: all of it, or if a result cannot hold that, its end, marked as cut."""
    whole: JsonObject = {**result, "stdout": _formed(stdout, form) if stdout.is_whole else None}
    if stdout.is_whole and len(orjson.dumps(clean(whole))) <= MAX_RESULT:
        return whole
    why = (
        f"the command printed {stdout.characters:,} characters, more than a result holds "
        f"({MAX_RESULT:,} bytes of JSON); let it write what others need to the file that QW_RESULT names (as JSON), "
        "or to a file elsewhere"
    )
    tail = stdout.tail
    left_out = f"… {stdout.characters - len(tail):,} characters left out …\n"
    return {**result, "stdout": f"{left_out}{tail}", "truncated": True, "cut": {"stdout": why}}


def _read(path: Path, name: str) -> bytes | None:
    """Return the content of the file *path*, None if it does not exist. Never blocks.

    Raise Invalid if it is longer than a result may be, or not a regular file.
    """
    if not os.path.lexists(path):
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Invalid(f"{name}: not a regular file")
        text = file.read(_MAX_WRITTEN + 1)
    if len(text) > _MAX_WRITTEN:
        raise Invalid(f"{name}: longer than {_MAX_WRITTEN:,} bytes")
    return text


def _outputs(text: str) -> JsonObject:
    """Parse *text* into values: ``NAME=value`` lines, or ``NAME<<WORD``, lines, ``WORD``. Raise Invalid."""
    outputs: JsonObject = {}
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        if not line.strip():
            continue
        if (named := _OUTPUT.match(line)) is None:
            raise Invalid(f"QW_OUTPUT: line {number}, {line[:60]!r}, is not NAME=value")
        name, sign, value = named.groups()
        if sign == "<<":
            value = "\n".join(_until(value, lines, name))
        outputs[name] = value
    return outputs


def _until(word: str, lines: Iterator[tuple[int, str]], name: str) -> Iterator[str]:
    for _, line in lines:
        if line == word:
            return
        yield line
    raise Invalid(f"QW_OUTPUT: the value of {name} is not ended by a line {word[:60]!r}")
