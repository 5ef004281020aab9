/** One run: its graph or timeline, and the details of a step. */
import { get } from "../lib/api.js";
import { duration, plural, seconds, whole } from "../lib/format.js";
import { html } from "../lib/html.js";
import { useKeys } from "../lib/keyboard.js";
import { now } from "../lib/now.js";
import { useResource } from "../lib/resource.js";
import { go, href, setQuery } from "../lib/router.js";
import { mayOperate } from "../lib/session.js";
import { Card, Command, Copy, Facts, Moment, RunLink, Segments, Status, TaskLink, Time, toneOf } from "../components/bits.js";
import { ErrorView } from "../components/error-view.js";
import { Gantt } from "../components/gantt.js";
import { Graph } from "../components/graph.js";
import { Icon } from "../components/icon.js";
import { JsonTree } from "../components/json-tree.js";
import { LogView } from "../components/log-view.js";
import { Menu } from "../components/menu.js";
import { askForSignal, askToCancel, askToDecide, askToEditAndRetry, askToMarkCompensated, askToRetry, isOver } from "../components/run-actions.js";
import { Empty, Loaded, Skeleton } from "../components/states.js";
import { Why } from "../components/why.js";

export default function RunScreen({ parts, query }) {
  const id = parts[1];
  const path = `api/runs/${encodeURIComponent(id)}`;
  const timeline = useResource((options) => get(`${path}/timeline`, {}, options), [id]);
  if (timeline.data === undefined && [400, 404].includes(timeline.error?.status)) return html`<${NoSuchRun} id=${id} />`;
  return html`<div class="page">
    <div class="crumbs"><a href=${href("runs")}>Runs</a><span>/</span><span class="mono cut">${id}</span><${Copy} text=${id} label="Copy the id" /></div>
    <${Loaded} resource=${timeline} what="The run" skeleton=${html`<h1>Run</h1><section class="card"><${Skeleton} rows=${10} /></section>`}>
      ${({ run, steps }) => html`<${Run} run=${run} steps=${steps} query=${query} reload=${timeline.reload} />`}
    </${Loaded}>
  </div>`;
}

function NoSuchRun({ id }) {
  return html`<div class="page"><section class="card"><${Empty} title="There is no run ${id}">
    <p>It may have been deleted by retention, or belong to another database.</p><a href=${href("runs")}>All runs</a>
  </${Empty}></section></div>`;
}

function Run({ run, steps, query, reload }) {
  const view = query.get("view") ?? "graph";
  const selected = steps.find(({ id }) => id === query.get("step")) ?? null;
  const select = (id) => setQuery({ step: id === selected?.id ? null : id });
  const follow = query.get("follow") === "1";
  const over = isOver(run);
  const waiting = steps.filter(({ type, status }) => type === "approval" && (status === "running" || status === "waiting") && !over);
  const approvals = waiting.filter(({ startedAt }) => startedAt);
  useKeys(mayOperate.value ? { ...(over && { r: { about: "Retry", run: () => askToRetry(run, null, reload) } }), ...(!over && { c: { about: "Cancel", run: () => askToCancel(run, reload) } }) } : {});
  return html`
    <div class="page-head">
      <h1 class="wrap"><a class="plain" href=${href("workflows", run.workflowId)}>${run.workflow}</a></h1>
      <${Status} status=${run.status} />
      <span class="muted">${duration(seconds(run.startedAt ?? run.createdAt, run.finishedAt, now.value))}, started <${Time} at=${run.startedAt ?? run.createdAt} /></span>
      <div class="actions">${mayOperate.value && html`<${Actions} run=${run} over=${over} approvals=${approvals} reload=${reload} />`}</div>
    </div>
    <${Why} path=${`api/runs/${run.id}/why`} status=${run.status} />
    <section class="card" aria-label="Steps">
      <header><h2>${plural(steps.length, "step")}</h2><${Summary} steps=${steps} selected=${selected} onSelect=${(id) => setQuery({ step: id })} />
        <div class="push">
          ${view === "graph" && !over && html`<button type="button" class="chip" aria-pressed=${follow} onClick=${() => setQuery({ follow: follow ? null : "1" })}>Follow what runs</button>`}
          <${Segments} label="View" value=${view} options=${[["graph", "Graph"], ["timeline", "Timeline"]]} onChange=${(each) => setQuery({ view: each })} />
        </div></header>
      ${view === "graph"
        ? html`<${Graph} key=${run.id} steps=${steps} selected=${selected?.id} onSelect=${select} follow=${follow} />`
        : html`<${Gantt} run=${run} steps=${steps} selected=${selected?.id} onSelect=${select} />`}
    </section>
    ${selected && html`<${StepDetails} key=${selected.id} run=${run} step=${selected} over=${over} reload=${reload} />`}
    <${RunData} run=${run} />
  `;
}

function Actions({ run, over, approvals, reload }) {
  const [approval] = approvals;
  return html`
    ${approval &&
    html`<button type="button" class="button primary" onClick=${() => askToDecide(run, "approve", approval.id, reload)}><${Icon} name="check" />Approve</button>
      <button type="button" class="button" onClick=${() => askToDecide(run, "reject", approval.id, reload)}>Reject</button>`}
    ${over && html`<button type="button" class="button ${run.status === "completed" ? "" : "primary"}" onClick=${() => askToRetry(run, null, reload)}><${Icon} name="retry" />Retry</button>`}
    ${!over && html`<button type="button" class="button" onClick=${() => askToCancel(run, reload)}><${Icon} name="cancel" />Cancel</button>`}
    <${Menu} label="More" items=${[
      !over && { text: "Send a signal", icon: "signal", run: () => askForSignal(run, reload) },
      over && { text: "Edit and retry", icon: "edit", run: () => askToEditAndRetry(run, null, reload) },
    ]} />`;
}

/** The number of steps by status; a click selects the next step with that status. */
function Summary({ steps, selected, onSelect }) {
  const ids = new Map();
  for (const { id, status } of steps) (ids.get(status) ?? ids.set(status, []).get(status)).push(id);
  const next = (all) => all[(all.indexOf(selected?.id) + 1) % all.length];
  return html`<span class="row flow small">${[...ids].map(
    ([status, all]) => html`<button type="button" class="badge ${toneOf(status)}" title="Go to the next of them" onClick=${() => onSelect(next(all))}>${whole(all.length)} ${status}</button>`,
  )}</span>`;
}

function StepDetails({ run, step, over, reload }) {
  const details = useResource((options) => get(`api/runs/${run.id}`, {}, options), [run.id]);
  const row = details.data?.steps.find(({ id }) => id === step.id);
  const isRunning = step.status === "running";
  const isApproval = step.type === "approval" && isRunning;
  const title = html`${step.compensates ? `Undo ${step.compensates}` : step.id} <span class="muted small">${step.type}</span> <${Status} status=${step.status} />`;
  const aside = html`${mayOperate.value && html`
    ${isApproval && html`<button type="button" class="button small primary" onClick=${() => askToDecide(run, "approve", step.id, reload)}>Approve</button>
      <button type="button" class="button small" onClick=${() => askToDecide(run, "reject", step.id, reload)}>Reject</button>`}
    ${over && step.startedAt && html`<button type="button" class="button small" onClick=${() => askToRetry(run, step.id, reload)}><${Icon} name="retry" />Retry from here</button>
      <button type="button" class="button small" onClick=${() => askToEditAndRetry(run, step.id, reload)}>Edit and retry</button>`}
    ${step.compensates && step.status === "failed" && html`<button type="button" class="button small" onClick=${() => askToMarkCompensated(run, step.compensates, reload)}>Undone by hand</button>`}`}
    <button type="button" class="button bare icon small" aria-label="Close the step" onClick=${() => setQuery({ step: null })}><${Icon} name="close" /></button>`;
  return html`<div class="stack">
    <${Card} title=${title} label="Step ${step.id}" aside=${aside}><div class="body columns">
      <${Facts} facts=${[
        ["Needs", step.needs?.length ? step.needs.map((need) => html`<button type="button" class="tag link" onClick=${() => setQuery({ step: need })}>${need}</button> `) : null],
        ["Started", step.startedAt && html`<${Moment} at=${step.startedAt} />`],
        ["Ended", step.finishedAt && html`<${Moment} at=${step.finishedAt} />`],
        ["Took", step.startedAt && duration(seconds(step.startedAt, step.finishedAt, now.value))],
        ["Attempts", step.attempts?.length > 1 ? whole(step.attempts.length) : null],
        ["Items", step.items && html`${whole(step.items.completed)} of ${whole(step.items.total)} done${step.items.failed > 0 && html`, <span class="text-red">${whole(step.items.failed)} failed</span>`}${" · "}<a href=${href("tasks", { q: `run:${run.id}` })}>tasks</a>`],
        ["Task", step.taskId && html`<${TaskLink} id=${step.taskId} full />`],
        ["Run", step.childRunId && html`<${RunLink} id=${step.childRunId} full />`],
      ]} />
      <div class="stack tight">
        ${step.error && html`<${ErrorView} error=${step.error} />`}
        ${row?.result !== null && row?.result !== undefined && html`<h3>Result</h3><${JsonTree} value=${row.result} label="result" />`}
        ${!step.error && (row?.result === null || row?.result === undefined) && html`<span class="muted">${step.startedAt ? "No result" : "It has not started"}</span>`}
      </div>
    </div></${Card}>
    ${step.childRunId && html`<${SubRun} id=${step.childRunId} />`}
    ${step.taskId && html`<${LogView} key=${step.taskId} id=${step.taskId} isRunning=${isRunning} />`}
  </div>`;
}

/** The child run that a step started, shown inline. */
function SubRun({ id }) {
  const timeline = useResource((options) => get(`api/runs/${id}/timeline`, {}, options), [id]);
  return html`<${Loaded} resource=${timeline} what="The run of the step">
    ${({ run, steps }) => html`<${Card} title=${html`${run.workflow} <${Status} status=${run.status} />`} label="Sub-workflow" aside=${html`<${RunLink} id=${id} />`}>
      <${Graph} steps=${steps} selected=${null} onSelect=${() => go(href("runs", id))} />
    </${Card}>`}
  </${Loaded}>`;
}

function RunData({ run }) {
  const commands = [`qw workflow show ${run.id}`, isOver(run) ? `qw workflow retry ${run.id}` : `qw workflow cancel ${run.id}`];
  return html`<div class="columns">
    <${Card} title="Input"><div class="body"><${JsonTree} value=${run.input} label="input" /></div></${Card}>
    <div class="stack">
      ${run.output !== null && html`<${Card} title="Output"><div class="body"><${JsonTree} value=${run.output} label="output" /></div></${Card}>`}
      <${Card} title="From a shell"><div class="body stack tight">${commands.map((command) => html`<div><${Command} text=${command} /></div>`)}</div></${Card}>
    </div>
  </div>`;
}
