/** The history of a task from its creation to its end, as a vertical timeline. */
import { duration, seconds } from "../lib/format.js";
import { html } from "../lib/html.js";
import { now } from "../lib/now.js";
import { Time, toneOf } from "./bits.js";
import { ErrorView } from "./error-view.js";

const OUTCOMES = {
  completed: ["completed", "completed"],
  failed: ["failed", "failed"],
  error: ["failed", "failed"],
  timed_out: ["failed", "timed out"],
  worker_died: ["failed", "worker died"],
  lease_lost: ["retrying", "late result, rejected"],
  superseded: ["cancelled", "retried later"],
  repeated: ["completed", "completed a round"],
  misfit: ["cancelled", "left to another version"],
  cancelled: ["cancelled", "cancelled"],
  processing: ["processing", "running"],
};

export function TaskTimeline({ task, attempts }) {
  const ordered = [...attempts].sort((a, b) => a.startedAt?.localeCompare(b.startedAt ?? "") || a.attempt - b.attempt);
  const due = task.scheduledAt && task.scheduledAt > task.createdAt ? task.scheduledAt : task.createdAt;
  const isWaiting = (task.status === "pending" || task.status === "retrying") && !(Date.parse(task.scheduledAt) > now.value);
  const first = ordered[0]?.startedAt;
  const last = ordered.at(-1);
  return html`<ol class="timeline">
    <${Step} tone="pending" title="Created" at=${task.createdAt} />
    ${due !== task.createdAt && html`<${Step} tone="scheduled" title="Due" at=${due} />`}
    ${first && html`<${Gap} text=${`waited ${duration(seconds(due, first))}`} />`}
    ${ordered.map((attempt, at) => html`
      ${at > 0 && ordered[at - 1].endedAt && html`<${Gap} text=${`waited ${duration(seconds(ordered[at - 1].endedAt, attempt.startedAt))}`} />`}
      <${Attempt} attempt=${attempt} />`)}
    ${isWaiting && html`<${Gap} text=${`waiting ${duration(seconds(last?.endedAt ?? due, null, now.value))}`} />`}
    ${task.finishedAt && html`<${Step} tone=${task.status} title=${END[task.status]} at=${task.finishedAt} />`}
  </ol>`;
}

const END = { completed: "Completed", failed: "Failed for good", cancelled: "Cancelled" };

function Step({ tone, title, at, children }) {
  return html`<li class="${toneOf(tone)}"><i class="dot"></i><div class="row wide"><strong>${title}</strong><span class="small muted"><${Time} at=${at} /></span></div>${children}</li>`;
}

function Gap({ text }) {
  return html`<li class="gap small muted">${text}</li>`;
}

function Attempt({ attempt }) {
  const [tone, text] = OUTCOMES[attempt.outcome] ?? ["pending", attempt.outcome];
  const took = duration(seconds(attempt.startedAt, attempt.endedAt, now.value));
  const where = [attempt.worker && `worker ${attempt.worker}`, attempt.host].filter(Boolean).join(" on ");
  return html`<li class="${toneOf(tone)}">
    <i class="dot"></i>
    <div class="row wide"><span><strong>Attempt ${attempt.attempt}</strong> <span class="badge plain ${toneOf(tone)}">${text}</span></span>
      <span class="small muted"><${Time} at=${attempt.startedAt} /></span></div>
    <div class="small muted">${attempt.endedAt ? `took ${took}` : `for ${took}`}${where && ` · ${where}`}</div>
    ${attempt.error && html`<${ErrorView} error=${attempt.error} />`}
  </li>`;
}
