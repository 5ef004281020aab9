/** The steps of a run over time: one bar per attempt, lighter while it waited. */
import { duration, seconds } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { now } from "../lib/now.js";
import { toneOf } from "./bits.js";

const MOST = 200; // steps drawn initially

export function Gantt({ run, steps, selected, onSelect }) {
  const [most, setMost] = useState(MOST);
  const started = steps.filter(({ startedAt }) => startedAt).sort((a, b) => a.startedAt.localeCompare(b.startedAt));
  const idle = steps.filter(({ startedAt }) => !startedAt);
  const from = Date.parse(run.startedAt ?? run.createdAt);
  const to = Math.max(from + 1, run.finishedAt ? Date.parse(run.finishedAt) : now.value, ...started.map(({ finishedAt }) => (finishedAt ? Date.parse(finishedAt) : 0)));
  const place = (time) => ((Math.min(to, Math.max(from, Date.parse(time))) - from) / (to - from)) * 100;
  return html`<div class="gantt" role="list" aria-label="Steps over time">
    <div class="gantt-row axis" aria-hidden="true"><span></span><span class="gantt-track">
      ${[0, 0.25, 0.5, 0.75, 1].map((part) => html`<span class="tick" style=${{ left: `${part * 100}%` }}>${duration(((to - from) * part) / 1000)}</span>`)}
    </span><span></span></div>
    ${started.slice(0, most).map((step) => html`<${Row} key=${step.id} step=${step} place=${place} isSelected=${step.id === selected} onSelect=${onSelect} />`)}
    ${started.length > most && html`<button type="button" class="new-rows" onClick=${() => setMost(most + 1000)}>${started.length - most} more steps</button>`}
    ${idle.length > 0 && html`<p class="muted small gantt-idle">Not started: ${idle.slice(0, 20).map(({ id }) => id).join(", ")}${idle.length > 20 && ` and ${idle.length - 20} more`}</p>`}
  </div>`;
}

function Row({ step, place, isSelected, onSelect }) {
  const attempts = step.attempts?.length ? step.attempts : [{ startedAt: step.startedAt, endedAt: step.finishedAt, outcome: step.status }];
  const first = place(attempts[0].startedAt ?? step.startedAt);
  const begin = place(step.startedAt);
  const isSkipped = step.status === "skipped";
  return html`<div role="listitem"><button type="button" class="gantt-row ${isSelected ? "selected" : ""}" aria-pressed=${isSelected} onClick=${() => onSelect(step.id)}>
    <span class="cut" title=${step.id}>${step.compensates ? `↩ ${step.compensates}` : step.id}</span>
    <span class="gantt-track">
      ${first > begin && html`<i class="gantt-bar waiting" style=${{ left: `${begin}%`, width: `${first - begin}%` }}></i>`}
      ${!isSkipped && attempts.filter(({ startedAt }) => startedAt).map((attempt, at) => {
        const left = place(attempt.startedAt);
        const end = attempt.endedAt ?? (at === attempts.length - 1 ? step.finishedAt : null) ?? new Date(now.value).toISOString();
        const isLast = at === attempts.length - 1;
        const tone = toneOf(isLast ? step.status : "failed");
        return html`<i class="gantt-bar ${tone}" title="attempt ${attempt.attempt ?? 1}: ${duration(seconds(attempt.startedAt, end))}" style=${{ left: `${left}%`, width: `max(3px, ${place(end) - left}%)` }}></i>`;
      })}
    </span>
    <span class="number small muted">${isSkipped ? "skipped" : duration(seconds(step.startedAt, step.finishedAt, now.value))}</span>
  </button></div>`;
}
