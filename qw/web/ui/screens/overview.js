/** Problems, with their start and remedies; then the throughput. */
import { get } from "../lib/api.js";
import { ago, duration, plural, rate, short, whole } from "../lib/format.js";
import { html } from "../lib/html.js";
import { now } from "../lib/now.js";
import { useResource } from "../lib/resource.js";
import { href, setQuery } from "../lib/router.js";
import { Card, Segments, Time } from "../components/bits.js";
import { Chart, Sparkline } from "../components/chart.js";
import { Icon } from "../components/icon.js";
import { QueueState } from "../components/queue-state.js";
import { Empty, Loaded, Skeleton } from "../components/states.js";

const RANGES = [
  ["1h", "1 h"],
  ["24h", "24 h"],
  ["7d", "7 d"],
];
const MOST_QUEUES = 12;

export default function Overview({ query }) {
  const range = query.get("range") ?? "1h";
  const overview = useResource((options) => get("api/overview", {}, options));
  const history = useResource((options) => get("api/history", { range }, options), [range]);
  return html`<div class="page">
    <div class="page-head">
      <h1>Overview</h1>
      <div class="actions">
        <${Segments} label="Range of the charts" value=${range} options=${RANGES} onChange=${(value) => setQuery({ range: value === "1h" ? null : value })} />
      </div>
    </div>
    <${Loaded} resource=${overview} what="The overview" skeleton=${html`<${Placeholder} />`}>
      ${(data) => html`
        <${Health} health=${data.health} data=${data} />
        <${Totals} data=${data} />
        <${Charts} history=${history} />
        <${Queues} queues=${data.queues} />
        <div class="columns uneven">
          <${Failures} failures=${data.failures} isCut=${data.moreFailed} />
          <div class="stack">
            <${Workers} workers=${data.workers} />
            <${Background} late=${data.lateSchedules} broker=${data.broker} />
          </div>
        </div>
      `}
    </${Loaded}>
  </div>`;
}

function Placeholder() {
  return html`<section class="card"><${Skeleton} rows=${1} /></section>
    <section class="card"><${Skeleton} rows=${2} height=${30} /></section>
    <div class="columns"><section class="card"><${Skeleton} rows=${8} /></section><section class="card"><${Skeleton} rows=${8} /></section></div>`;
}

/** One line: no problems, or the two worst problems with remedies. */
function Health({ health, data }) {
  if (health.ok) {
    const parts = [
      plural(data.workers.length, "worker"),
      plural(data.queues.length, "queue"),
      `${whole(data.totals.processing)} running`,
    ];
    return html`<div class="banner tone-green" role="status"><${Icon} name="check" /><div><strong>All good</strong> <span class="muted">· ${parts.join(" · ")}</span></div></div>`;
  }
  const [first, ...others] = health.problems;
  const shown = [first, ...others.slice(0, 1)];
  const more = health.problems.length - shown.length;
  return html`<div class="stack tight">
    ${shown.map(
      ({ severity, text, advice, link }) => html`<div class="banner ${severity === "error" ? "tone-red" : "tone-amber"}" role="status">
        <${Icon} name="warning" />
        <div class="wrap"><p><strong>${text}</strong></p>${advice && html`<p class="muted">${advice}</p>`}</div>
        ${link && html`<a class="button small push" href=${link}>Open</a>`}
      </div>`,
    )}
    ${more > 0 && html`<p class="small muted">${plural(more, "more problem")}: ${others.slice(1).map(({ text }) => text).join("; ")}</p>`}
  </div>`;
}

function Totals({ data }) {
  const { totals, rates, wait, queues } = data;
  const oldest = Math.max(0, ...queues.map(({ oldestSeconds }) => oldestSeconds ?? 0));
  const failed = data.failures.reduce((sum, each) => sum + each.failed, 0);
  const tasks = (status) => href("tasks", { q: `status:${status}` });
  return html`<div class="tiles">
    <${Tile} label="Waiting" value=${short(totals.pending)} note=${oldest ? `oldest ${duration(oldest)}` : "none is late"} link=${tasks("pending")} />
    <${Tile} label="Running" value=${short(totals.processing)} note="right now" link=${tasks("processing")} />
    <${Tile} label="Retrying" value=${short(totals.retrying)} note="will be tried again" link=${tasks("retrying")} />
    <${Tile} label="Failed in 24 h" value=${short(failed) + (data.moreFailed ? "+" : "")} isBad=${failed > 0} note=${`${short(totals.failed)} kept in all`} link=${href("tasks", { q: "status:failed since:24h" })} />
    <${Tile} label="Per minute" value=${rate(rates.outPerMinute)} note=${`${rate(rates.inPerMinute)} in · ${rate(rates.failedPerMinute)} failed`} />
    <${Tile} label="Wait, median" value=${duration(wait.p50)} note=${`p95 ${duration(wait.p95)}`} />
  </div>`;
}

function Tile({ label, value, note, link, isBad }) {
  const content = html`<div class="label">${label}</div><div class="value ${isBad ? "bad" : ""}">${value}</div><div class="note" title=${note}>${note}</div>`;
  return link ? html`<a class="tile" href=${link}>${content}</a>` : html`<div class="tile">${content}</div>`;
}

const OUTCOMES = [
  ["completed", "--chart-completed"],
  ["retried", "--chart-retried"],
  ["failed", "--chart-failed"],
  ["cancelled", "--chart-cancelled"],
];
const PERCENTILES = [
  ["p50", "--chart-1"],
  ["p95", "--chart-2"],
  ["p99", "--chart-3"],
];

function Charts({ history }) {
  return html`<${Loaded} resource=${history} what="The history" skeleton=${html`<div class="columns"><section class="card"><${Skeleton} rows=${7} /></section><section class="card"><${Skeleton} rows=${7} /></section></div>`}>
    ${(data) => html`<div class="columns even">
      <${Card} title="Throughput" aside=${html`<span class="small muted">tasks ended per ${stepName(data.stepSeconds)}</span>`}>
        <div class="body"><${Chart} label="Tasks ended over time by outcome" kind="bars" times=${data.times} format=${short}
          series=${OUTCOMES.map(([name, color]) => ({ name, color, values: data.outcomes[name] ?? data.times.map(() => 0) }))} /></div>
      </${Card}>
      <${Card} title="Wait before the start" aside=${html`<span class="small muted">per ${stepName(data.stepSeconds)}</span>`}>
        <div class="body"><${Chart} label="Time that tasks waited, percentiles" kind="lines" times=${data.times} format=${duration}
          series=${PERCENTILES.map(([name, color]) => ({ name, color, values: data.wait[name] }))} /></div>
      </${Card}>
    </div>`}
  </${Loaded}>`;
}

function stepName(seconds) {
  return seconds === 60 ? "minute" : seconds === 3600 ? "hour" : duration(seconds);
}

function Queues({ queues }) {
  const sorted = [...queues].sort((a, b) => weight(b) - weight(a) || a.name.localeCompare(b.name));
  const cut = sorted.length - MOST_QUEUES;
  const footer = cut > 0 && html`<a href=${href("queues")}>All ${whole(sorted.length)} queues</a>`;
  return html`<${Card} title="Queues" aside=${html`<a class="small" href=${href("queues")}>All queues</a>`} footer=${footer}>
    ${sorted.length === 0
      ? html`<${Empty} compact title="No queue yet" command="qw enqueue noop">A queue appears with its first task.</${Empty}>`
      : html`<div class="scroll"><table>
          <thead><tr><th>Queue</th><th>State</th><th class="number">Waiting</th><th class="number">Oldest</th><th class="number hide-phone">Running</th>
            <th class="number hide-phone">In / min</th><th class="number hide-phone">Out / min</th><th class="number">Failed / min</th><th class="hide-narrow">Last hour</th></tr></thead>
          <tbody>${sorted.slice(0, MOST_QUEUES).map((queue) => html`<${QueueRow} key=${queue.name} queue=${queue} />`)}</tbody>
        </table></div>`}
  </${Card}>`;
}

const weight = (queue) => (queue.pausedAt ? 1e12 : 0) + (queue.pending + queue.processing) * 1e3 + (queue.outPerMinute ?? 0);

function QueueRow({ queue }) {
  return html`<tr>
    <td><a class="name cut" href=${href("queues", queue.name)} title=${queue.name}><strong>${queue.name}</strong></a></td>
    <td><${QueueState} queue=${queue} /></td>
    <td class="number">${short(queue.pending)}</td>
    <td class="number">${duration(queue.oldestSeconds)}</td>
    <td class="number hide-phone">${short(queue.processing)}</td>
    <td class="number hide-phone">${rate(queue.inPerMinute)}</td>
    <td class="number hide-phone">${rate(queue.outPerMinute)}</td>
    <td class="number ${queue.failedPerMinute > 0 ? "text-red" : ""}">${rate(queue.failedPerMinute)}</td>
    <td class="hide-narrow"><${Sparkline} values=${queue.sparkline ?? []} label=${`Tasks of ${queue.name} ended per minute in the last hour`} /></td>
  </tr>`;
}

function Failures({ failures, isCut }) {
  return html`<${Card} title="Failures by type" aside=${html`<span class="small muted">${isCut ? "the newest 1,000 of 24 hours" : "24 hours"}</span>`}>
    ${failures.length === 0
      ? html`<${Empty} compact title="Nothing failed">In the last 24 hours every task that ended was completed or cancelled.</${Empty}>`
      : html`<div class="scroll"><table class="fixed">
          <thead><tr><th>Type</th><th class="number" style=${{ width: "72px" }}>Failed</th><th class="hide-phone" style=${{ width: "48%" }}>Newest error</th><th style=${{ width: "92px" }}>When</th></tr></thead>
          <tbody>${failures.map(
            (each) => html`<tr key=${each.type}>
              <td class="cut"><a href=${href("tasks", { q: `status:failed type:${each.type} since:24h` })} title=${each.type}><strong>${each.type}</strong></a></td>
              <td class="number text-red">${short(each.failed)}</td>
              <td class="cut hide-phone" title=${each.lastError}><a href=${href("tasks", each.lastTaskId)}>${each.lastError}</a></td>
              <td><${Time} at=${each.lastAt} /></td>
            </tr>`,
          )}</tbody>
        </table></div>`}
  </${Card}>`;
}

function Workers({ workers }) {
  return html`<${Card} title="Workers" aside=${html`<a class="small" href=${href("workers")}>All workers</a>`}>
    ${workers.length === 0
      ? html`<${Empty} compact title="No worker is running" command="qw daemon">Tasks wait until one starts.</${Empty}>`
      : html`<div class="scroll"><table>
          <thead><tr><th>Worker</th><th>Host</th><th class="number">Running</th><th class="number">Last beat</th></tr></thead>
          <tbody>${workers.slice(0, 6).map(
            (worker) => html`<tr key=${worker.id}>
              <td><a href=${href("workers")}><strong>${worker.id}</strong></a> ${worker.draining && html`<span class="badge tone-amber">draining</span>`}</td>
              <td class="cut">${worker.host}</td>
              <td class="number">${whole(worker.running)}</td>
              <td class="number">${ago(worker.seenAt, now.value)}</td>
            </tr>`,
          )}</tbody>
        </table></div>`}
  </${Card}>`;
}

/** Late schedules and events waiting for the broker. */
function Background({ late, broker }) {
  const brokerText = broker.blocked > 0 ? `${plural(broker.blocked, "event")} cannot be published` : `${plural(broker.pending, "event")} to publish`;
  return html`<${Card} title="Schedules and broker">
    <div class="scroll"><table><tbody>
      ${late.length === 0 && html`<tr><td>Schedules</td><td class="muted right">none is late</td></tr>`}
      ${late.map(
        ({ name, lateSeconds }) => html`<tr key=${name}><td><a href=${href("schedules", name)}>${name}</a></td><td class="right text-amber">${duration(lateSeconds)} late</td></tr>`,
      )}
      <tr><td><a href=${href("events")}>Broker</a> <span class="muted">${broker.name}</span></td>
        <td class="right ${broker.state === "down" ? "text-red" : "muted"}">${broker.state} · ${brokerText}${broker.oldestSeconds ? `, oldest ${duration(broker.oldestSeconds)}` : ""}</td></tr>
    </tbody></table></div>
  </${Card}>`;
}

