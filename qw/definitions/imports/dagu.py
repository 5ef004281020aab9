"""Imports definitions of Dagu. Parameters and outputs become variables of the same names, so commands stay
unchanged.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

from qw.core.errors import Invalid
from qw.core.task.payload import Json, JsonObject
from qw.definitions.imports.draft import Draft, DraftWorkflow, Ids, Noted, items, left_out, retry_policy, workflow_name

_KNOWN = {"name", "description", "schedule", "params", "env", "steps", "type", "handler_on", "preconditions",
          "max_active_runs", "max_active_steps", "timeout_sec", "tags", "group", "labels", "shell",
          "working_dir"}  # fmt: skip
_STEP_KEYS = {"name", "id", "description", "command", "script", "shell", "dir", "working_dir", "env", "depends",
              "output", "continue_on", "retry_policy", "repeat_policy", "preconditions", "precondition", "executor",
              "type", "config", "with", "run", "call", "params", "parallel", "timeout_sec", "args"}  # fmt: skip
_POLICY_KEYS = {"limit", "interval_sec", "max_interval_sec", "exit_code", "max_concurrent"}


def convert(document: JsonObject, name: str) -> Draft:
    """Convert a definition. Raise Invalid if it is none."""
    if not isinstance(document.get("steps"), list | dict):
        raise Invalid("not a Dagu definition: it has no steps:")
    return _DaguFile(document, workflow_name(str(document.get("name") or name))).draft()


class _DaguFile:
    def __init__(self, document: JsonObject, name: str) -> None:
        self.document: dict[str, Any] = _snake(document, _KNOWN)
        self.name = name
        self.main = DraftWorkflow(name=name)
        self.inputs: JsonObject = {}
        self.ids = Ids()
        self.outputs: dict[str, str] = {}  # variables set by steps, with the ids of the steps
        self.open: set[str] = set()  # steps whose dependants run even if they are skipped

    def draft(self) -> Draft:
        document, main, made = self.document, self.main, Draft()
        main.notes += left_out(document, _KNOWN)
        if document.get("description"):
            main.head["description"] = str(document["description"])
        inputs = self.inputs = dict(self._params(document.get("params")))
        if inputs:
            main.head["input"] = inputs
        if seconds := document.get("timeout_sec"):
            main.head["timeout"] = f"{seconds}s"
        if (most := document.get("max_active_runs")) and int(str(most)) > 0:
            main.head["concurrency"] = {"key": self.name, "limit": most, "on_limit": "queue"}
        if (most := document.get("max_active_steps")) and int(str(most)) > 0:
            main.head["max_parallel"] = int(str(most))
        shell = document.get("shell")
        words = shlex.split(shell) if isinstance(shell, str) else items(shell)
        defaults: JsonObject = {"shell": [*words] or ["sh", "-e"], "retry": retry_policy(1)}
        main.head["defaults"] = defaults
        if directory := document.get("working_dir"):
            defaults["cwd"] = str(directory)
            main.notes += ["working_dir: is not expanded here: write it out"] if "$" in str(directory) else []
        environment: JsonObject = {name: f"${{{{ input.{name} }}}}" for name in inputs}
        environment |= self._env(document.get("env"), main.notes)
        if environment:
            main.default_env(environment)
        self._steps(document["steps"])
        handlers = document.get("handler_on")
        self._handlers(handlers if isinstance(handlers, dict) else {})
        self._schedule(document.get("schedule"), made)
        made.workflows.append(main)
        return made

    def _params(self, params: Json) -> Iterator[tuple[str, Json]]:
        listed: list[Any] = shlex.split(params) if isinstance(params, str) else items(params)
        for number, one in enumerate(listed, start=1):
            pairs = one.items() if isinstance(one, dict) else [str(one).partition("=")[::2]]
            for name, value in pairs:
                if not isinstance(one, dict) and "=" not in str(one):
                    yield f"P{number}", {"type": "string", "default": str(name)}
                    self.main.notes.append(f"params: ${number} is $P{number} here")
                elif isinstance(one, dict) and {"name", "default"} <= one.keys():
                    yield str(one["name"]), {"type": "string", "default": str(one["default"])}
                    break
                else:
                    yield str(name), {"type": "string", "default": _text(value)}

    def _env(self, env: Json, notes: list[str]) -> JsonObject:
        found: JsonObject = {}
        for one in items(env):
            pairs = one.items() if isinstance(one, dict) else [str(one).partition("=")[::2]]
            for name, value in pairs:
                text = _text(value)
                if re.search(r"\$|`", text):
                    notes.append(f"env: {name}={text} is not expanded here: set it in the commands that need it")
                found[str(name)] = text
        return found

    def _schedule(self, schedule: Json, made: Draft) -> None:
        if isinstance(schedule, dict):
            if schedule.keys() & {"stop", "restart"}:
                self.main.notes.append("schedule: stop and restart have no equivalent")
            schedule = schedule.get("start")
        for cron in items(schedule):
            cron = cron.get("cron", cron.get("expression")) if isinstance(cron, dict) else cron
            zone = re.match(r"(?:CRON_)?TZ=(\S+)\s+(.*)", str(cron))
            made.schedule(self.main, zone[2] if zone else cron, {"timezone": zone[1]} if zone else None)

    def _steps(self, listed: Any) -> None:
        if isinstance(listed, dict):
            listed = [
                {"name": name, **(one if isinstance(one, dict) else {"command": one})} for name, one in listed.items()
            ]
        groups = [one if isinstance(one, list) else [one] for one in listed]
        flat = [one for group in groups for one in group]
        depends = any(isinstance(one, dict) and "depends" in one for one in flat)
        is_chain = self.document.get("type") != "graph" and not depends
        before: list[str] = []
        for group in groups:
            made = []
            for one in group:
                step = _snake(one, _STEP_KEYS) if isinstance(one, dict) else {"command": one}
                title = str(step.get("id") or step.get("name") or f"step-{len(self.main.steps) + 1}")
                id_ = self.ids.of(title)
                if step.get("name"):
                    self.ids._of.setdefault(str(step["name"]), id_)
                needs = [self.ids.of(str(need)) for need in items(step.get("depends"))]
                noted = self._step(id_, step, before if is_chain else needs)
                self.main.steps.append(noted)
                made.append(id_)
            before = made

    def _step(self, id_: str, step: dict[str, Any], needs: list[str]) -> Noted:
        notes = left_out(step, _STEP_KEYS)
        conditions = items(step.get("preconditions", step.get("precondition")))
        if not needs and self.document.get("preconditions"):
            conditions = [*items(self.document["preconditions"]), *conditions]
        condition, gates = self._conditions(id_, conditions, needs, notes)
        found: JsonObject = {"id": id_}
        work = self._work(step, notes)
        used = self._used(str(step), needs)
        needs = list(dict.fromkeys([*needs, *gates, *used.values()]))
        if needs:
            found["needs"] = list(needs)
        if any(need in self.open for need in needs):
            found["run_if"] = "all_done"
        if condition:
            found["if"] = condition
        found |= work
        if "run" in found:
            environment = self._env(step.get("env"), notes)
            environment |= {name: f"${{{{ steps.{of}.result.stdout }}}}" for name, of in used.items()}
            if environment:
                found["env"] = {**environment, **(found.get("env") or {})}  # type: ignore[dict-item]
        self._policies(found, step, notes)
        if output := step.get("output"):
            name = str(output.get("name") if isinstance(output, dict) else output).strip("${}")
            self.outputs[name] = id_
            if "run" in found:
                found["output"] = "text"
            else:
                notes.append(f"output: {name}: read steps.{id_}.result where it is needed")
        return Noted(step=found, notes=notes)

    def _used(self, text: str, needs: list[str]) -> dict[str, str]:
        """Return the variables in *text* that earlier steps set."""
        return {name: of for name, of in self.outputs.items() if re.search(rf"\$(\{{{name}\b|{name}\b)", text)}

    def _policies(self, found: JsonObject, step: dict[str, Any], notes: list[str]) -> None:
        if directory := step.get("dir") or step.get("working_dir"):
            found["cwd"] = str(directory)
            if "$" in str(directory):
                notes.append("the directory is not expanded here: write it out, or use an expression")
        if seconds := step.get("timeout_sec"):
            found["timeout"] = f"{seconds}s"
        retry = _policy(step.get("retry_policy"))
        if isinstance(retry, dict):
            limit, delay = retry.get("limit", 0), retry.get("interval_sec", 0)
            policy = retry_policy(int(str(limit)) + 1, delay=f"{delay}s", backoff=1)
            if isinstance(factor := retry.get("backoff"), int | float) and not isinstance(factor, bool):
                policy["backoff"] = factor
            elif factor is True:
                policy["backoff"] = 2
            if longest := retry.get("max_interval_sec"):
                policy["max_delay"] = f"{longest}s"
            if codes := items(retry.get("exit_code")):
                policy["on"] = [f"exit:{code}" for code in codes]
            if "foreach" in found:
                notes.append("retry_policy: with parallel: put it into the steps of the definition that is called")
            else:
                found["retry"] = policy
        repeat = _policy(step.get("repeat_policy"))
        if isinstance(repeat, dict) and repeat.get("repeat"):
            self._repeat(found, step, repeat, notes)
        goes_on = _policy(step.get("continue_on"))
        if isinstance(goes_on, str):
            goes_on = {"failure": "fail" in goes_on, "skipped": "skip" in goes_on}
        if isinstance(goes_on, dict):
            if goes_on.get("failure") or goes_on.get("failed"):
                found["continue_on_error"] = True
            elif codes := items(goes_on.get("exit_code")):
                found["continue_on_error"] = [f"exit:{code}" for code in codes]
            if goes_on.get("skipped"):
                self.open.add(str(found["id"]))

    def _repeat(self, found: JsonObject, step: dict[str, Any], policy: dict[str, Any], notes: list[str]) -> None:
        """Use ``repeat:`` if the result of a round decides, ``retry:`` if its exit code does."""
        delay = f"{policy.get('intervalSec', policy.get('interval_sec', 0))}s"
        limit = int(str(policy.get("limit") or 0))
        codes = items(policy.get("exit_code"))
        condition, expected = str(policy.get("condition") or ""), policy.get("expected")
        output = step.get("output")
        own = str(output.get("name") if isinstance(output, dict) else output or "").strip("${}")
        word = "until" if policy["repeat"] == "until" else "while"
        if codes and word == "while" and 0 not in codes:
            kinds: list[Json] = [f"exit:{code}" for code in codes]
            found["retry"] = retry_policy(limit or 1000, delay=delay, backoff=1, on=kinds)
            return
        test = "true"
        if own and expected is not None and condition.strip("${}") == own:
            text = str(expected)
            is_pattern = text.startswith("re:")
            value = _quoted(text.removeprefix("re:"))
            test = f"match(result.stdout, {value})" if is_pattern else f"result.stdout == {value}"
        elif codes or condition:
            notes.append(f"repeatPolicy: {condition or f'exitCode {codes}'}: write the condition over result.stdout")
            word, test = "until", "true"
        repeat: JsonObject = {word: test, "delay": delay, "max": limit or 100_000}
        if factor := policy.get("backoff"):
            repeat["backoff"] = 2 if factor is True else factor
        if longest := policy.get("max_interval_sec"):
            repeat["max_delay"] = f"{longest}s"
        found["repeat"] = repeat

    def _conditions(self, id_: str, conditions: list[Any], needs: list[str], notes: list[str]) -> tuple[str, list[str]]:
        """Return the condition of a step, and steps that test whether commands succeed."""
        found, gates = [], []
        for number, one in enumerate(conditions, start=1):
            asked = one if isinstance(one, dict) else {"condition": one}
            text, expected = str(asked.get("condition", asked.get("command", ""))), asked.get("expected")
            name = re.fullmatch(r"\$\{?(\w+)\}?", text)
            is_plain = expected is not None and not str(expected).startswith("re:")
            if name and is_plain and (name[1] in self.inputs or name[1] in self.outputs):
                of = self.outputs.get(name[1])
                value = f"steps.{of}.result.stdout" if of else f"input.{name[1]}"
                if of and of not in needs:
                    gates.append(of)
                found.append(f"{value} == '{expected}'")
                continue
            gate = self.ids.new(f"{id_}-when" if number == 1 else f"{id_}-when-{number}")
            command = text.strip("`") if text.startswith("`") else text.removeprefix("$(").removesuffix(")")
            step: JsonObject = {"id": gate}
            used = self._used(text, needs)
            if wanted := list(dict.fromkeys([*needs, *used.values()])):
                step["needs"] = list(wanted)
            if expected is None:
                step |= {"run": command, "continue_on_error": True}
                found.append(f"steps.{gate}.status == 'completed'")
            else:
                shown = f'echo "{text}"' if name else command
                step |= {"run": shown, "output": "text", "continue_on_error": True}
                if str(expected).startswith("re:"):
                    notes.append(f"precondition {text} matches {expected}: the condition compares for equality")
                value = str(expected).removeprefix("re:").replace("'", "\\'")
                found.append(f"steps.{gate}.status == 'completed' && steps.{gate}.result.stdout == '{value}'")
            if used:
                step["env"] = {one: f"${{{{ steps.{of}.result.stdout }}}}" for one, of in used.items()}
            self.main.steps.append(Noted(step=step))
            gates.append(gate)
        return " && ".join(found), gates

    def _work(self, step: dict[str, Any], notes: list[str]) -> JsonObject:
        called = step.get("call") or step.get("run")
        if called:
            return self._child(str(called), step, notes)
        executor = step.get("executor") or step.get("type") or ""
        config: dict[str, Any] = step.get("with") or step.get("config") or {}
        if isinstance(executor, dict):
            config, executor = executor.get("config") or {}, executor.get("type", "")
        command = step.get("script") or step.get("command") or ""
        text = "\n".join(map(str, command)) if isinstance(command, list) else str(command)
        if step.get("args"):
            text = " ".join([text, *map(str, items(step["args"]))])
        match executor:
            case "http":
                return self._http(text, config, step)
            case "docker" | "container":
                image = config.get("image", "IMAGE")
                notes.append("docker: check volumes and variables of docker run")
                return {"run": f"docker run --rm {shlex.quote(str(image))} {text}"}
            case "ssh":
                host = f"{config.get('user', 'USER')}@{config.get('host', config.get('ip', 'HOST'))}"
                return {"run": f"ssh {host} {shlex.quote(text)}"}
            case "jq":
                return {"run": f"jq {shlex.quote(text)}", "stdin": str(step.get("script") or "")}
            case "" | "command" | "shell":
                notes += [f"with: {str(config)[:100]} was not converted"] if config else []
            case _:
                notes.append(f"executor {executor}: runs as a command here; {str(config)[:100]}")
        made: JsonObject = {}
        if shell := step.get("shell"):
            made["shell"] = [*(shlex.split(shell) if isinstance(shell, str) else shell)]
        return {**made, "run": (text.strip() and text) or "true"}

    def _http(self, text: str, config: dict[str, Any], step: dict[str, Any]) -> JsonObject:
        method, _, url = text.strip().partition(" ")

        def value(text: str) -> str:
            return re.sub(
                r"\$\{?(\w+)\}?",
                lambda one: (
                    f"${{{{ input.{one[1]} }}}}"
                    if one[1] in self.inputs
                    else f"${{{{ steps.{self.outputs[one[1]]}.result.stdout }}}}"
                    if one[1] in self.outputs
                    else one[0]
                ),
                text,
            )

        given: JsonObject = {"url": value(url.strip()), "method": method.upper()}
        if headers := config.get("headers"):
            given["headers"] = {name: value(str(one)) for name, one in headers.items()}
        if body := config.get("body") or step.get("script"):
            given["body"] = value(str(body))
        if config.get("timeout"):
            given["timeout"] = config["timeout"]
        return {"type": "http_request", "with": given}

    def _child(self, name: str, step: dict[str, Any], notes: list[str]) -> JsonObject:
        notes.append(f"{name} is another definition: import it too")
        given: JsonObject = {}
        params = step.get("params")
        listed = shlex.split(params) if isinstance(params, str) else items(params)
        for one in listed:
            pairs = one.items() if isinstance(one, dict) else [str(one).partition("=")[::2]]
            for key, value in pairs:
                given[str(key)] = self._given(_text(value))
        made: JsonObject = {"type": "workflow", "with": {"workflow": workflow_name(name), "input": given}}
        if parallel := step.get("parallel"):
            asked: dict[str, Any] = _policy(parallel) if isinstance(parallel, dict) else {"items": parallel}
            over = asked.get("items")
            made["foreach"] = self._items(over) if isinstance(over, str) else over
            if most := asked.get("max_concurrent"):
                made["max_parallel"] = most
        return made

    def _items(self, text: str) -> Json:
        """Return the items in *text*: JSON, words, or a variable that holds JSON."""
        given = self._given(text)
        if whole := re.fullmatch(r"\$\{\{ ((?:(?!\}\}).)*) \}\}", given):
            return f"${{{{ fromjson({whole[1]}) }}}}"
        try:
            found: Json = json.loads(text)
        except ValueError:
            found = [*text.split()]
        return found if isinstance(found, list) else [found]

    def _given(self, text: str) -> str:
        def value(found: re.Match[str]) -> str:
            name = found[1]
            if name in self.ids and (key := re.fullmatch(r"\.outputs\.(\w+)", found[2])):
                return f"${{{{ steps.{self.ids.of(name)}.result.{key[1]} }}}}"
            if name == "ITEM":
                return f"${{{{ item{found[2] or ''} }}}}"
            if name in self.outputs:
                return f"${{{{ steps.{self.outputs[name]}.result.stdout }}}}"
            name = f"P{name}" if name.isdigit() else name
            if name in self.inputs:
                return f"${{{{ input.{name} }}}}"
            self.main.notes.append(f"{found[0]} is no parameter, and no output of a step before: it stays as it is")
            return found[0]

        return re.sub(r"\$\{?(\w+)((?:\.\w+)*)\}?", value, text)

    def _handlers(self, handlers: dict[str, Any]) -> None:
        whens = {"success": "completed", "cancel": "cancelled", "abort": "cancelled"}
        for event, step in handlers.items():
            id_ = self.ids.new(f"on-{event}")
            noted = self._step(id_, _snake(step, _STEP_KEYS) if isinstance(step, dict) else {"command": step}, [])
            noted.step.pop("needs", None)
            noted.step.pop("run_if", None)
            if event == "failure":
                self.main.on_failure.append(noted)
                continue
            if event == "init":
                noted.notes.append("handlerOn.init: make it the first step")
            if status := whens.get(event):
                noted.step = {"id": id_, "if": f"run.status == '{status}'", **noted.step}
            self.main.finally_steps.append(noted)


def _snake(document: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """Return *document* with *known* keys in Dagu's present spelling; older files have timeoutSec and the like."""
    keys = {key: re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", key) for key in document}
    return {keys[key] if keys[key] in known else key: value for key, value in document.items()}


def _policy(value: Any) -> Any:
    return _snake(value, _POLICY_KEYS) if isinstance(value, dict) else value


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


__all__ = ["convert"]
