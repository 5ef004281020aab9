/** One queue: depth and age over time, its limits and the tasks that hold slots. */
import { get } from "../lib/api.js";
import { ago, duration, short, whole } from "../lib/format.js";
import { html } from "../lib/html.js";
import { now } from "../lib/now.js";
import { useResource } from "../lib/resource.js";
import { href, setQuery } from "../lib/router.js";
import { mayAdmin, mayOperate } from "../lib/session.js";
import { Card, Command, Segments, TaskLink, Time } from "../components/bits.js";
import { Chart } from "../components/chart.js";
import { Icon } from "../components/icon.js";
import { Menu } from "../components/menu.js";
import { askForLimits, askToPause, askToPurge, resume } from "../components/queue-actions.js";
import { limitText } from "../components/queue-state.js";
import { Banner, Empty, Loaded } from "../components/states.js";

const RANGES = [["1h", "1 h"], ["24h", "24 h"], ["7d", "7 d"]];

export default function QueueScreen({ parts, query }) {
  const name = parts[1];
  const range = query.get("range") ?? "1h";
  const queue = useResource((options) => get(`api/queues/${encodeURIComponent(name)}`, {}, options), [name]);
  const history = useResource((options) => get("api/history", { range, queue: name }, options), [name, range]);
  if (queue.data === undefined && queue.error?.status === 404) {
    return html`<div class="page"><section class="card"><${Empty} title="There is no queue ${name}" command=${`qw enqueue noop -q ${name}`}><p>A queue appears with its first task.</p><a href=${href("queues")}>All queues</a></${Empty}></section></div>`;
  }
  return html`<div class="page">
    <div class="crumbs"><a href=${href("queues")}>Queues</a><span>/</span><span class="cut">${name}</span></div>
    <${Loaded} resource=${queue} what="The queue">${(data) => html`<${Queue} queue=${data} history=${history} range=${range} reload=${queue.reload} />`}</${Loaded}>
  </div>`;
}

function Queue({ queue, history, range, reload }) {
  const { name, pausedAt, pausedBy, limits } = queue;
  return html`
    <div class="page-head">
      <h1 class="wrap">${name}</h1>${pausedAt && html`<span class="badge tone-amber">paused</span>`}
      <div class="actions">
        <${Segments} label="Range of the charts" value=${range} options=${RANGES} onChange=${(each) => setQuery({ range: each === "1h" ? null : each })} />
        ${mayOperate.value && (pausedAt
          ? html`<button type="button" class="button primary" onClick=${() => resume(queue, reload)}><${Icon} name="play" />Resume</button>`
          : html`<button type="button" class="button" onClick=${() => askToPause(queue, reload)}><${Icon} name="pause" />Pause</button>`)}
        <${Menu} label="More" items=${[
          mayAdmin.value && { text: "Set limits", icon: "edit", run: () => askForLimits(queue, reload) },
          mayOperate.value && { text: "Purge", icon: "trash", danger: true, run: () => askToPurge(queue, reload) },
        ]} />
      </div>
    </div>
    ${pausedAt && html`<${Banner} icon="pause"><strong>Paused ${ago(pausedAt, now.value)}${pausedBy ? ` by ${pausedBy}` : ""}.</strong> ${whole(queue.pending)} tasks wait.</${Banner}>`}
    <div class="tiles">
      ${[
        ["Waiting", queue.pending, "pending", queue.oldestSeconds ? `oldest ${duration(queue.oldestSeconds)}` : "none is late"],
        ["Running", queue.processing, "processing", limits?.concurrency ? `of ${limits.concurrency} at once` : "no limit"],
        ["Retrying", queue.retrying, "retrying", "will be tried again"],
        ["Failed", queue.failed, "failed", "for good"],
        ["Completed", queue.completed, "completed", "kept"],
        ["Held by limits", queue.held ?? 0, "pending", limits ? limitText(limits) : "no limits"],
      ].map(
        ([label, value, status, note]) => html`<a class="tile" href=${href("tasks", { q: `queue:${name} status:${status}` })}><div class="label">${label}</div>
          <div class="value ${label === "Failed" && value > 0 ? "bad" : ""}">${short(value)}</div><div class="note" title=${note}>${note}</div></a>`,
      )}
    </div>
    <${Loaded} resource=${history} what="The history">${(data) => html`<div class="columns">
      <${Card} title="Depth"><div class="body"><${Chart} label="Tasks waiting over time" kind="lines" times=${data.times} format=${short}
        series=${[{ name: "waiting", color: "--chart-2", values: data.depth ?? [] }]} /></div></${Card}>
      <${Card} title="Age of the oldest"><div class="body"><${Chart} label="Age of the oldest waiting task over time" kind="lines" times=${data.times} format=${duration}
        series=${[{ name: "oldest", color: "--chart-3", values: data.oldestSeconds ?? [] }]} /></div></${Card}>
    </div>`}</${Loaded}>
    <div class="columns">
      <${Card} title="Limits" aside=${mayAdmin.value && html`<button type="button" class="button small" onClick=${() => askForLimits(queue, reload)}>Set limits</button>`}>
        ${limits
          ? html`<div class="body">${limitText(limits)}</div>`
          : html`<${Empty} compact title="No limits" command=${`qw queue limit ${name} --concurrency 4`}>Its tasks run as fast as workers take them.</${Empty}>`}
      </${Card}>
      <${Card} title="Running now">
        ${queue.holders?.length
          ? html`<div class="scroll"><table><thead><tr><th>Task</th><th>Type</th><th>Key</th><th class="number">Worker</th><th class="number">Since</th></tr></thead>
              <tbody>${queue.holders.map((each) => html`<tr key=${each.taskId}><td><${TaskLink} id=${each.taskId} /></td><td>${each.type}</td><td>${each.key || "–"}</td><td class="number">${each.worker ?? "–"}</td><td class="number"><${Time} at=${each.startedAt} /></td></tr>`)}</tbody></table></div>`
          : html`<${Empty} compact title="Nothing runs" />`}
      </${Card}>
    </div>
    <${Card} title="From a shell"><div class="body row flow"><${Command} text=${`qw queue ${pausedAt ? "resume" : "pause"} ${name}`} /><${Command} text=${`qw task list -q ${name}`} /></div></${Card}>`;
}
