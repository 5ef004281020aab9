"""Imports workflows of GitHub Actions. Each job becomes a workflow, called by a step of the workflow for the file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from qw.core.errors import Invalid
from qw.core.task.payload import Json, JsonObject
from qw.definitions.imports.draft import (
    Draft,
    DraftWorkflow,
    Ids,
    Noted,
    items,
    left_out,
    member,
    retry_policy,
    variable,
    workflow_name,
)
from qw.definitions.imports.shell_text import with_variables

_EXPRESSION = re.compile(r"\$\{\{((?:(?!\}\}).)*)\}\}", re.DOTALL)
_TOKEN = re.compile(r"'(?:[^']|'')*'|[A-Za-z_][\w-]*(?:\s*\(|(?:\.[\w*-]+|\['[^']*'\])*)|===?|!==?")
_DEFAULT_VARIABLE = re.compile(r"\$\{?GITHUB_([A-Z_]+)\}?")
_FUNCTIONS = {"contains": "contains", "startsWith": "startswith", "endsWith": "endswith", "join": "join",
              "toJSON": "tojson", "fromJSON": "fromjson", "format": "format"}  # fmt: skip
_STATUS = re.compile(r"\b(always|failure|success|cancelled)\(\)")
_STATUSES = {"success": "completed", "failure": "failed"}
_COMPARED_STATUS = re.compile(r"(\.status\s*[=!]=\s*)'(success|failure)'")
_SHELLS: dict[str, Json] = {
    "bash": ["bash", "-eo", "pipefail"],
    "sh": ["sh", "-e"],
    "python": ["python3"],
    "pwsh": ["pwsh", "-File"],
}
_SETUP = ("actions/setup-", "actions/cache", "astral-sh/setup-", "docker/setup-", "ruby/setup-", "pnpm/action-setup")
_JOB_KEYS = {"name", "runs-on", "needs", "if", "strategy", "steps", "env", "defaults", "timeout-minutes", "with",
             "uses", "continue-on-error", "container", "services", "environment", "outputs", "permissions"}  # fmt: skip
_STEP_KEYS = {"id", "name", "if", "uses", "with", "run", "shell", "working-directory", "env", "continue-on-error",
              "timeout-minutes"}  # fmt: skip
_IGNORED = {"name", "run-name", "permissions", "on", "env", "defaults", "jobs", "concurrency"}


def convert(document: JsonObject, name: str) -> Draft:
    """Convert a workflow file. Raise Invalid if it is none."""
    jobs = document.get("jobs")
    if not isinstance(jobs, dict) or not jobs:
        raise Invalid("not a GitHub Actions workflow: it has no jobs:")
    return _GithubFile(document, jobs, workflow_name(str(document.get("name") or name))).draft()


class _GithubFile:
    def __init__(self, document: JsonObject, jobs: dict[str, Any], name: str) -> None:
        self.document, self.jobs, self.name = document, jobs, name
        self.made = Draft()
        self.inputs: JsonObject = {}
        self.github: dict[str, Json] = {}  # the parts of the context ``github`` in use
        self.ids = Ids()

    def draft(self) -> Draft:
        main = DraftWorkflow(name=self.name)
        self._triggers(main)
        main.notes += left_out(self.document, _IGNORED)
        only = len(self.jobs) == 1 and not (
            next(iter(self.jobs.values())).keys() & {"strategy", "if", "uses", "outputs"}
        )
        if only:
            ((job_name, job),) = self.jobs.items()
            _Job(self, job_name, job, main, is_main=True).fill()
        else:
            self.made.workflows.append(main)
            for job_name, job in self.jobs.items():
                self._job(main, job_name, job)
        self._head(main)
        if only:
            self.made.workflows.append(main)
        return self.made

    def _head(self, main: DraftWorkflow) -> None:
        given: JsonObject = dict(self.inputs)
        if self.github:
            given["github"] = {"type": "object", "default": dict(self.github)}
            main.notes.append(
                "input.github replaces the github context: pass the fields used here when you start a run"
            )
        head: JsonObject = {"input": given} if given else {}
        if (group := self.document.get("concurrency")) is not None:
            asked = group if isinstance(group, dict) else {"group": group}
            notes: list[str] = []
            key = self.value(str(asked.get("group", "")), notes, lambda name: None)
            cancels = asked.get("cancel-in-progress") is True
            head["concurrency"] = {"key": key, "limit": 1, "on_limit": "cancel_running" if cancels else "queue"}
            main.notes += notes
            if self.github and "github" not in head.get("input", {}):  # type: ignore[operator]
                head["input"] = {**given, "github": {"type": "object", "default": dict(self.github)}}
        main.head = {**head, **main.head}

    def _triggers(self, main: DraftWorkflow) -> None:
        on = self.document.get("on")
        triggers = on if isinstance(on, dict) else dict.fromkeys(map(str, items(on)))
        for trigger, asked in triggers.items():
            if trigger == "schedule":
                for one in items(asked):
                    zone = one.get("timezone")
                    self.made.schedule(main, one.get("cron"), {"timezone": zone} if zone else None)
            elif trigger in ("workflow_dispatch", "workflow_call"):
                self._declare(asked if isinstance(asked, dict) else {})
            else:
                main.notes.append(
                    f"on: {trigger}: start it with qw workflow start or POST /api/runs, such as from a hook"
                )

    def _declare(self, asked: dict[str, Any]) -> None:
        kinds = {"boolean": "boolean", "number": "number"}
        for name, one in (asked.get("inputs") or {}).items():
            one = one or {}
            kind = kinds.get(str(one.get("type")), "string")
            declared: JsonObject = {"type": kind}
            if "default" in one:
                declared["default"] = str(one["default"]) if kind == "string" else one["default"]
            elif not one.get("required"):
                declared["default"] = {"boolean": False, "number": 0}.get(kind, "")
            if one.get("description"):
                declared["description"] = str(one["description"])
            self.inputs[name] = declared

    def _job(self, main: DraftWorkflow, name: str, job: dict[str, Any]) -> None:
        id_, notes = self.ids.of(name), list[str]()
        step: JsonObject = {"id": id_}
        needs = [self.ids.of(str(one)) for one in items(job.get("needs"))]
        if needs:
            step["needs"] = list(needs)
        condition, when = self.condition(job.get("if"), notes, self._job_context(notes))
        strategy = job.get("strategy") or {}
        given: JsonObject = {}
        if isinstance(matrix := strategy.get("matrix"), dict):
            step["matrix"] = {key: self.nested(value, notes) for key, value in matrix.items()}
            given["matrix"] = "${{ item }}"
        elif matrix is not None and "${{" not in str(matrix):
            notes.append(f"strategy.matrix: {matrix} was not converted")
        elif matrix is not None:
            step["matrix"] = self.value(str(matrix), notes, self._job_context(notes))
            given["matrix"] = "${{ item }}"
        if "matrix" in step and strategy.get("max-parallel"):
            step["max_parallel"] = strategy["max-parallel"]
        if "matrix" in step and strategy.get("fail-fast") is False:
            step["fail_fast"] = False
        if job.get("continue-on-error"):
            step["continue_on_error"] = True
        if condition:
            step["if"] = condition
        step["type"] = "workflow"
        if "uses" in job:
            called = workflow_name(str(job["uses"]).rpartition("/")[2].partition("@")[0].removesuffix(".yml"))
            called = called.removesuffix(".yaml")
            notes += [f"uses: {job['uses']}: import that file too", *left_out(job, _JOB_KEYS)]
            asked = {key: self.nested(value, notes) for key, value in (job.get("with") or {}).items()}
            step["with"] = {"workflow": called, "input": asked}
        else:
            child = DraftWorkflow(name=f"{self.name}-{id_}")
            made = _Job(self, name, job, child, is_main=False)
            made.fill()
            given |= made.given(needs)
            step["with"] = {"workflow": child.name, **({"input": given} if given else {})}
            self.made.workflows.append(child)
        place = {"failure": main.on_failure, "always": main.finally_steps}.get(when, main.steps)
        if place is not main.steps and ("matrix" in step or self._is_needed(name)):
            notes.append(f"if: {job['if']}: the step runs after failures with continue_on_error only")
            if needs:
                step["run_if"] = "any_failed" if when == "failure" else "all_done"
            place = main.steps
        elif place is not main.steps:
            step.pop("needs", None)
        place.append(Noted(step=step, notes=notes))

    def _is_needed(self, name: str) -> bool:
        return any(name in map(str, items(job.get("needs"))) for job in self.jobs.values())

    def _job_context(self, notes: list[str]) -> Callable[[str], str | None]:
        def look_up(name: str) -> str | None:
            first, *rest = name.split(".")
            if first == "needs" and len(rest) >= 2:
                step = f"steps.{self.ids.of(rest[0])}"
                return f"{step}.status" if rest[1] == "result" else member(f"{step}.result", *rest[2:])
            if first == "matrix":
                return member("item", *rest)
            return None

        return look_up

    # -- expressions

    def condition(self, value: Json, notes: list[str], look_up: Callable[[str], str | None]) -> tuple[str | None, str]:
        """Return the condition, and when it applies: ``failure``, ``always``, or in the order of the steps."""
        if value is None or value is True:
            return None, ""
        source = str(value).strip()
        whole = _EXPRESSION.fullmatch(source)
        source = whole[1].strip() if whole else _EXPRESSION.sub(r"(\1)", source)
        asked = set(_STATUS.findall(source))
        when = "failure" if "failure" in asked else "always" if asked & {"always", "cancelled"} else ""
        source = re.sub(r"!\s*cancelled\(\)", "true", source)
        source = source.replace("cancelled()", "run.status == 'cancelled'")
        source = _STATUS.sub("true", source)
        found = self.expression(source, notes, look_up)
        found = re.sub(r"^\s*\(?true\)?\s*(&&\s*|$)", "", found).strip()
        return found or None, when

    def expression(self, source: str, notes: list[str], look_up: Callable[[str], str | None]) -> str:
        found = _TOKEN.sub(lambda token: self._token(token[0], notes, look_up), source.strip())
        return _COMPARED_STATUS.sub(lambda one: f"{one[1]}'{_STATUSES[one[2]]}'", found)

    def _token(self, token: str, notes: list[str], look_up: Callable[[str], str | None]) -> str:
        if token[0] == "'":
            return _quoted(token[1:-1].replace("''", "'"))
        if token[0] in "=!":
            return token[:2]
        if token in ("true", "false", "null"):
            return token
        if token.endswith("("):
            name = token[:-1].strip()
            if name in _FUNCTIONS:
                return f"{_FUNCTIONS[name]}("
            notes.append(f"{name}() has no equivalent")
            return "str("
        name = re.sub(r"\['([^']*)'\]", r".\1", token)
        if found := look_up(name):
            return found
        first, _, rest = name.partition(".")
        if first == "github" and rest.startswith("event.inputs."):
            return member("input", rest.removeprefix("event.inputs."))
        if first == "inputs":
            return member("input", rest)
        if first == "github" and rest:
            key = re.sub(r"\W+", "_", rest)
            self.github.setdefault(key, "")
            return f"input.github.{key}"
        if first == "runner":
            return _quoted({"os": "Linux", "arch": "X64", "temp": "."}.get(rest, ""))
        if first == "vars":
            self.github.setdefault(f"vars_{rest}", "")
            return f"input.github.vars_{rest}"
        notes.append(f"{name} has no equivalent")
        return "null"

    def value(self, value: str, notes: list[str], look_up: Callable[[str], str | None]) -> str:
        return _EXPRESSION.sub(lambda one: f"${{{{ {self.expression(one[1], notes, look_up)} }}}}", value)

    def nested(self, value: Json, notes: list[str]) -> Json:
        match value:
            case str():
                return self.value(value, notes, self._job_context(notes))
            case list():
                return [self.nested(one, notes) for one in value]
            case dict():
                return {key: self.nested(one, notes) for key, one in value.items()}
        return value


class _Job:
    """The steps of a job, which run one after another in one directory."""

    def __init__(
        self, file: _GithubFile, name: str, job: dict[str, Any], into: DraftWorkflow, *, is_main: bool
    ) -> None:
        self.file, self.name, self.job, self.into, self.is_main = file, name, job, into, is_main
        self.ids = Ids()
        self.used: set[str] = set()  # contexts that the caller passes
        self.needs: set[str] = set()
        self.exports = "GITHUB_ENV" in str(job) or "GITHUB_PATH" in str(job)
        self.carried: set[str] = set()  # ids of the steps

    def fill(self) -> None:
        job, into, notes = self.job, self.into, self.into.notes
        notes += left_out(job, _JOB_KEYS)
        runs_on = ", ".join(map(str, items(job.get("runs-on"))))
        if runs_on and "ubuntu" not in runs_on:
            notes.append(f"runs-on: {runs_on}: choose hosts by queue:")
        for key in ("container", "services"):
            if key in job:
                named = job[key] if isinstance(job[key], str) else ", ".join(job[key])
                notes.append(f"{key}: {named}: start it where the daemon runs, or use docker run")
        if "environment" in job:
            notes.append(f"environment: {job['environment']}: put a step of type approval first if somebody must agree")
        usual = {**_run_defaults(self.file.document), **_run_defaults(job)}
        defaults: JsonObject = {
            "shell": _SHELLS.get(str(usual.get("shell")), ["bash", "-e"]),
            "cwd": self._folder(usual.get("working-directory")),
            "retry": retry_policy(1),
        }
        into.head["defaults"] = defaults
        outer: Any = self.file.document.get("env") or {}
        environment = {**outer, **(job.get("env") or {})}
        if environment:
            defaults["env"] = {name: self._env(value, notes) for name, value in environment.items()}
        if (minutes := job.get("timeout-minutes")) and not isinstance(minutes, str):
            into.head["timeout"] = f"{minutes}m"
        previous, is_open = "", False
        for step in items(job.get("steps")):
            for noted, when in self._steps(step):
                if when:
                    (into.on_failure if when == "failure" else into.finally_steps).append(noted)
                    continue
                if previous:
                    noted.step["needs"] = previous
                    if is_open:
                        noted.step["run_if"] = "all_done"
                previous = str(noted.step["id"])
                is_open = is_open or "if" in noted.step or "continue_on_error" in noted.step
                into.steps.append(Noted(step=_ordered(noted.step), notes=noted.notes))
        if not into.steps:
            into.steps.append(Noted(step={"id": "nothing", "type": "noop"}, notes=["no step could be converted"]))
        if outputs := job.get("outputs"):
            into.head["outputs"] = {name: self._value(str(value), notes) for name, value in outputs.items()}
        if not self.is_main and self.used:
            into.head = {"input": dict.fromkeys(sorted(self.used), "object"), **into.head}

    def given(self, needs: list[str]) -> JsonObject:
        """Return the input that the calling step passes to this job."""
        given: JsonObject = {}
        if "github" in self.used:
            given["github"] = "${{ input.github }}"
        if "inputs" in self.used:
            given["inputs"] = {name: f"${{{{ input.{name} }}}}" for name in self.file.inputs}
        if "needs" in self.used:
            given["needs"] = {need: f"${{{{ steps.{need}.result }}}}" for need in sorted(self.needs)}
        return given

    def _folder(self, directory: Json) -> str:
        return f"$QW_ARTIFACTS/{directory}" if directory else "$QW_ARTIFACTS"

    def _look_up(self, notes: list[str]) -> Callable[[str], str | None]:
        def look_up(name: str) -> str | None:
            first, *rest = name.split(".")
            if first == "steps" and len(rest) >= 2:
                if rest[0] not in self.carried:
                    notes.append(f"{name}: step {rest[0]} was not converted")
                    return "null"
                step = f"steps.{self.ids.of(rest[0])}"
                return f"{step}.status" if rest[1] in ("outcome", "conclusion") else member(f"{step}.result", *rest[1:])
            if first == "job" and rest == ["status"]:
                return "run.status"
            if self.is_main:
                return None
            if first == "matrix":
                self.used.add("matrix")
                return member("input.matrix", *rest)
            if first == "needs" and len(rest) >= 3:
                self.used.add("needs")
                need = self.file.ids.of(rest[0])
                self.needs.add(need)
                return member("input.needs", need, *rest[2:])
            if first == "inputs" or name.startswith("github.event.inputs."):
                self.used.add("inputs")
                return member("input.inputs", rest[-1])
            if first in ("github", "vars"):
                self.used.add("github")
            return None

        return look_up

    def _value(self, value: str, notes: list[str]) -> str:
        return self.file.value(value, notes, self._look_up(notes))

    def _env(self, value: Json, notes: list[str]) -> Json:
        """Return the value of a variable. Secrets become secrets of the file."""
        if not isinstance(value, str):
            return str(value).lower() if isinstance(value, bool) else value
        if re.search(r"\bsecrets[.\[]", value):
            names = re.findall(r"\$\{\{\s*secrets\.(\w+)\s*\}\}", value)
            if names and not _EXPRESSION.sub("", re.sub(r"\$\{\{\s*secrets\.\w+\s*\}\}", "", value)).count("${{"):
                return re.sub(r"\$\{\{\s*secrets\.(\w+)\s*\}\}", lambda one: self.file.made.secret(one[1]), value)
            notes.append("a secret inside a larger expression has no equivalent")
        return self._value(value, notes)

    def _steps(self, step: dict[str, Any]) -> Iterator[tuple[Noted, str]]:
        notes = left_out(step, _STEP_KEYS)
        title = str(
            step.get("id") or step.get("name") or step.get("uses") or str(step.get("run", "")).split("\n")[0][:30]
        )
        condition, when = self.file.condition(step.get("if"), notes, self._look_up(notes))
        made = self._uses(step, notes) if "uses" in step else self._run(step, notes)
        if made is None:
            self.into.notes += notes
            return
        found: JsonObject = {"id": self.ids.of(str(step["id"])) if step.get("id") else self.ids.new(title.lower())}
        self.carried |= {str(step["id"])} if step.get("id") else set()
        if condition:
            found["if"] = condition
        if step.get("continue-on-error"):
            found["continue_on_error"] = True
        if isinstance(minutes := step.get("timeout-minutes"), int):
            found["timeout"] = f"{minutes}m"
        if when and found.pop("continue_on_error", None):
            notes.append("continue-on-error means nothing at the end of a run")
        yield Noted(step={**found, **made}, notes=notes), when

    def _run(self, step: dict[str, Any], notes: list[str]) -> JsonObject:
        shell = str(step.get("shell") or "")
        made: JsonObject = {}
        if shell:
            made["shell"] = _SHELLS.get(shell, [word for word in shell.split() if word != "{0}"])
        if step.get("working-directory"):
            made["cwd"] = self._value(self._folder(step["working-directory"]), notes)
        environment = {name: self._env(value, notes) for name, value in (step.get("env") or {}).items()}
        text = self._script(str(step.get("run", "")), environment, notes, python=shell == "python")
        if environment:
            made["env"] = environment
        return {**made, "run": text}

    def _script(self, text: str, environment: JsonObject, notes: list[str], *, python: bool) -> str:
        def name(found: re.Match[str]) -> str:
            source = found[1].strip()
            if re.fullmatch(r"env\.\w+", source):
                return source[4:]
            if secret := re.fullmatch(r"secrets\.(\w+)", source):
                environment[variable(secret[1])] = self.file.made.secret(secret[1])
                return variable(secret[1])
            named = variable(re.sub(r"'[^']*'", "", source)[:40])
            environment[named] = self._value(found[0], notes)
            return named

        text = with_variables(text, _EXPRESSION, name, python=python)
        text = re.sub(r"\$\{?GITHUB_OUTPUT\}?", "$QW_OUTPUT", text)
        text = re.sub(r"\$\{?GITHUB_WORKSPACE\}?", "$QW_ARTIFACTS", text)
        text = re.sub(r"\$\{?GITHUB_STEP_SUMMARY\}?", "$QW_ARTIFACTS/summary.md", text)
        if self.exports and not python:
            text = re.sub(r"\$\{?GITHUB_ENV\}?", "$QW_ARTIFACTS/.env", text)
            text = re.sub(r"\$\{?GITHUB_PATH\}?", "$QW_ARTIFACTS/.path", text)
            text = f"{_EXPORTS}{text}"
        if "::set-output" in text:
            notes.append('::set-output: write name=value to "$QW_OUTPUT"')
        for found in _DEFAULT_VARIABLE.finditer(text):
            key = found[1].lower()
            environment.setdefault(f"GITHUB_{found[1]}", f"${{{{ {self._github(key)} }}}}")
        return text

    def _github(self, key: str) -> str:
        self.file.github.setdefault(key, "")
        self.used.add("github")
        return f"input.github.{key}"

    def _uses(self, step: dict[str, Any], notes: list[str]) -> JsonObject | None:
        uses, given = str(step["uses"]), step.get("with") or {}
        if uses.startswith("actions/checkout"):
            ref = self._value(str(given.get("ref", "")), notes) or f"${{{{ {self._github('ref_name')} }}}}"
            url = str(given.get("repository") or "")
            source = (
                f"https://github.com/{self._value(url, notes)}" if url else f"${{{{ {self._github('clone_url')} }}}}"
            )
            if not url:
                self.into.notes.append("actions/checkout: input.github.clone_url is the URL or path of the repository")
            made: JsonObject = {"env": {"REPOSITORY": source, "REF": ref}, "run": _CHECKOUT}
            return {**made, "cwd": self._value(self._folder(given["path"]), notes)} if given.get("path") else made
        if uses.startswith("actions/upload-artifact"):
            named, path = str(given.get("name") or "artifact"), str(given.get("path") or "").strip()
            if "\n" not in path and "*" not in path and "${{" not in named + path:
                return {"run": "true", "artifacts": {re.sub(r"[^\w.-]+", "-", named): path}}
        if uses.startswith(_SETUP):
            notes.append(f"{uses}: install what it sets up where the daemon runs ({_shown(given)})")
            return None
        notes.append(f"uses: {uses} ({_shown(given)}) has no equivalent: write what it does as run:")
        return None


def _run_defaults(document: dict[str, Any]) -> dict[str, Any]:
    run: dict[str, Any] = (document.get("defaults") or {}).get("run") or {}
    return run


def _ordered(step: JsonObject) -> JsonObject:
    first = [key for key in ("id", "needs", "run_if", "if") if key in step]
    return {key: step[key] for key in [*first, *(key for key in step if key not in first)]}


def _shown(given: dict[str, Any]) -> str:
    return ", ".join(f"{key}: {str(value)[:40]}" for key, value in given.items())[:200] or "no parameters"


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


_CHECKOUT = 'if [ -n "$REPOSITORY" ]; then git clone --depth 1 ${REF:+--branch "$REF"} "$REPOSITORY" .; fi\n'
_EXPORTS = """touch "$QW_ARTIFACTS/.env" "$QW_ARTIFACTS/.path"
while IFS= read -r line; do export "$line"; done < "$QW_ARTIFACTS/.env"
while IFS= read -r line; do PATH="$line:$PATH"; done < "$QW_ARTIFACTS/.path"
"""
