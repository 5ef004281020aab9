/** All queues: depth, age, pauses and limits. */
import { get } from "../lib/api.js";
import { duration, short, whole } from "../lib/format.js";
import { html } from "../lib/html.js";
import { useResource } from "../lib/resource.js";
import { go, href, setQuery } from "../lib/router.js";
import { useRows } from "../lib/rows.js";
import { mayAdmin, mayOperate } from "../lib/session.js";
import { Icon } from "../components/icon.js";
import { Menu } from "../components/menu.js";
import { askForLimits, askToPause, askToPauseAll, askToPurge, askToResumeAll, resume } from "../components/queue-actions.js";
import { QueueState } from "../components/queue-state.js";
import { Empty, Loaded } from "../components/states.js";

/** The sort key of each column; true: largest first. */
const SORTS = {
  name: ["Queue", ({ name }) => name, false],
  pending: ["Waiting", ({ pending }) => pending, true],
  oldest: ["Oldest", ({ oldestSeconds }) => oldestSeconds ?? -1, true],
  processing: ["Running", ({ processing }) => processing, true],
  retrying: ["Retrying", ({ retrying }) => retrying, true],
  failed: ["Failed", ({ failed }) => failed, true],
  completed: ["Completed", ({ completed }) => completed, true],
};

export default function Queues({ query }) {
  const queues = useResource((options) => get("api/queues", {}, options));
  const sort = query.get("sort") in SORTS ? query.get("sort") : "name";
  const find = (query.get("find") ?? "").toLowerCase();
  const found = sorted((queues.data?.queues ?? []).filter(({ name }) => name.toLowerCase().includes(find)), sort);
  const rows = useRows(found, { idOf: ({ name }) => name, onOpen: ({ name }) => go(href("queues", name)) });
  const all = queues.data?.queues ?? [];
  const isAnyPaused = all.some(({ pausedAt }) => pausedAt);
  return html`<div class="page">
    <div class="page-head"><h1>Queues</h1><span class="muted">${queues.data && whole(all.length)}</span>
      <div class="actions">
        ${mayOperate.value && isAnyPaused && html`<button type="button" class="button" onClick=${() => askToResumeAll(all, queues.reload)}><${Icon} name="play" />Resume all</button>`}
        ${mayOperate.value && all.length > 0 && html`<button type="button" class="button" onClick=${() => askToPauseAll(all, queues.reload)}><${Icon} name="pause" />Pause all</button>`}
      </div></div>
    ${all.length > 12 && html`<div class="search"><${Icon} name="search" /><input class="input" type="search" aria-label="Find a queue" placeholder="Find a queue" value=${query.get("find") ?? ""} onInput=${(event) => setQuery({ find: event.target.value })} /></div>`}
    <${Loaded} resource=${queues} what="The queues">
      ${() =>
        all.length === 0
          ? html`<section class="card"><${Empty} title="No queues yet" command="qw enqueue noop -q mail">A queue appears with its first task.</${Empty}></section>`
          : html`<section class="card" aria-label="Queues"><div class="scroll"><table>
              <thead><tr>${Object.keys(SORTS).slice(0, 1).map((name) => html`<${Head} name=${name} sort=${sort} />`)}<th>State</th>${Object.keys(SORTS).slice(1).map((name) => html`<${Head} name=${name} sort=${sort} />`)}<th></th></tr></thead>
              <tbody>${found.map((each) => html`<${Row} key=${each.name} queue=${each} isCurrent=${rows.current === each.name} reload=${queues.reload} />`)}</tbody>
            </table></div>${found.length === 0 && html`<${Empty} compact title="No queue matches" />`}</section>`}
    </${Loaded}>
  </div>`;
}

function sorted(queues, sort) {
  const [, of, isFalling] = SORTS[sort];
  const order = (a, b) => (of(a) > of(b) ? 1 : of(a) < of(b) ? -1 : a.name.localeCompare(b.name));
  return [...queues].sort((a, b) => (isFalling ? order(b, a) : order(a, b)));
}

const NARROW = new Set(["retrying", "completed"]);

function Head({ name, sort }) {
  const [title, , isNumber] = SORTS[name];
  const isSorted = name === sort;
  return html`<th class="${isNumber ? "number" : ""} ${NARROW.has(name) ? "hide-phone" : ""}" aria-sort=${isSorted ? (isNumber ? "descending" : "ascending") : undefined}>
    <button type="button" class="sort" onClick=${() => setQuery({ sort: name === "name" ? null : name })}>${title}${isSorted && html` <span aria-hidden="true">${isNumber ? "↓" : "↑"}</span>`}</button></th>`;
}

function Row({ queue, isCurrent, reload }) {
  const open = (event) => !event.target.closest("a, button, label") && go(href("queues", queue.name));
  const tasks = (status, count) => (count ? html`<a href=${href("tasks", { q: `queue:${queue.name} status:${status}` })}>${short(count)}</a>` : "0");
  return html`<tr class="link ${isCurrent ? "current" : ""}" data-row=${queue.name} onClick=${open}>
    <td><a class="name cut" href=${href("queues", queue.name)} title=${queue.name}><strong>${queue.name}</strong></a></td>
    <td><${QueueState} queue=${queue} /></td>
    <td class="number">${tasks("pending", queue.pending)}</td>
    <td class="number">${duration(queue.oldestSeconds)}</td>
    <td class="number">${tasks("processing", queue.processing)}</td>
    <td class="number hide-phone">${tasks("retrying", queue.retrying)}</td>
    <td class="number ${queue.failed ? "bad" : ""}">${tasks("failed", queue.failed)}</td>
    <td class="number hide-phone">${tasks("completed", queue.completed)}</td>
    <td class="right"><${QueueMenu} queue=${queue} reload=${reload} /></td>
  </tr>`;
}

function QueueMenu({ queue, reload }) {
  return html`<${Menu} label="Actions for ${queue.name}" small items=${[
    mayOperate.value && (queue.pausedAt ? { text: "Resume", icon: "play", run: () => resume(queue, reload) } : { text: "Pause", icon: "pause", run: () => askToPause(queue, reload) }),
    mayAdmin.value && { text: "Set limits", icon: "edit", run: () => askForLimits(queue, reload) },
    mayOperate.value && { text: "Purge", icon: "trash", danger: true, run: () => askToPurge(queue, reload) },
  ]} />`;
}
