/** The state of a queue: paused, limited, or neither. */
import { ago } from "../lib/format.js";
import { html } from "../lib/html.js";
import { now } from "../lib/now.js";

export function QueueState({ queue }) {
  if (queue.pausedAt) {
    const by = queue.pausedBy ? ` by ${queue.pausedBy}` : "";
    return html`<span class="badge tone-amber" title="Paused ${ago(queue.pausedAt, now.value)}${by}">paused</span>`;
  }
  if (queue.limits) return html`<span class="tag" title="Limits">${limitText(queue.limits)}</span>`;
  return html`<span class="muted">–</span>`;
}

/** Return limits as text: "2 at once · 100/m · 1 per customerId". */
export function limitText({ concurrency, rate, key, perKey, perKeyRate }) {
  const name = key?.split(".").at(-1);
  return [concurrency && `${concurrency} at once`, rate, perKey && `${perKey} per ${name}`, perKeyRate && `${perKeyRate} per ${name}`]
    .filter(Boolean)
    .join(" · ");
}
