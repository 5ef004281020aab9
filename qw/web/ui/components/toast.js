/** Messages about the outcome of an action, shown for a few seconds; failures until they are closed. */
import { html, signal } from "../lib/html.js";
import { Icon } from "./icon.js";

const SECONDS = 6;
const shown = signal([]);
let last = 0;

/** *content* is text or elements. */
export function toast(content, { tone = "green" } = {}) {
  const id = ++last;
  shown.value = [...shown.value.slice(-3), { id, content, tone }];
  if (tone !== "red") setTimeout(() => dismiss(id), SECONDS * 1000);
}

function dismiss(id) {
  shown.value = shown.value.filter((each) => each.id !== id);
}

export function Toasts() {
  return html`<div class="toasts" role="status" aria-live="polite">
    ${shown.value.map(
      ({ id, content, tone }) => html`<div class="toast tone-${tone}" key=${id}>
        <div>${content}</div>
        <button type="button" class="button bare icon small push" aria-label="Close" onClick=${() => dismiss(id)}><${Icon} name="close" /></button>
      </div>`,
    )}
  </div>`;
}
