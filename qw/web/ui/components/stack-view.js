/** What a running task is doing: the frames of its coroutine or thread, or the processes of its command. */
import { get } from "../lib/api.js";
import { bytes, duration } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { useResource } from "../lib/resource.js";
import { Card, Copy } from "./bits.js";
import { Empty, Failure, Skeleton } from "./states.js";

/** Loaded only on request, since it costs the worker some work. */
export function StackView({ id }) {
  const [isAsked, setAsked] = useState(false);
  if (!isAsked) {
    return html`<${Card} title="What it is doing now" aside=${html`<button type="button" class="button small" onClick=${() => setAsked(true)}>Show</button>`} />`;
  }
  return html`<${Stack} id=${id} />`;
}

function Stack({ id }) {
  const stack = useResource((options) => get(`api/task/${id}/stack`, {}, options), [id], { live: false });
  const { data, error, reload } = stack;
  const aside = html`${data && html`<span class="small muted">${data.kind}, as of ${data.ageSeconds < 1.5 ? "now" : `${duration(data.ageSeconds)} ago`}</span><${Copy} text=${data.text} label="Copy the stack" />`}
    <button type="button" class="button small" onClick=${reload}>Refresh</button>`;
  return html`<${Card} title="What it is doing now" aside=${aside}>
    ${error && !data && html`<div class="body"><${Failure} error=${error} what="The stack" onRetry=${reload} /></div>`}
    ${!data && !error && html`<${Skeleton} rows=${3} height=${14} />`}
    ${data && (data.processes?.length ? html`<${Processes} processes=${data.processes} />` : data.frames?.length ? html`<${Frames} frames=${data.frames} />` : html`<${Empty} compact title="Nothing to show">The worker found no frame of this task.</${Empty}>`)}
  </${Card}>`;
}

function Frames({ frames }) {
  return html`<div class="scroll" tabindex="0"><table>
    <thead><tr><th>Function</th><th>Where</th><th>Code</th></tr></thead>
    <tbody>${frames.map(
      (frame) => html`<tr><td><code>${frame.function}</code></td><td class="small muted wrap">${frame.file}:${frame.line}</td><td><code>${frame.code}</code></td></tr>`,
    )}</tbody>
  </table></div>`;
}

function Processes({ processes }) {
  return html`<div class="scroll" tabindex="0"><table>
    <thead><tr><th class="number">PID</th><th>Command</th><th class="number">CPU</th><th class="number">Memory</th></tr></thead>
    <tbody>${processes.map(
      (each) => html`<tr><td class="number">${each.pid}</td><td><code class="wrap">${each.command}</code></td><td class="number">${Math.round(each.cpuPercent)} %</td><td class="number">${bytes(each.memoryBytes)}</td></tr>`,
    )}</tbody>
  </table></div>`;
}
