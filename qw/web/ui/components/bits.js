/** Small components that every screen uses. */
import { copy } from "../lib/clipboard.js";
import { absolute, ago, shortId } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { now } from "../lib/now.js";
import { utc } from "../lib/preferences.js";
import { href } from "../lib/router.js";
import { Icon } from "./icon.js";

const TONES = {
  completed: "green",
  failed: "red",
  processing: "blue",
  running: "blue",
  pending: "gray",
  waiting: "gray",
  scheduled: "violet",
  queued: "gray",
  retrying: "amber",
  cancelled: "gray",
  compensating: "violet",
  compensated: "violet",
  undone: "violet",
  skipped: "gray",
  paused: "amber",
  draining: "amber",
  up: "green",
  down: "red",
};

export const toneOf = (status) => `tone-${TONES[status] ?? "gray"}`;

export function Status({ status, text = status }) {
  return html`<span class="badge ${toneOf(status)}">${text}</span>`;
}

/** A relative time with the absolute time on hover; a click toggles between UTC and local time. */
export function Time({ at, empty = "–" }) {
  if (!at) return html`<span class="muted">${empty}</span>`;
  const toggle = (event) => {
    event.stopPropagation();
    utc.value = !utc.value;
  };
  const title = `${absolute(at, utc.value)}\n${absolute(at, !utc.value)}`;
  return html`<time class="nowrap" datetime=${at} title=${title} onClick=${toggle}>${ago(at, now.value)}</time>`;
}

/** The absolute time in the chosen zone; a click switches the zone. */
export function Moment({ at }) {
  if (!at) return html`<span class="muted">–</span>`;
  return html`<time class="nowrap number" datetime=${at} title=${absolute(at, !utc.value)} onClick=${() => (utc.value = !utc.value)}>
    ${absolute(at, utc.value)}
  </time>`;
}

export function TaskLink({ id, full = false }) {
  return html`<a class="id" href=${href("tasks", id)} title=${id}>${full ? id : shortId(id)}</a>`;
}

export function RunLink({ id, full = false }) {
  return html`<a class="id" href=${href("runs", id)} title=${id}>${full ? id : shortId(id)}</a>`;
}

/** A button that copies text and briefly confirms it. */
export function Copy({ text, label = "Copy", children }) {
  const [isDone, setDone] = useState(false);
  const click = async (event) => {
    event.stopPropagation();
    event.preventDefault();
    if (!(await copy(typeof text === "function" ? text() : text))) return;
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<button type="button" class="button bare small ${children ? "" : "icon"}" title=${label} aria-label=${label} onClick=${click}>
    <${Icon} name=${isDone ? "check" : "copy"} />${children}
    <span class="visually-hidden" role="status">${isDone ? "Copied" : ""}</span>
  </button>`;
}

/** A shell command with a copy button. */
export function Command({ text }) {
  return html`<span class="command"><code tabindex="0">${text}</code><${Copy} text=${text} label="Copy command" /></span>`;
}

export function Card({ title, aside, footer, label, children }) {
  return html`<section class="card" aria-label=${label ?? (typeof title === "string" ? title : undefined)}>
    ${title && html`<header><h2>${title}</h2>${aside && html`<div class="push">${aside}</div>`}</header>`}
    ${children}
    ${footer && html`<footer>${footer}</footer>`}
  </section>`;
}

/** A choice of one option; `options` are `[value, text]`. */
export function Segments({ label, value, options, onChange }) {
  return html`<div class="segments" role="group" aria-label=${label}>
    ${options.map(
      ([each, text]) => html`<button type="button" aria-pressed=${each === value} onClick=${() => onChange(each)}>${text}</button>`,
    )}
  </div>`;
}

/** A row of tabs; `tabs` are `[value, text, count]`. */
export function Tabs({ label, value, tabs, onChange }) {
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const values = tabs.map(([each]) => each);
    const next = values[(values.indexOf(value) + step + values.length) % values.length];
    onChange(next);
    event.currentTarget.children[values.indexOf(next)].focus();
  };
  return html`<div class="tabs" role="tablist" aria-label=${label} onKeyDown=${move}>
    ${tabs.map(
      ([each, text, count]) => html`<button
        type="button"
        role="tab"
        aria-selected=${each === value}
        tabindex=${each === value ? 0 : -1}
        onClick=${() => onChange(each)}
      >
        ${text}${count !== undefined && html`<span class="number">${count}</span>`}
      </button>`,
    )}
  </div>`;
}

export function Bar({ part, tone = "", label }) {
  const width = `${Math.min(100, Math.max(0, part * 100))}%`;
  return html`<div class="bar ${tone}" role="img" aria-label=${label ?? `${Math.round(part * 100)} %`}><i style=${{ width }}></i></div>`;
}

/** A description list of `[term, content]`; terms without content are left out. */
export function Facts({ facts }) {
  const shown = facts.filter(([, content]) => content !== null && content !== undefined && content !== "");
  return html`<dl class="facts">${shown.map(([term, content]) => html`<dt>${term}</dt><dd>${content}</dd>`)}</dl>`;
}
