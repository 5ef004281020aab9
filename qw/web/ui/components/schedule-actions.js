/** Actions on a schedule. */
import { post, remove } from "../lib/api.js";
import { absolute, plural } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { utc } from "../lib/preferences.js";
import { go, href } from "../lib/router.js";
import { ask } from "./dialog.js";
import { Failure } from "./states.js";
import { toast } from "./toast.js";

const path = ({ name }, verb) => `api/schedules/${encodeURIComponent(name)}/${verb}`;

export async function switchPause(schedule, onDone) {
  try {
    toast((await post(path(schedule, schedule.paused ? "resume" : "pause"))).message);
    onDone();
  } catch (error) {
    toast(error.message, { tone: "red" });
  }
}

export function askToTrigger(schedule, onDone) {
  const target = schedule.workflow ? `a run of ${schedule.workflow}` : `a task of ${schedule.type}`;
  ask({
    title: `Trigger ${schedule.name} now?`,
    confirm: "Trigger",
    content: html`<p>It starts ${target} at once, beside its own times.</p>`,
    run: async () => {
      const { message, id } = await post(path(schedule, "trigger"));
      toast(html`${message}. <a href=${href(schedule.workflow ? "runs" : "tasks", id)}>Open it</a>`);
      onDone();
    },
  });
}

export function askToBackfill(schedule, onDone) {
  ask({
    title: `Backfill ${schedule.name}`,
    confirm: "Fire these ticks",
    content: () => html`<${Backfill} schedule=${schedule} />`,
    run: async (form) => {
      const { ticks } = await post(path(schedule, "backfill"), period(form));
      toast(`${plural(ticks.length, "tick")} fired`);
      onDone();
    },
  });
}

function period(form) {
  const time = (name) => (form.get(name) ? new Date(form.get(name)).toISOString() : null);
  return { since: time("since"), until: time("until") };
}

function Backfill({ schedule }) {
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  const look = async (event) => {
    const asked = period(new FormData(event.target.form));
    if (!asked.since) return;
    setError(null);
    await post(path(schedule, "backfill"), { ...asked, dryRun: true }).then(setFound, setError);
  };
  return html`<p class="muted">Fires the ticks in a period that have not fired, at most 1,000.</p>
    <div class="form-grid">
      <label class="field"><span class="label">Since</span><input class="input" type="datetime-local" name="since" required onChange=${look} /></label>
      <label class="field"><span class="label">Until <span class="muted">(now)</span></span><input class="input" type="datetime-local" name="until" onChange=${look} /></label>
    </div>
    ${error && html`<${Failure} error=${error} what="The preview" />`}
    ${found && html`<p><strong>${plural(found.ticks.length, "tick")}</strong> will fire${found.known > 0 && `; ${plural(found.known, "tick")} already did`}.</p>
      <ul class="small muted">${found.ticks.slice(0, 8).map((tick) => html`<li class="number-left">${absolute(tick, utc.value)}</li>`)}${found.ticks.length > 8 && html`<li>and ${found.ticks.length - 8} more</li>`}</ul>`}`;
}

export function askToRemove(schedule) {
  ask({
    title: `Delete ${schedule.name}?`,
    confirm: "Delete",
    danger: true,
    confirmWith: schedule.name,
    content: html`<p>It does not fire any more. Tasks and runs that it started continue.</p>`,
    run: async () => {
      toast((await remove(`api/schedules/${encodeURIComponent(schedule.name)}`)).message);
      go(href("schedules"));
    },
  });
}
