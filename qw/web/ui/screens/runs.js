/** The runs of all workflows, or of one. */
import { duration, seconds, whole } from "../lib/format.js";
import { html } from "../lib/html.js";
import { now } from "../lib/now.js";
import { usePage } from "../lib/pages.js";
import { go, href, setQuery } from "../lib/router.js";
import { useRows } from "../lib/rows.js";
import { RunLink, Status, Time } from "../components/bits.js";
import { Icon } from "../components/icon.js";
import { NewRows, Pager } from "../components/pager.js";
import { Empty, Failure, Skeleton } from "../components/states.js";

const STATUSES = [
  ["", "All"],
  ["running", "Running"],
  ["failed", "Failed"],
  ["completed", "Completed"],
  ["cancelled", "Cancelled"],
];

export default function Runs({ query }) {
  const status = query.get("status") ?? "";
  const workflow = query.get("workflow") ?? "";
  const cursor = query.get("before");
  const page = usePage("api/runs", "runs", { status, workflow }, cursor);
  const rows = useRows(page.rows ?? [], { onOpen: (run) => go(href("runs", run.id)) });
  const show = (changes) => setQuery({ ...changes, before: null }, { replace: false });
  return html`<div class="page">
    <div class="page-head"><h1>Runs</h1><span class="muted">of workflows</span>
      <div class="actions"><a class="button" href=${href("workflows")}>Start a run</a></div></div>
    <div class="row flow">
      ${STATUSES.map(([each, text]) => html`<button type="button" class="chip" aria-pressed=${each === status} onClick=${() => show({ status: each })}>${text}</button>`)}
      ${workflow &&
      html`<span class="chip"><code>workflow:${workflow}</code><button type="button" aria-label="Show the runs of all workflows" onClick=${() => show({ workflow: null })}><${Icon} name="close" /></button></span>`}
    </div>
    ${page.error && html`<${Failure} error=${page.error} onRetry=${page.reload} what="The runs" />`}
    ${page.rows === null
      ? !page.error && html`<section class="card"><${Skeleton} rows=${10} /></section>`
      : html`<${List} page=${page} rows=${rows} cursor=${cursor} isFiltered=${Boolean(status || workflow)} />`}
  </div>`;
}

function List({ page, rows, cursor, isFiltered }) {
  if (page.rows.length === 0) {
    return html`<section class="card">${
      isFiltered
        ? html`<${Empty} title="No run matches"><a class="button small" href=${href("runs")}>Show all runs</a></${Empty}>`
        : html`<${Empty} title="No runs yet" command="qw workflow start NAME">Start a workflow, or let a schedule do it.</${Empty}>`
    }</section>`;
  }
  return html`<section class="card ${page.isStale ? "updating" : ""}" aria-label="Runs">
    <${NewRows} page=${page} noun="run" />
    <div class="scroll"><${RunTable} runs=${page.rows} rows=${rows} gone=${page.gone} /></div>
    <footer><span>Showing ${whole(page.rows.length)}${page.nextCursor || cursor ? "" : ", all there are"}, newest first</span><${Pager} page=${page} cursor=${cursor} /></footer>
  </section>`;
}

/** Also on the page of a workflow. */
export function RunTable({ runs, rows, gone = new Set(), withWorkflow = true }) {
  const open = (id) => (event) => !event.target.closest("a, button, time") && go(href("runs", id));
  return html`<table>
    <thead><tr><th>Status</th>${withWorkflow && html`<th>Workflow</th>`}<th>Run</th><th class="hide-narrow">Error or state</th><th class="number">Took</th><th class="number">Started</th></tr></thead>
    <tbody>${runs.map((run) => html`<tr key=${run.id} data-row=${run.id} class="link ${rows?.current === run.id ? "current" : ""} ${gone.has(run.id) ? "updating" : ""}" onClick=${open(run.id)}>
      <td><${Status} status=${run.status} /></td>
      ${withWorkflow && html`<td><a href=${href("runs", run.id)}><strong>${run.workflow}</strong></a></td>`}
      <td><${RunLink} id=${run.id} /></td>
      <td class="wide-cell hide-narrow"><span class="cut ${run.error ? "text-red" : "muted"}" title=${run.error}>${run.error?.split("\n", 1)[0] ?? run.detail ?? ""}</span></td>
      <td class="number">${duration(seconds(run.startedAt, run.finishedAt, now.value))}</td>
      <td class="number"><${Time} at=${run.startedAt ?? run.createdAt} /></td>
    </tr>`)}</tbody>
  </table>`;
}
