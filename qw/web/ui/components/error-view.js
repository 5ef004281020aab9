/** An error message with a collapsible traceback. */
import { html } from "../lib/html.js";
import { Copy } from "./bits.js";

export function ErrorView({ error }) {
  const lines = error.split("\n");
  const isTraceback = lines[0].startsWith("Traceback");
  const message = isTraceback ? lines.findLast((line) => line.trim()) : lines[0];
  const rest = lines.length > 1;
  return html`<div class="stack tight">
    <div class="row wide"><strong class="text-red wrap" dir="auto">${message}</strong><${Copy} text=${error} label="Copy the error" /></div>
    ${rest && html`<details><summary class="small">${isTraceback ? "Traceback" : "All of it"}</summary><pre class="block" tabindex="0">${error}</pre></details>`}
  </div>`;
}
