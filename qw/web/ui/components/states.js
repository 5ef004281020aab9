/** The states of a screen other than its content: loading, empty, failed, out of date, truncated. */
import { ago } from "../lib/format.js";
import { html } from "../lib/html.js";
import { now } from "../lib/now.js";
import { Command } from "./bits.js";
import { Icon } from "./icon.js";

/** Grey bars of the size of the expected content. */
export function Skeleton({ rows = 6, height = 20 }) {
  return html`<div class="body stack" role="status" aria-label="Loading">
    ${Array.from({ length: rows }, (_, at) => html`<span class="skeleton" style=${{ height: `${height}px`, width: `${100 - ((at * 17) % 40)}%` }}></span>`)}
  </div>`;
}

/** An empty list: what it would show, and the command that creates an entry. */
export function Empty({ title, children, command, compact }) {
  return html`<div class="empty ${compact ? "compact" : ""}">
    <strong>${title}</strong>
    ${children && html`<div>${children}</div>`}
    ${command && html`<${Command} text=${command} />`}
  </div>`;
}

export function Banner({ tone = "amber", icon = "warning", children, action }) {
  return html`<div class="banner tone-${tone}" role=${tone === "red" ? "alert" : "status"}>
    <${Icon} name=${icon} />
    <div class="wrap">${children}</div>
    ${action && html`<div class="push">${action}</div>`}
  </div>`;
}

export function Failure({ error, onRetry, what = "This" }) {
  const title = error.status === 0 ? "The server does not answer" : `${what} could not be loaded`;
  const action = onRetry && html`<button type="button" class="button small" onClick=${onRetry}>Retry</button>`;
  return html`<${Banner} tone="red" action=${action}>
    <p><strong>${title}</strong></p>
    ${error.status !== 0 && (error.messages ?? [error.message]).map((message) => html`<p>${message}</p>`)}
  </${Banner}>`;
}

/**
 * The content of a resource, and above it an error or a note that it is out of date.
 * `skeleton` is shown until data is loaded; `content(data)` renders the data.
 */
export function Loaded({ resource, what, skeleton, children }) {
  const { data, error, isStale, at, reload } = resource;
  if (data === undefined) {
    return error ? html`<${Failure} error=${error} onRetry=${reload} what=${what} />` : (skeleton ?? html`<section class="card"><${Skeleton} /></section>`);
  }
  return html`${error && html`<${Stale} error=${error} at=${at} onRetry=${reload} />`}
    <div class="stack ${isStale ? "updating" : ""}">${children(data)}</div>`;
}

function Stale({ error, at, onRetry }) {
  const action = html`<button type="button" class="button small" onClick=${onRetry}>Retry</button>`;
  return html`<${Banner} action=${action}>
    Not up to date: as of ${ago(new Date(at).toISOString(), now.value)}. ${error.message}
  </${Banner}>`;
}
