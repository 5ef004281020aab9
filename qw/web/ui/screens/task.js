/** One task: what it waits for, its history, its payload and its result. */
import { get, put } from "../lib/api.js";
import { duration, seconds, whole } from "../lib/format.js";
import { html } from "../lib/html.js";
import { useKeys } from "../lib/keyboard.js";
import { now } from "../lib/now.js";
import { useResource } from "../lib/resource.js";
import { href, setQuery } from "../lib/router.js";
import { mayOperate, session } from "../lib/session.js";
import { TaskTimeline } from "../components/attempts.js";
import { Card, Command, Copy, Facts, Moment, RunLink, Status, Tabs, TaskLink, Time } from "../components/bits.js";
import { ask } from "../components/dialog.js";
import { ErrorView } from "../components/error-view.js";
import { Icon } from "../components/icon.js";
import { hasMasked, JsonTree } from "../components/json-tree.js";
import { LogView } from "../components/log-view.js";
import { Menu } from "../components/menu.js";
import { askForNewTask } from "../components/new-task.js";
import { ObjectForm, useObjectForm } from "../components/schema-form.js";
import { StackView } from "../components/stack-view.js";
import { Banner, Empty, Loaded, Skeleton } from "../components/states.js";
import { ACTIONS, askForTask } from "../components/task-actions.js";
import { toast } from "../components/toast.js";
import { Why } from "../components/why.js";

export default function TaskScreen({ parts, query }) {
  const id = parts[1];
  const isRevealed = query.get("reveal") === "1";
  const task = useResource((options) => get(`api/task/${encodeURIComponent(id)}`, { reveal: isRevealed || null }, options), [id, isRevealed]);
  if (task.data === undefined && task.error?.status === 404) return html`<${NoSuchTask} id=${id} />`;
  if (task.data === undefined && task.error?.status === 400) return html`<${NoSuchTask} id=${id} message=${task.error.message} />`;
  return html`<div class="page">
    <div class="crumbs"><a href=${href("tasks")}>Tasks</a><span>/</span><span class="mono cut">${id}</span><${Copy} text=${id} label="Copy the id" /></div>
    <${Loaded} resource=${task} what="The task" skeleton=${html`<h1>Task</h1><section class="card"><${Skeleton} rows=${8} /></section>`}>
      ${(data) => html`<${Task} task=${data} query=${query} isRevealed=${isRevealed} reload=${task.reload} />`}
    </${Loaded}>
  </div>`;
}

function NoSuchTask({ id, message = "It may have been deleted by retention, or belong to another database." }) {
  return html`<div class="page"><section class="card"><${Empty} title="There is no task ${id}"><p>${message}</p><a href=${href("tasks")}>All tasks</a></${Empty}></section></div>`;
}

function Task({ task, query, isRevealed, reload }) {
  const timeline = useResource((options) => get(`api/task/${task.id}/timeline`, {}, options), [task.id]);
  const isRunning = task.status === "processing";
  const allowed = (action) => mayOperate.value && ACTIONS[action].applies.includes(task.status);
  const act = (action) => askForTask(action, task, { onDone: reload });
  useKeys({
    ...(allowed("retry") && { r: { about: "Retry", run: () => act("retry") } }),
    ...(allowed("cancel") && { c: { about: "Cancel", run: () => act("cancel") } }),
  });
  const attempts = timeline.data?.attempts ?? [];
  return html`
    <div class="page-head">
      <h1 class="wrap">${task.type}</h1>
      <${Status} status=${task.status} text=${{ pending: "waiting", processing: "running" }[task.status]} />
      <span class="muted">${headline(task)}</span>
      <div class="actions">
        ${["retry", "cancel", "compensate"].filter(allowed).map(
          (action) => html`<button type="button" class="button ${action === "retry" ? "primary" : ""}" onClick=${() => act(action)}><${Icon} name=${ACTIONS[action].icon} />${ACTIONS[action].title}</button>`,
        )}
        ${mayOperate.value &&
        html`<${Menu} label="More" items=${[
          { text: "Enqueue again with another payload", icon: "plus", run: () => askForNewTask(task) },
          (task.status === "pending" || task.status === "retrying") && { text: "Edit the payload", icon: "edit", run: () => askForEdit(task, reload) },
        ]} />`}
      </div>
    </div>
    <${Why} path=${`api/task/${task.id}/why`} status=${task.status} />
    ${timeline.data?.progress && html`<${Progress} progress=${timeline.data.progress} />`}
    <div class="columns uneven">
      <div class="stack">
        ${isRunning && html`<${StackView} id=${task.id} />`}
        ${hasErrorToShow(task) && html`<${Card} title=${task.status === "failed" ? "Error" : "Last error"}><div class="body"><${ErrorView} error=${task.error} /></div></${Card}>`}
        <${Data} task=${task} timeline=${timeline.data} query=${query} isRevealed=${isRevealed} />
        <${LogView} key=${task.id} id=${task.id} isRunning=${isRunning} />
      </div>
      <div class="stack">
        <${Card} title="Timeline"><div class="body">
          <${Loaded} resource=${timeline} what="The timeline" skeleton=${html`<${Skeleton} rows=${4} />`}>${() => html`<${TaskTimeline} task=${task} attempts=${attempts} />`}</${Loaded}>
        </div></${Card}>
        <${About} task=${task} timeline=${timeline.data} />
        <${Commands} task=${task} />
      </div>
    </div>
  `;
}

/** Whether to show the error. A failed task's single-line error is already shown by the reasons above. */
function hasErrorToShow({ error, status }) {
  return error && status !== "completed" && (status !== "failed" || error.includes("\n"));
}

function headline(task) {
  if (task.status === "processing") return `for ${duration(seconds(task.startedAt, null, now.value))}`;
  if (task.finishedAt && task.startedAt) return html`<${Time} at=${task.finishedAt} />, ran ${duration(seconds(task.startedAt, task.finishedAt))}`;
  return html`created <${Time} at=${task.createdAt} />`;
}

function Progress({ progress }) {
  const { fraction, message } = progress;
  return html`<${Banner} tone="blue" icon="info"><p dir="auto">${message || "Progress"} · ${Math.round(fraction * 100)} %</p>
    <progress class="progress" max="1" value=${fraction} aria-label="Progress"></progress></${Banner}>`;
}

function Data({ task, timeline, query, isRevealed }) {
  if (session.value.payloadsHidden) return html`<${Card} title="Payload"><${Empty} compact title="Payloads are hidden">A setting of this server hides them.</${Empty}></${Card}>`;
  const headers = timeline?.headers ?? {};
  const tabs = [
    ["payload", "Payload", task.payload],
    ["result", "Result", task.result],
    ["headers", "Headers", headers],
  ].filter(([name, , value]) => name === "payload" || (value !== null && value !== undefined && (name !== "headers" || Object.keys(value).length)));
  const value = tabs.find(([name]) => name === query.get("tab")) ?? tabs[0];
  const reveal = mayOperate.value && (isRevealed || hasMasked(value[2]));
  const aside =
    reveal &&
    html`<button type="button" class="button bare small" onClick=${() => setQuery({ reveal: isRevealed ? null : "1" })}><${Icon} name="eye" />${isRevealed ? "Hide secrets" : "Show secrets"}</button>`;
  return html`<section class="card" aria-label="Data">
    <${Tabs} label="Data" value=${value[0]} tabs=${tabs.map(([name, title]) => [name, title])} onChange=${(name) => setQuery({ tab: name === "payload" ? null : name })} />
    <div class="body"><${JsonTree} key=${value[0]} value=${value[2]} label=${value[1].toLowerCase()} aside=${aside} /></div>
  </section>`;
}

function About({ task, timeline }) {
  const headers = timeline?.headers ?? {};
  const trace = headers.traceparent?.split("-")[1];
  const children = timeline?.children ?? [];
  return html`<${Card} title="Details"><div class="body"><${Facts} facts=${[
    ["Queue", html`<a href=${href("queues", task.queue)}>${task.queue}</a>`],
    ["Priority", whole(task.priority)],
    ["Attempts", `${task.attempt} of at most ${task.maxRetries}`],
    ["Created", html`<${Moment} at=${task.createdAt} />`],
    ["Scheduled", task.scheduledAt && html`<${Moment} at=${task.scheduledAt} />`],
    ["Started", task.startedAt && html`<${Moment} at=${task.startedAt} />`],
    ["Ended", task.finishedAt && html`<${Moment} at=${task.finishedAt} />`],
    ["Run", task.runId && html`<${RunLink} id=${task.runId} />`],
    ["Step", task.stepId && html`<a href=${href("runs", task.runId, { step: task.stepId })}>${task.stepId}</a>`],
    ["Workflow", task.workflowId && html`<a href=${href("workflows", task.workflowId)}>${task.workflow?.name ?? "open"}</a>`],
    ["Schedule", headers.schedule && html`<a href=${href("schedules", headers.schedule)}>${headers.schedule}</a>`],
    ["Parent", timeline?.parentId && html`<${TaskLink} id=${timeline.parentId} />`],
    ["Children", children.length > 0 && children.map((child) => html`<div class="row"><${TaskLink} id=${child.id} /> ${child.type} <${Status} status=${child.status} /></div>`)],
    ["Trace", trace && html`<code>${trace}</code><${Copy} text=${trace} label="Copy the trace id" />`],
  ].map(([term, content]) => [term, content || null])} /></div></${Card}>`;
}

function Commands({ task }) {
  const commands = [`qw task show ${task.id}`];
  for (const action of ["retry", "cancel", "compensate"]) if (ACTIONS[action].applies.includes(task.status)) commands.push(`qw task ${action} ${task.id}${action === "cancel" && task.status === "processing" ? " --running" : ""}`);
  commands.push(`qw logs -f ${task.id}`);
  return html`<${Card} title="From a shell"><div class="body stack tight">${commands.map((command) => html`<div><${Command} text=${command} /></div>`)}</div></${Card}>`;
}

function askForEdit(task, reload) {
  const draft = { current: () => ({}) };
  ask({
    title: "Edit the payload",
    confirm: "Save",
    wide: true,
    content: () => html`<${EditForm} payload=${task.payload} draft=${draft} />`,
    run: async () => {
      await put(`api/task/${task.id}/payload`, { payload: draft.current() });
      toast("Payload changed");
      reload();
    },
  });
}

function EditForm({ payload, draft }) {
  const form = useObjectForm(null, payload);
  draft.current = form.value;
  return html`<p class="muted">The task keeps its id and its place. If it starts before you save, nothing is changed.</p>
    ${hasMasked(payload) && html`<${Banner}>Some values are hidden. Show the secrets before you edit, or they are lost.</${Banner}>`}
    <${ObjectForm} form=${form} label="Payload" />`;
}

