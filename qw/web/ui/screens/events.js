/** Events as they happen, and their delivery to the broker and webhooks. */
import { get, post } from "../lib/api.js";
import { parse } from "../lib/exact-json.js";
import { clockTime, absolute, duration, plural, whole } from "../lib/format.js";
import { html, useEffect, useState } from "../lib/html.js";
import { onEvent, paused, setPaused, state } from "../lib/live.js";
import { utc } from "../lib/preferences.js";
import { useResource } from "../lib/resource.js";
import { setQuery } from "../lib/router.js";
import { mayOperate } from "../lib/session.js";
import { Card, RunLink, Status, TaskLink, Time } from "../components/bits.js";
import { Icon } from "../components/icon.js";
import { JsonTree } from "../components/json-tree.js";
import { Empty, Loaded } from "../components/states.js";
import { toast } from "../components/toast.js";

const MOST = 500; // events kept on the page
const KINDS = [
  ["", "All"],
  ["task.", "Tasks"],
  ["workflow.", "Runs"],
  ["schedule.", "Schedules"],
  ["queue.", "Queues"],
  ["worker.", "Workers"],
];
const TONES = { completed: "completed", failed: "failed", cancelled: "cancelled", retrying: "retrying", rescued: "retrying", skipped: "retrying", late: "retrying", lost: "failed", paused: "paused", started: "processing", fired: "completed", up: "completed" };

export default function Events({ query }) {
  const kind = query.get("type") ?? "";
  const find = query.get("find") ?? "";
  const [events, setEvents] = useState([]);
  const [isLoaded, setLoaded] = useState(false);
  useEffect(() => {
    if (paused.value) return;
    get("api/events/log", { limit: 100 }).then(
      (data) => setEvents((live) => joined(live, data.events.map((event) => ({ id: String(event.id), type: event.type, at: event.at, body: event.body })))),
      () => {}, // if it fails, show only new events
    ).finally(() => setLoaded(true));
  }, [state.value]); // loads the events missed while paused or disconnected
  useEffect(() => {
    return onEvent(({ id, type, data }) => {
      const body = parse(data);
      setEvents((before) => joined(before, [{ id, type, at: body.time ?? new Date().toISOString(), body }]));
    });
  }, []);
  const shown = events.filter((event) => event.type.startsWith(kind) && (!find || JSON.stringify(event).toLowerCase().includes(find.toLowerCase())));
  return html`<div class="page">
    <div class="page-head"><h1>Events</h1><span class="muted">${paused.value ? "paused" : state.value === "live" ? "live" : "waiting for the connection"}</span>
      <div class="actions"><button type="button" class="button" onClick=${() => setPaused(!paused.value)}><${Icon} name=${paused.value ? "play" : "pause"} />${paused.value ? "Resume" : "Pause"}</button></div></div>
    <${Outside} />
    <div class="row flow">
      ${KINDS.map(([each, text]) => html`<button type="button" class="chip" aria-pressed=${each === kind} onClick=${() => setQuery({ type: each })}>${text}</button>`)}
      <div class="search"><${Icon} name="search" /><input class="input" type="search" aria-label="Find in the events" placeholder="Find an id, a type, a queue" value=${find} onInput=${(event) => setQuery({ find: event.target.value })} /></div>
    </div>
    <section class="card" aria-label="Events">
      ${shown.length === 0
        ? html`<${Empty} title=${events.length ? "No event matches" : isLoaded ? "No events yet" : "Loading…"} command=${events.length ? null : "qw events tail"}>They appear here as they happen.</${Empty}>`
        : html`<div class="scroll"><table><thead><tr><th>Time</th><th>Event</th><th>About</th><th class="hide-narrow">Task or run</th><th></th></tr></thead>
            <tbody>${shown.slice(0, 200).map((event) => html`<${Row} key=${event.id} event=${event} />`)}</tbody></table></div>
            ${shown.length > 200 && html`<footer>Showing the newest 200 of ${whole(shown.length)} on this page</footer>`}`}
    </section>
  </div>`;
}

/** Return the events newest first, without duplicates. */
function joined(before, more) {
  const known = new Set(before.map(({ id }) => id));
  const added = more.filter(({ id }) => !known.has(id));
  return [...added, ...before].sort((a, b) => Number(b.id) - Number(a.id)).slice(0, MOST);
}

function Row({ event }) {
  const [isOpen, setOpen] = useState(false);
  const data = event.body?.data ?? event.body ?? {};
  const taskId = data.taskId ?? event.body?.taskid;
  const runId = data.runId ?? event.body?.runid;
  return html`<tr>
      <td class="mono nowrap" title=${absolute(event.at, utc.value)}>${clockTime(event.at, utc.value)}</td>
      <td><${Status} status=${TONES[event.type.split(".").at(-1)] ?? "pending"} text=${event.type} /></td>
      <td class="cut">${data.taskType ?? data.type ?? data.workflow ?? data.workflowName ?? data.schedule ?? data.queue ?? data.name ?? data.worker ?? "–"}</td>
      <td class="hide-narrow">${taskId ? html`<${TaskLink} id=${taskId} />` : runId ? html`<${RunLink} id=${runId} />` : "–"}</td>
      <td class="right"><button type="button" class="button bare small" aria-expanded=${isOpen} onClick=${() => setOpen(!isOpen)}>${isOpen ? "Hide" : "Show"}</button></td>
    </tr>
    ${isOpen && html`<tr><td colspan="5"><${JsonTree} value=${event.body} label="event" /></td></tr>`}`;
}

/** The broker and the webhooks. */
function Outside() {
  const overview = useResource((options) => get("api/overview", {}, options));
  const webhooks = useResource((options) => get("api/webhooks", {}, options));
  return html`<div class="columns even">
    <${Card} title="Broker"><${Loaded} resource=${overview} what="The state of the broker">${({ broker }) => html`<div class="body row wide">
      <span><${Status} status=${broker.state} /> ${broker.name}</span>
      <span class="${broker.blocked ? "text-red" : "muted"}">${plural(broker.pending, "event")} to publish${broker.oldestSeconds ? `, oldest ${duration(broker.oldestSeconds)}` : ""}${broker.blocked ? ` · ${plural(broker.blocked, "event")} blocked` : ""}</span>
    </div>`}</${Loaded}></${Card}>
    <${Card} title="Webhooks"><${Loaded} resource=${webhooks} what="The webhooks">${(data) => html`<${Webhooks} data=${data} reload=${webhooks.reload} />`}</${Loaded}></${Card}>
  </div>`;
}

function Webhooks({ data, reload }) {
  const { webhooks = [], deliveries = [] } = data;
  if (webhooks.length === 0 && deliveries.length === 0) return html`<div class="body muted">No webhooks are set up.</div>`;
  const replay = async (delivery) => {
    try {
      toast((await post(`api/webhooks/deliveries/${delivery.id}/replay`)).message ?? "Sent again");
      reload();
    } catch (error) {
      toast(error.message, { tone: "red" });
    }
  };
  return html`<div class="scroll"><table><thead><tr><th>Webhook</th><th>Event</th><th class="number">Answer</th><th class="number">When</th><th></th></tr></thead>
    <tbody>${deliveries.slice(0, 10).map(
      (each) => html`<tr key=${each.id}><td>${each.webhook ?? each.name}</td><td>${each.type}</td><td class="number ${each.status >= 200 && each.status < 300 ? "text-green" : "text-red"}">${each.status ?? "–"}</td>
        <td class="number"><${Time} at=${each.at} /></td><td class="right">${mayOperate.value && html`<button type="button" class="button small" onClick=${() => replay(each)}>Replay</button>`}</td></tr>`,
    )}</tbody></table></div>`;
}
