/** Why a task or a run does not progress: reasons, most important first, with remedies. */
import { get } from "../lib/api.js";
import { html } from "../lib/html.js";
import { useResource } from "../lib/resource.js";
import { Command } from "./bits.js";
import { Icon } from "./icon.js";

const TONES = { completed: "green", failed: "red", cancelled: "gray", processing: "blue", running: "blue" };
const COMMAND = /\bqw [a-z][^;]*/;

export function Why({ path, status }) {
  const why = useResource((options) => get(path, {}, options), [path]);
  const reasons = why.data?.reasons ?? [];
  if (reasons.length === 0) return null;
  return html`<div class="banner tone-${TONES[status] ?? "amber"}" role="status">
    <${Icon} name=${status === "completed" ? "check" : status === "failed" ? "warning" : "info"} />
    <div class="stack tight">${reasons.map((reason) => html`<${Reason} key=${reason.code} reason=${reason} />`)}</div>
  </div>`;
}

function Reason({ reason }) {
  return html`<div class="wrap">
    <p dir="auto">${capital(reason.text)}</p>
    ${reason.advice && html`<${Advice} text=${reason.advice} />`}
  </div>`;
}

/** Text in which each command has a copy button. */
export function Advice({ text }) {
  return html`<div class="row flow muted small advice">${text.split("; ").map((part) => {
    const command = COMMAND.exec(part)?.[0];
    return html`<span class="row flow">${command ? html`<span>${part.slice(0, part.indexOf(command))}</span><${Command} text=${command} />` : part}</span>`;
  })}</div>`;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
