/** All tasks: search them, and act on selected tasks or on all that match. */
import { plain } from "../lib/ansi.js";
import { absolute, counted, duration, plural, seconds, whole } from "../lib/format.js";
import { html } from "../lib/html.js";
import { now } from "../lib/now.js";
import { usePage } from "../lib/pages.js";
import { kept } from "../lib/preferences.js";
import { valueOf, withField } from "../lib/query.js";
import { go, href, setQuery } from "../lib/router.js";
import { useRows } from "../lib/rows.js";
import { mayOperate } from "../lib/session.js";
import { Status, TaskLink, Time } from "../components/bits.js";
import { Icon } from "../components/icon.js";
import { Menu } from "../components/menu.js";
import { askForNewTask } from "../components/new-task.js";
import { NewRows, Pager } from "../components/pager.js";
import { SearchBox, SearchChips } from "../components/search-box.js";
import { Banner, Empty, Failure, Skeleton } from "../components/states.js";
import { ACTIONS, askForBulk, BulkProgress } from "../components/task-actions.js";

const STATUSES = [
  ["", "All"],
  ["pending", "Waiting"],
  ["processing", "Running"],
  ["retrying", "Retrying"],
  ["failed", "Failed"],
  ["completed", "Completed"],
  ["cancelled", "Cancelled"],
];

/** The contents of each column; `narrow: false`: hidden on a small screen. */
const COLUMNS = {
  type: { title: "Type", cell: (task) => html`<a class="name cut only" href=${href("tasks", task.id)} title=${task.type}><strong>${task.type}</strong></a><span class="detail-line cut"><${Detail} task=${task} /></span>` },
  id: { title: "Id", cell: (task) => html`<${TaskLink} id=${task.id} />`, narrow: false },
  queue: { title: "Queue", cell: (task) => html`<a class="name short cut" href=${href("queues", task.queue)} title=${task.queue}>${task.queue}</a>`, narrow: false },
  detail: { title: "Payload or error", cell: (task) => html`<${Detail} task=${task} />`, narrow: false, isWide: true },
  attempt: { title: "Attempt", isNumber: true, cell: (task) => (task.attempt ? `${task.attempt} of ${task.maxRetries}` : "–"), narrow: false },
  priority: { title: "Priority", isNumber: true, cell: (task) => whole(task.priority), narrow: false },
  wait: { title: "Waited", isNumber: true, cell: waited, narrow: false },
  run: { title: "Ran", isNumber: true, cell: ran, narrow: false },
  created: { title: "Created", isNumber: true, cell: (task) => html`<${Time} at=${task.createdAt} />` },
  finished: { title: "Ended", isNumber: true, cell: (task) => html`<${Time} at=${task.finishedAt} />`, narrow: false },
};
const shownColumns = kept("qw.tasks.columns", ["type", "id", "queue", "detail", "attempt", "run", "created"]);

export default function Tasks({ query }) {
  const q = query.get("q") ?? "";
  const cursor = query.get("before");
  const page = usePage("api/search/tasks", "tasks", { q, brief: true }, cursor);
  const search = (text) => setQuery({ q: text, before: null }, { replace: false });
  const act = (action) => (ids) => askForBulk({ action, ids, onDone: () => rows.clear() });
  const rows = useRows(page.rows ?? [], {
    onOpen: (task) => go(href("tasks", task.id)),
    selectable: mayOperate.value,
    keys: mayOperate.value ? { r: { about: "Retry", run: act("retry") }, c: { about: "Cancel", run: act("cancel") } } : {},
  });
  const bulk = query.get("bulk");
  return html`<div class="page">
    <div class="page-head">
      <h1>Tasks</h1>
      <span class="muted" aria-live="polite">${page.count !== undefined && countText(page)}</span>
      <div class="actions">
        ${mayOperate.value && q && page.count > 0 && html`<${AllMatching} page=${page} q=${q} />`}
        <${ColumnMenu} />
        ${mayOperate.value && html`<button type="button" class="button primary" onClick=${() => askForNewTask()}><${Icon} name="plus" />New task</button>`}
      </div>
    </div>
    ${bulk && html`<${BulkProgress} key=${bulk} id=${bulk} onChange=${page.update} />`}
    <div class="row flow">
      <${SearchBox} value=${q} onSearch=${search} label="Search tasks" placeholder='status:failed type:send_email since:2h payload.customerId:zoe "text in error"' />
    </div>
    <div class="row flow">
      ${STATUSES.map(
        ([status, text]) => html`<button type="button" class="chip" aria-pressed=${(valueOf(q, "status") ?? "") === status} onClick=${() => search(withField(q, "status", status))}>${text}</button>`,
      )}
      <span class="push"></span>
      <${SearchChips} query=${q} onSearch=${search} />
    </div>
    ${page.error && html`<${SearchFailure} error=${page.error} onRetry=${page.reload} />`}
    ${page.rows === null
      ? !page.error && html`<section class="card"><${Skeleton} rows=${10} /></section>`
      : html`<${List} page=${page} rows=${rows} q=${q} cursor=${cursor} />`}
  </div>`;
}

function countText({ count, isEstimate }) {
  return isEstimate ? counted(count, true) : whole(count);
}

function SearchFailure({ error, onRetry }) {
  if (error.code === "search_timeout") {
    return html`<${Banner} action=${html`<button type="button" class="button small" onClick=${onRetry}>Try again</button>`}>
      <p><strong>The search took too long and was stopped</strong></p>
      <p>Narrow it by a queue, a type or a time, as in <code>since:2h</code>.</p>
    </${Banner}>`;
  }
  return html`<${Failure} error=${error} onRetry=${onRetry} what="The tasks" />`;
}

function List({ page, rows, q, cursor }) {
  if (page.rows.length === 0) {
    return html`<section class="card">${
      q
        ? html`<${Empty} title="No task matches"><button type="button" class="button small" onClick=${() => setQuery({ q: null, before: null })}>Show all tasks</button></${Empty}>`
        : html`<${Empty} title="No tasks yet" command="qw enqueue noop --payload '{}'">Tasks appear here as soon as they are enqueued.</${Empty}>`
    }</section>`;
  }
  const columns = Object.keys(COLUMNS).filter((name) => shownColumns.value.includes(name));
  return html`<section class="card ${page.isStale ? "updating" : ""}" aria-label="Tasks">
    ${rows.chosen.size > 0 && html`<${Selection} page=${page} rows=${rows} q=${q} />`}
    <${NewRows} page=${page} noun="task" />
    <div class="scroll">
      <table>
        <thead><tr>
          ${mayOperate.value && html`<th class="check"><input type="checkbox" aria-label="Choose all rows" checked=${rows.isAll} onChange=${rows.toggleAll} /></th>`}
          <th>Status</th>
          ${columns.map((name) => html`<th class=${classOf(COLUMNS[name])}>${COLUMNS[name].title}</th>`)}
        </tr></thead>
        <tbody>${page.rows.map((task) => html`<${Row} key=${task.id} task=${task} columns=${columns} rows=${rows} isGone=${page.gone.has(task.id)} />`)}</tbody>
      </table>
    </div>
    <footer>
      <span>Showing ${whole(page.rows.length)} of ${page.isEstimate ? "about " : ""}${counted(page.count, page.isEstimate).replace("≈ ", "")}, newest first</span>
      <${Pager} page=${page} cursor=${cursor} />
    </footer>
  </section>`;
}

const classOf = ({ isNumber, narrow }) => `${isNumber ? "number" : ""} ${narrow === false ? "hide-narrow" : ""}`;

function Row({ task, columns, rows, isGone }) {
  const isChosen = rows.chosen.has(task.id);
  const open = (event) => {
    if (!event.target.closest("a, button, input, time") && !getSelection().toString()) go(href("tasks", task.id));
  };
  const classes = ["link", isChosen && "chosen", rows.current === task.id && "current", isGone && "updating"].filter(Boolean).join(" ");
  return html`<tr class=${classes} data-row=${task.id} onClick=${open} title=${isGone ? "Does not match the search any more" : undefined}>
    ${mayOperate.value &&
    html`<td class="check"><input type="checkbox" aria-label="Choose ${task.type} ${task.id}" checked=${isChosen} onChange=${() => rows.toggle(task.id)} /></td>`}
    <td><${Status} ...${statusOf(task)} /></td>
    ${columns.map((name) => html`<td class="${classOf(COLUMNS[name])} ${COLUMNS[name].isWide ? "wide-cell" : ""}">${COLUMNS[name].cell(task)}</td>`)}
  </tr>`;
}

/** Return the status to show: a task that waits for its start time is "scheduled", not "waiting" for a worker. */
function statusOf({ status, scheduledAt }) {
  if (status === "pending" && scheduledAt && Date.parse(scheduledAt) > now.value) return { status: "scheduled" };
  return { status, text: { pending: "waiting", processing: "running" }[status] ?? status };
}

function Detail({ task }) {
  if (task.error && task.status !== "completed") return html`<span class="cut text-red" title=${task.error}>${plain(task.error.split("\n", 1)[0])}</span>`;
  return html`<code class="cut muted" title=${task.scheduledAt ? `Scheduled for ${absolute(task.scheduledAt)}` : undefined}>${summary(task.payload)}</code>`;
}

/** Return the payload in one line, strings without quotation marks. */
function summary(payload) {
  const parts = Object.entries(payload).map(([key, value]) => `${key}: ${value}`);
  return plain(parts.join(", ").slice(0, 160)) || "–";
}

function waited(task) {
  const from = task.scheduledAt && task.scheduledAt > task.createdAt ? task.scheduledAt : task.createdAt;
  if (!task.startedAt && task.finishedAt) return "–";
  return duration(seconds(from, task.startedAt, now.value));
}

function ran(task) {
  return task.startedAt && task.status !== "pending" && task.status !== "retrying" ? duration(seconds(task.startedAt, task.finishedAt, now.value)) : "–";
}

function Selection({ page, rows, q }) {
  const ids = [...rows.chosen];
  const statuses = new Set(page.rows.filter((task) => rows.chosen.has(task.id)).map((task) => task.status));
  const useful = Object.keys(ACTIONS).filter((action) => ACTIONS[action].applies.some((status) => statuses.has(status)));
  return html`<header class="selection">
    <strong>${plural(ids.length, "task")} chosen</strong>
    ${useful.map((action) => html`<${ActionButton} action=${action} run=${() => askForBulk({ action, ids, onDone: rows.clear })} />`)}
    ${!q && rows.isAll && page.count > page.rows.length && html`<${AllMatching} page=${page} q=${q} small onDone=${rows.clear} />`}
    <button type="button" class="button bare small push" onClick=${rows.clear}>Clear</button>
  </header>`;
}

/** The menu of actions on all tasks that match the search, including those on other pages. */
function AllMatching({ page, q, small = false, onDone }) {
  const items = Object.entries(ACTIONS).map(([action, { title, icon, danger }]) => ({ text: `${title} all that match`, icon, danger, run: () => askForBulk({ action, q, onDone }) }));
  return html`<${Menu} label=${`Everything that matches (${counted(page.count, page.isEstimate)})`} icon="chevron" small=${small} items=${items} />`;
}

function ActionButton({ action, run }) {
  const { title, icon } = ACTIONS[action];
  return html`<button type="button" class="button small" onClick=${run}><${Icon} name=${icon} />${title}</button>`;
}

function ColumnMenu() {
  const toggle = (name) => {
    const shown = shownColumns.value;
    shownColumns.value = shown.includes(name) ? shown.filter((each) => each !== name) : [...shown, name];
  };
  return html`<${Menu} label="Columns" icon="columns">
    ${Object.entries(COLUMNS).map(
      ([name, { title }]) => html`<li><label><input type="checkbox" checked=${shownColumns.value.includes(name)} onChange=${() => toggle(name)} />${title}</label></li>`,
    )}
  </${Menu}>`;
}

