/** The daemons: host, start time, what they serve and what they are running. */
import { get, post } from "../lib/api.js";
import { bytes, duration, plural, seconds, whole } from "../lib/format.js";
import { html } from "../lib/html.js";
import { now } from "../lib/now.js";
import { useResource } from "../lib/resource.js";
import { href, setQuery } from "../lib/router.js";
import { useRows } from "../lib/rows.js";
import { mayAdmin } from "../lib/session.js";
import { Bar, Card, Facts, Moment, TaskLink, Time } from "../components/bits.js";
import { ask } from "../components/dialog.js";
import { Empty, Loaded, Skeleton } from "../components/states.js";
import { toast } from "../components/toast.js";

const SILENT = 10; // seconds without a heartbeat from which a worker is highlighted

export default function Workers({ query }) {
  const workers = useResource((options) => get("api/workers", {}, options));
  const found = workers.data?.workers ?? [];
  const open = (id) => setQuery({ worker: query.get("worker") === String(id) ? null : id });
  const rows = useRows(found, { idOf: ({ id }) => String(id), onOpen: ({ id }) => open(id) });
  return html`<div class="page">
    <div class="page-head"><h1>Workers</h1><span class="muted">${workers.data && plural(found.length, "daemon")}</span></div>
    <${Loaded} resource=${workers} what="The workers">
      ${() =>
        found.length === 0
          ? html`<section class="card"><${Empty} title="No worker is running" command="qw daemon">Tasks wait until one starts.</${Empty}></section>`
          : html`<section class="card" aria-label="Workers"><div class="scroll"><table>
              <thead><tr><th>Worker</th><th>Host</th><th class="hide-narrow">Version</th><th class="hide-narrow">Queues</th><th>Slots in use</th><th class="number hide-phone">Up</th><th class="number">Last beat</th><th></th></tr></thead>
              <tbody>${found.map((each) => html`<${Row} key=${each.id} worker=${each} isCurrent=${rows.current === String(each.id)} onOpen=${() => open(each.id)} reload=${workers.reload} />`)}</tbody>
            </table></div></section>`}
    </${Loaded}>
    ${query.get("worker") && html`<${Worker} key=${query.get("worker")} id=${query.get("worker")} listed=${found.find(({ id }) => String(id) === query.get("worker"))} />`}
  </div>`;
}

const total = (slots) => Object.values(slots).reduce((sum, each) => sum + (typeof each === "number" ? each : 0), 0);

function Row({ worker, isCurrent, onOpen, reload }) {
  const slots = total(worker.slots);
  const silence = seconds(worker.seenAt, null, now.value);
  const open = (event) => !event.target.closest("a, button") && onOpen();
  return html`<tr class="link ${isCurrent ? "current" : ""}" data-row=${String(worker.id)} onClick=${open}>
    <td><button type="button" class="plain-button" onClick=${onOpen}><strong>${worker.id}</strong></button> ${worker.draining && html`<span class="badge tone-amber">draining</span>`}</td>
    <td class="cut">${worker.host} <span class="muted small">pid ${worker.pid}</span></td>
    <td class="hide-narrow">${worker.version}</td>
    <td class="hide-narrow">${worker.queues.length ? worker.queues.join(", ") : html`<span class="muted">all</span>`}</td>
    <td><div class="row"><${Bar} part=${slots ? worker.running / slots : 0} label=${`${worker.running} of ${slots} slots in use`} /><span class="small nowrap">${whole(worker.running)} of ${whole(slots)}</span></div></td>
    <td class="number hide-phone">${duration(seconds(worker.startedAt, null, now.value))}</td>
    <td class="number ${silence > SILENT ? "text-red" : ""}">${duration(Math.floor(silence))} ago</td>
    <td class="right">${mayAdmin.value && !worker.draining && html`<button type="button" class="button small" onClick=${() => askToDrain(worker, reload)}>Drain</button>`}</td>
  </tr>`;
}

function askToDrain(worker, reload) {
  ask({
    title: `Drain worker ${worker.id}?`,
    confirm: "Drain",
    danger: true,
    content: html`<p>It claims no more tasks, finishes the <strong>${whole(worker.running)}</strong> that it runs, and stops. Start another daemon first if none is left.</p>`,
    run: async () => {
      toast((await post(`api/workers/${worker.id}/drain`)).message);
      reload();
    },
  });
}

function Worker({ id, listed }) {
  const worker = useResource((options) => get(`api/workers/${id}`, {}, options), [id]);
  if (worker.data === undefined && worker.error?.status === 404) {
    return html`<section class="card"><${Empty} compact title="Worker ${id} is not running any more" /></section>`;
  }
  return html`<${Loaded} resource=${worker} what="The worker" skeleton=${html`<section class="card"><${Skeleton} rows=${3} /></section>`}>
    ${(data) => html`<div class="columns">
      <${Card} title="Worker ${id}: what it runs now">
        ${data.tasks?.length
          ? html`<div class="scroll"><table><thead><tr><th>Task</th><th>Type</th><th>Queue</th><th class="number">Since</th></tr></thead>
              <tbody>${data.tasks.map((task) => html`<tr key=${task.taskId}><td><${TaskLink} id=${task.taskId} /></td><td>${task.type}</td><td><a href=${href("queues", task.queue)}>${task.queue}</a></td><td class="number"><${Time} at=${task.startedAt} /></td></tr>`)}</tbody></table></div>`
          : html`<${Empty} compact title="Nothing right now" />`}
      </${Card}>
      <${Card} title="Details"><div class="body"><${Facts} facts=${[
        ["Host", listed?.host],
        ["Started", listed && html`<${Moment} at=${listed.startedAt} />`],
        ["Memory", data.memoryBytes ? bytes(data.memoryBytes) : null],
        ["Slots", listed && Object.entries(listed.slots).map(([kind, count]) => html`<span class="tag">${kind} ${String(count)}</span> `)],
        ["Types", listed && listed.types.map((type) => html`<span class="tag">${type}</span> `)],
      ]} /></div></${Card}>
    </div>`}
  </${Loaded}>`;
}
