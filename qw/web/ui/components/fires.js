/** The past ticks of a schedule. */
import { html } from "../lib/html.js";
import { href } from "../lib/router.js";
import { Moment, RunLink, Status, TaskLink } from "./bits.js";
import { Marks } from "./marks.js";

const REASONS = {
  overlap: "the one before still ran",
  misfire: "missed: no daemon was running then",
  paused: "the schedule was paused",
};

export const reasonText = ({ reason, detail }) => (reason ? [REASONS[reason] ?? reason.replaceAll("_", " "), detail].filter(Boolean).join(": ") : "");

/** The last fires as marks, newest at the right; skipped ticks are hollow. */
export function FireMarks({ fires, label }) {
  const marks = fires.slice(0, 14).reverse().map((fire) => ({
    at: fire.tick,
    status: fire.reason ? "retrying" : "completed",
    isHollow: Boolean(fire.reason),
    about: fire.reason ? `skipped: ${reasonText(fire)}` : "fired",
    link: fire.runId ? href("runs", fire.runId) : fire.taskId ? href("tasks", fire.taskId) : undefined,
  }));
  return html`<${Marks} marks=${marks} label=${label} />`;
}

export function FireTable({ fires }) {
  return html`<table>
    <thead><tr><th>Tick</th><th>Outcome</th><th class="hide-phone">Cause</th><th>Started</th></tr></thead>
    <tbody>${fires.map(
      (fire) => html`<tr key=${fire.tick + fire.cause}>
        <td><${Moment} at=${fire.tick} /></td>
        <td>${fire.reason ? html`<${Status} status="skipped" /> <span class="muted small">${reasonText(fire)}</span>` : html`<${Status} status="completed" text="fired" />`}</td>
        <td class="muted hide-phone">${fire.cause}</td>
        <td>${fire.runId ? html`<${RunLink} id=${fire.runId} />` : fire.taskId ? html`<${TaskLink} id=${fire.taskId} />` : fire.blocker ? html`<span class="muted">blocked by <${TaskLink} id=${fire.blocker} /></span>` : "–"}</td>
      </tr>`,
    )}</tbody>
  </table>`;
}
