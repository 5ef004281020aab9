"""Imports workflows of Argo. Templates with ``dag`` or ``steps`` become workflows; others become steps where
called.
"""

from __future__ import annotations

import json
import re
import shlex
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
    retry_policy,
    variable,
    workflow_name,
)
from qw.definitions.imports.shell_text import with_variables

_TAG = re.compile(r"\{\{((?:(?!\}\}).)*)\}\}")
_SHELLS = ("sh", "bash", "/bin/sh", "/bin/bash", "ash", "dash")
_SPEC_KEYS = {"entrypoint", "templates", "arguments", "onExit", "activeDeadlineSeconds", "retryStrategy", "parallelism",
              "workflowMetadata"}  # fmt: skip
_TEMPLATE_KEYS = {"name", "dag", "steps", "inputs", "outputs", "container", "script", "suspend", "http",
                  "retryStrategy", "activeDeadlineSeconds", "parallelism", "resource", "data", "plugin",
                  "containerSet", "metadata",
                  "failFast"}  # fmt: skip
_TASK_KEYS = {"name", "template", "templateRef", "arguments", "dependencies", "depends", "when", "withItems",
              "withParam", "withSequence", "continueOn", "inline"}  # fmt: skip


def convert(document: JsonObject, name: str) -> Draft:
    """Convert a Workflow, WorkflowTemplate or CronWorkflow. Raise Invalid if it is none."""
    spec: Any = document.get("spec")
    if not isinstance(spec, dict) or "argoproj.io" not in str(document.get("apiVersion", "")):
        raise Invalid("not an Argo workflow: it needs apiVersion: argoproj.io/… and spec:")
    meta: Any = document.get("metadata") or {}
    named = str(meta.get("name") or meta.get("generateName") or name).strip("-")
    made = Draft()
    whole = spec.get("workflowSpec") or spec
    _ArgoFile(whole, workflow_name(named), made).draft()
    if document.get("kind") == "CronWorkflow":
        more: JsonObject = {"timezone": spec["timezone"]} if spec.get("timezone") else {}
        if policy := {"Forbid": "skip", "Replace": "cancel"}.get(str(spec.get("concurrencyPolicy"))):
            more["overlap"] = policy
        if spec.get("suspend"):
            more["paused"] = True
        for cron in items(spec.get("schedules", spec.get("schedule"))):
            made.schedule(made.workflows[0], cron, more)
    return made


class _ArgoFile:
    def __init__(self, spec: dict[str, Any], name: str, made: Draft) -> None:
        self.spec, self.name, self.made = spec, name, made
        self.templates = {str(one.get("name")): one for one in spec.get("templates") or []}
        self.parameters = {str(one["name"]): one for one in (spec.get("arguments") or {}).get("parameters") or []}
        self.built: dict[str, str] = {}

    def draft(self) -> str:
        entry = str(self.spec.get("entrypoint") or next(iter(self.templates), ""))
        main = self.build(entry, is_main=True)
        workflow = next(one for one in self.made.workflows if one.name == main)
        self.made.workflows.remove(workflow)
        self.made.workflows.insert(0, workflow)
        workflow.notes += left_out(self.spec, _SPEC_KEYS)
        if self.spec.get("activeDeadlineSeconds"):
            workflow.head["timeout"] = f"{self.spec['activeDeadlineSeconds']}s"
        if on_exit := self.spec.get("onExit"):
            scope = _ArgoScope(self, workflow, {})
            workflow.finally_steps.append(scope.call({"name": "on-exit", "template": on_exit}, "on-exit", late=True))
        return main

    def build(self, name: str, *, is_main: bool = False) -> str:
        """Return the workflow of a template; it is built once."""
        if name in self.built:
            return self.built[name]
        template = self.templates.get(name, {})
        found = self.name if is_main else workflow_name(f"{self.name}-{name}")
        self.built[name] = found
        workflow = DraftWorkflow(name=found, head={"defaults": {"shell": ["sh", "-e"], "retry": retry_policy(1)}})
        self.made.workflows.append(workflow)
        declared: JsonObject = {}
        for key, one in self.parameters.items():
            declared[_plain(f"w_{key}")] = {"type": "any", "default": _value(one)}
        for one in (template.get("inputs") or {}).get("parameters") or []:
            given = self.parameters.get(str(one["name"]), {}) if is_main else {}
            declared[_plain(str(one["name"]))] = {"type": "any", "default": _value({**one, **given})}
        if declared:
            workflow.head = {"input": declared, **workflow.head}
        if most := template.get("parallelism") or (is_main and self.spec.get("parallelism")):
            workflow.head["max_parallel"] = int(str(most))
        scope = _ArgoScope(self, workflow, {str(one): f"input.{_plain(str(one))}" for one in _names(template)})
        if is_main and declared:
            workflow.notes.append("inputs that begin with w_ are the parameters of the whole workflow")
        scope.fill(template, name)
        return found


class _ArgoScope:
    """The steps of one workflow. ``given``: the expressions for ``inputs.parameters``."""

    def __init__(self, file: _ArgoFile, workflow: DraftWorkflow, given: dict[str, str]) -> None:
        self.file, self.workflow, self.given = file, workflow, given
        self.ids = Ids()
        self.tolerant: set[str] = set()

    def fill(self, template: dict[str, Any], name: str) -> None:
        if isinstance(tasks := (template.get("dag") or {}).get("tasks"), list):
            for task in _sorted(tasks):
                self._task(task)
        elif isinstance(groups := template.get("steps"), list):
            before: list[str] = []
            for group in groups:
                made = []
                for step in items(group):
                    noted = self.call(step, str(step["name"]))
                    self._behind(noted.step, before)
                    self.workflow.steps.append(noted)
                    made.append(str(noted.step["id"]))
                before = made
        else:
            self.workflow.steps.append(self.leaf(template, {"id": self.ids.of(name)}, self.given))
        self._outputs(template)

    def _behind(self, step: JsonObject, before: list[str]) -> None:
        if before:
            step["needs"] = before[0] if len(before) == 1 else list(before)
            step["run_if"] = "all_done"
            order = [key for key in ("id", "needs", "run_if") if key in step]
            ordered = {key: step[key] for key in [*order, *(key for key in step if key not in order)]}
            step.clear()
            step.update(ordered)

    def _outputs(self, template: dict[str, Any]) -> None:
        outputs: JsonObject = {}
        for one in (template.get("outputs") or {}).get("parameters") or []:
            source = (one.get("valueFrom") or {}).get("parameter")
            if source:
                outputs[_plain(str(one["name"]))] = self.text(str(source), [], {})
        if outputs:
            self.workflow.head["outputs"] = outputs

    def _task(self, task: dict[str, Any]) -> None:
        id_ = self.ids.of(str(task["name"]))
        noted = self.call(task, str(task["name"]))
        needs = [self.ids.of(str(one)) for one in items(task.get("dependencies"))]
        extra: JsonObject = {}
        if depends := task.get("depends"):
            needs, extra = self._depends(str(depends), noted.notes)
        if needs:
            first: JsonObject = {"id": id_, "needs": needs[0] if len(needs) == 1 else list(needs), **extra}
            if "if" in first and "if" in noted.step:
                first["if"] = f"({first['if']}) && ({noted.step['if']})"
            noted.step = {**noted.step, **first}
            noted.step = {**first, **{key: value for key, value in noted.step.items() if key not in first}}
        self.workflow.steps.append(noted)

    def _depends(self, text: str, notes: list[str]) -> tuple[list[str], JsonObject]:
        names = list(dict.fromkeys(re.findall(r"[A-Za-z_][\w-]*(?=\.|\W|$)(?<!\.)", re.sub(r"\.\w+", "", text))))
        ids = [self.ids.of(name) for name in names]
        if re.fullmatch(r"[\w-]+(\s*&&\s*[\w-]+)*", text.strip()):
            return ids, {}
        words = {"Succeeded": "completed", "Failed": "failed", "Errored": "failed", "Skipped": "skipped"}

        def test(found: re.Match[str]) -> str:
            step = f"steps.{self.ids.of(found[1])}.status"
            if found[2] in ("Failed", "Errored"):
                self._tolerate(self.ids.of(found[1]))
            if found[2] is None:
                return f"({step} == 'completed' || {step} == 'skipped')"
            return f"{step} == '{words.get(found[2], 'completed')}'"

        condition = re.sub(r"([A-Za-z_][\w-]*)(?:\.(\w+))?", test, text)
        return ids, {"run_if": "all_done", "if": condition}

    def _tolerate(self, id_: str) -> None:
        for one in self.workflow.steps:
            if one.step["id"] == id_:
                one.step["continue_on_error"] = True

    def call(self, task: dict[str, Any], title: str, *, late: bool = False) -> Noted:
        """Return the step that calls a template."""
        step: JsonObject = {"id": self.ids.of(title)}
        notes = left_out(task, _TASK_KEYS)
        if when := task.get("when"):
            step["if"] = self.condition(str(when), notes)
        if not late:
            self._loop(step, task, notes)
        if (task.get("continueOn") or {}).get("failed"):
            step["continue_on_error"] = True
        arguments = task.get("arguments") or {}
        given = {str(one["name"]): str(_value(one)) for one in arguments.get("parameters") or []}
        template = task.get("inline") or self.file.templates.get(str(task.get("template")))
        if template is None:
            named = task.get("templateRef") or {}
            notes.append(f"{task.get('template') or named}: import the template that it refers to, too")
            template_name = workflow_name(str(named.get("name") or task.get("template")))
            return Noted(step={**step, "type": "workflow", "with": {"workflow": template_name}}, notes=notes)
        if template.keys() & {"dag", "steps"}:
            child = self.file.build(str(template["name"]))
            input_: JsonObject = {_plain(name): self.text(value, notes, {}) for name, value in given.items()}
            for name in self.file.parameters:
                input_[_plain(f"w_{name}")] = f"${{{{ input.{_plain(f'w_{name}')} }}}}"
            made: JsonObject = {
                "type": "workflow",
                "with": {"workflow": child, **({"input": input_} if input_ else {})},
            }
            return Noted(step={**step, **made}, notes=notes)
        bound = {str(one["name"]): _value(one) for one in (template.get("inputs") or {}).get("parameters") or []}
        values = {name: self.source({**bound, **given}[name], notes) for name in {**bound, **given}}
        noted = self.leaf(template, step, values)
        for one in arguments.get("artifacts") or []:
            if source := re.search(r"outputs\.artifacts\.([\w-]+)", str(one.get("from", ""))):
                self._artifact(template, str(one["name"]), source[1], noted)
        noted.notes = [*notes, *noted.notes]
        return noted

    def _artifact(self, template: dict[str, Any], name: str, source: str, noted: Noted) -> None:
        for one in (template.get("inputs") or {}).get("artifacts") or []:
            if one.get("name") == name and "run" in noted.step:
                path = shlex.quote(str(one["path"]))
                copy = f'mkdir -p "$(dirname {path})"; cp -R "$QW_ARTIFACTS/{source}" {path}\n'
                noted.step["run"] = f"{copy}{noted.step['run']}"

    def _loop(self, step: JsonObject, task: dict[str, Any], notes: list[str]) -> None:
        if "withItems" in task:
            step["foreach"] = task["withItems"]
        elif "withParam" in task:
            text = self.text(str(task["withParam"]), notes, {})
            found = re.fullmatch(r"\$\{\{ (steps\.([\w-]+)\.result\.stdout) \}\}", text)
            for one in self.workflow.steps if found else ():
                if found and one.step["id"] == found[2] and "run" in one.step:
                    one.step["output"] = "json"
            step["foreach"] = text if "${{" in text else _list(text, notes)
        elif isinstance(sequence := task.get("withSequence"), dict):
            step["foreach"] = f"${{{{ {self._sequence(sequence, notes)} }}}}"
        if "foreach" in step and (most := self.workflow.head.get("max_parallel")):
            step["max_parallel"] = most
        if "foreach" in step and re.search(r"\bitem\b", str(step.get("if", ""))):
            listed = step["foreach"]
            whole = re.fullmatch(r"\$\{\{(.*)\}\}", listed) if isinstance(listed, str) else None
            shown = whole[1].strip() if whole else json.dumps(listed)
            step["foreach"] = f"${{{{ filter({shown}, {step.pop('if')}) }}}}"

    def _sequence(self, sequence: dict[str, Any], notes: list[str]) -> str:
        """Return the numbers as texts, as Argo does."""
        start, count, end = (self._number(sequence.get(key), notes) for key in ("start", "count", "end"))
        if sequence.get("format"):
            notes.append(f"withSequence: format: {sequence['format']} was not converted")
        first = start or "0"
        last = f"{first} + {count}" if count else f"{end or first} + 1"
        return f"map(range({first}, {last}), str(item))"

    def _number(self, value: Any, notes: list[str]) -> str:
        source = self.source(value, notes) if value is not None else ""
        found = re.fullmatch(r'"(-?\d+)"', source)
        return found[1] if found else f"int({source})" if source else ""

    # -- tasks

    def leaf(self, template: dict[str, Any], step: JsonObject, values: dict[str, str]) -> Noted:
        notes = left_out(template, _TEMPLATE_KEYS)
        made = self._work(template, values, notes)
        retry = template.get("retryStrategy") or self.file.spec.get("retryStrategy")
        if retry is not None and made.get("type") not in ("approval", "sleep"):
            made["retry"] = _retry(retry, notes)
        if template.get("activeDeadlineSeconds") and made.get("type") != "sleep":
            made["timeout"] = f"{template['activeDeadlineSeconds']}s"
        return Noted(step={**step, **made}, notes=notes)

    def _work(self, template: dict[str, Any], values: dict[str, str], notes: list[str]) -> JsonObject:
        if "suspend" in template:
            duration = (template["suspend"] or {}).get("duration")
            if duration is None:
                return {"type": "approval", "with": {"message": f"Go on with {template.get('name')}?"}}
            return {"type": "sleep", "with": {"for": f"{duration}s" if str(duration).isdigit() else str(duration)}}
        if request := template.get("http"):
            given: JsonObject = {
                "url": self.text(str(request.get("url")), notes, values),
                "method": request.get("method", "GET"),
            }
            if headers := request.get("headers"):
                given["headers"] = {
                    str(one["name"]): self.text(str(one.get("value", "")), notes, values) for one in headers
                }
            if request.get("body"):
                given["body"] = self.text(str(request["body"]), notes, values)
            return {"type": "http_request", "with": given}
        program = template.get("script") or template.get("container")
        if program is None:
            kind = next((key for key in ("resource", "data", "plugin", "containerSet") if key in template), "template")
            notes.append(f"a template with {kind}: has no equivalent: write what it does as run:")
            return {"type": "noop"}
        if program.get("image"):
            notes.append(f"ran in the image {program['image']}: install its programs, or use docker run")
        environment = self._env(program, notes, values)
        made: JsonObject = {}
        command, arguments = [*map(str, items(program.get("command")))], [*map(str, items(program.get("args")))]
        is_python = bool(command) and "python" in command[0]
        if "script" in template:
            text = str(program.get("source", ""))
            words = [*command, "-e"] if command and command[0] in _SHELLS else command or ["sh", "-e"]
            made["shell"] = [*words]
        elif command and command[0] in _SHELLS and (command + arguments)[1:2] in (["-c"], ["-ec"], ["-xec"]):
            made["shell"] = [command[0], "-e"]
            text = (command + arguments)[2] if len(command + arguments) > 2 else "true"
            is_python = False
        else:
            text, is_python = " ".join(_word(one) for one in [*command, *arguments]) or "true", False

        def name(found: re.Match[str]) -> str:
            chosen = variable(found[1].removeprefix("inputs.parameters.").removeprefix("workflow.parameters."))
            environment[chosen] = self.text(found[0], notes, values)
            return chosen

        text = with_variables(text, _TAG, name, python=is_python)
        for one in (template.get("outputs") or {}).get("parameters") or []:
            path = (one.get("valueFrom") or {}).get("path")
            if path and is_python:
                notes.append(f"outputs.parameters.{one['name']}: write {_plain(str(one['name']))}=value to QW_OUTPUT")
            elif path:
                line = (
                    f'{{ echo "{_plain(str(one["name"]))}<<QW_END"; cat {path}; echo; echo QW_END; }} >> "$QW_OUTPUT"'
                )
                text = f"{text.rstrip()}\n{line}\n"
        if environment:
            made["env"] = environment
        if program.get("workingDir"):
            made["cwd"] = program["workingDir"]
        kept = {str(one["name"]): str(one["path"]) for one in (template.get("outputs") or {}).get("artifacts") or []}
        if kept:
            made["artifacts"] = dict(kept)
        return {**made, "run": text, "output": "text"}

    def _env(self, program: dict[str, Any], notes: list[str], values: dict[str, str]) -> JsonObject:
        found: JsonObject = {}
        for one in program.get("env") or []:
            name, source = str(one["name"]), one.get("valueFrom") or {}
            if "secretKeyRef" in source:
                found[name] = self.file.made.secret(name)
            elif source:
                notes.append(f"env: {name}: valueFrom has no equivalent")
            else:
                found[name] = self.text(str(one.get("value", "")), notes, values)
        return found

    # -- expressions

    def text(self, text: str, notes: list[str], values: dict[str, str]) -> str:
        return _TAG.sub(lambda tag: f"${{{{ {self._tag(tag[1], notes, values)} }}}}", text)

    def source(self, value: Any, notes: list[str]) -> str:
        """Return the argument *value* as the source of an expression."""
        text = str(value)
        whole = _TAG.fullmatch(text)
        if whole:
            return self._tag(whole[1], notes, {})
        parts, start = [], 0
        for tag in _TAG.finditer(text):
            parts += [json.dumps(text[start : tag.start()])] if tag.start() > start else []
            parts.append(f"str({self._tag(tag[1], notes, {})})")
            start = tag.end()
        if text[start:] or not parts:
            parts.append(json.dumps(text[start:]))
        return " + ".join(parts)

    def _tag(self, tag: str, notes: list[str], values: dict[str, str]) -> str:
        tag = tag.strip()
        if tag.startswith("="):
            notes.append(f"{{{{{tag}}}}} has no equivalent: write it as an expression")
            return "null"
        if found := re.fullmatch(r"inputs\.parameters\.([\w-]+)", tag):
            return {**self.given, **values}.get(found[1], "null")
        if found := re.fullmatch(r"workflow\.parameters\.([\w-]+)", tag):
            if found[1] in self.file.parameters:
                return f"input.{_plain('w_' + found[1])}"
            notes.append(f"{{{{{tag}}}}}: the file declares no such parameter")
            return "null"
        if found := re.fullmatch(r"(?:steps|tasks)\.([\w-]+)\.outputs\.result", tag):
            return f"steps.{self.ids.of(found[1])}.result.stdout"
        if found := re.fullmatch(r"(?:steps|tasks)\.([\w-]+)\.outputs\.parameters\.([\w-]+)", tag):
            id_ = self.ids.of(found[1])
            is_child = any(one.step["id"] == id_ and one.step.get("type") == "workflow" for one in self.workflow.steps)
            return f"steps.{id_}.result.{'' if is_child else 'outputs.'}{_plain(found[2])}"
        if found := re.fullmatch(r"(?:steps|tasks)\.([\w-]+)\.status", tag):
            return f"steps.{self.ids.of(found[1])}.status"
        if re.fullmatch(r"item(\.[\w.-]+)?", tag):
            return tag
        known = {"workflow.name": "run.id", "workflow.uid": "run.id", "workflow.status": "run.status",
                 "workflow.failures": "run.error", "workflow.duration": "null"}  # fmt: skip
        if tag in known:
            return known[tag]
        notes.append(f"{{{{{tag}}}}} has no equivalent")
        return "null"

    def condition(self, when: str, notes: list[str]) -> str:
        """Convert ``{{…}} == heads``, in which inserted values and unquoted words are texts."""
        if "{{=" in when:
            notes.append(f"when: {when} has no equivalent: write it as an expression")
            return "true"
        made = []
        for piece in re.split(r"(&&|\|\||==|!=|>=|<=|>|<|\(|\)|!)", when):
            word = piece.strip()
            if not word:
                continue
            if re.fullmatch(r"&&|\|\||==|!=|>=|<=|>|<|\(|\)|!", word):
                made.append(word)
            elif tag := re.fullmatch(rf"[\"']?{_TAG.pattern}[\"']?", word):
                made.append(self._tag(tag[1], notes, {}))
            elif re.fullmatch(r"-?\d+(\.\d+)?", word):
                made.append(word if any(one in when for one in "<>") else f"'{word}'")
            else:
                bare = word.strip("\"'")
                words = {"Succeeded": "completed", "Failed": "failed", "Error": "failed"}
                made.append(json.dumps(words.get(bare, bare)))
        text = " ".join(made)
        if re.search(r"[<>]", text):
            text = re.sub(r"((?:steps|input|item)[\w.-]*)(?= ?[<>])", r"float(\1)", text)
        return text


def _list(text: str, notes: list[str]) -> Json:
    """Return the list in the JSON text of a withParam."""
    try:
        value: Json = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, list):
        return value
    notes.append(f"withParam: {text} is not a list: write it out")
    return []


def _retry(retry: dict[str, Any], notes: list[str]) -> JsonObject:
    limit, backoff = int(str(retry.get("limit", 10))), retry.get("backoff") or {}
    made = retry_policy(limit + 1, delay="0s")
    if duration := backoff.get("duration"):
        made["delay"] = f"{duration}s" if str(duration).isdigit() else str(duration)
    made["backoff"] = float(str(backoff.get("factor", 1)))
    if cap := backoff.get("cap"):
        made["max_delay"] = f"{cap}s" if str(cap).isdigit() else str(cap)
    notes += [f"retryStrategy: {note}" for note in left_out(retry, ("limit", "backoff"))]
    notes += [f"backoff: {note}" for note in left_out(backoff, ("duration", "factor", "cap"))]
    return made


def _sorted(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the tasks in topological order."""
    done: list[dict[str, Any]] = []
    names = {str(task["name"]): task for task in tasks}

    def visit(task: dict[str, Any], above: tuple[str, ...]) -> None:
        if task in done or str(task["name"]) in above:
            return
        wanted = [
            *map(str, items(task.get("dependencies"))),
            *re.findall(r"[A-Za-z_][\w-]*", str(task.get("depends") or "")),
        ]
        for need in wanted:
            if need in names:
                visit(names[need], (*above, str(task["name"])))
        done.append(task)

    for task in tasks:
        visit(task, ())
    return done


def _names(template: dict[str, Any]) -> list[str]:
    return [str(one["name"]) for one in (template.get("inputs") or {}).get("parameters") or []]


def _plain(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _value(parameter: dict[str, Any]) -> Json:
    value: Json = parameter.get("value", parameter.get("default", ""))
    return value


def _word(word: str) -> str:
    if not _TAG.search(word):
        return shlex.quote(word)
    pieces = _TAG.split(word)
    escaped = [
        re.sub(r'([\\"$`])', r"\\\1", piece) if n % 2 == 0 else f"{{{{{piece}}}}}" for n, piece in enumerate(pieces)
    ]
    return f'"{"".join(escaped)}"'
