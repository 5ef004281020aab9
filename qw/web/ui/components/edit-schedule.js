/** A form to add or change a schedule. */
import { post } from "../lib/api.js";
import { format, parse } from "../lib/exact-json.js";
import { html, useState } from "../lib/html.js";
import { Segments } from "./bits.js";
import { ask } from "./dialog.js";
import { toast } from "./toast.js";

const TIMES = [
  ["cron", "Cron"],
  ["every", "Every"],
  ["at", "Once"],
];
const HINTS = { cron: "30 2 * * *", every: "5m", at: "2027-01-31T09:00:00Z" };

export function askForSchedule(schedule, onDone) {
  ask({
    title: schedule ? `Edit ${schedule.name}` : "New schedule",
    confirm: "Save",
    wide: true,
    content: () => html`<${Form} schedule=${schedule} />`,
    run: async (form) => {
      const saved = await post("api/schedules", bodyOf(form, schedule));
      toast(`Schedule ${saved.name} saved: ${saved.when}`);
      onDone();
    },
  });
}

function bodyOf(form, schedule) {
  const text = (name) => form.get(name)?.trim() || undefined;
  const content = text("content") ? parse(text("content")) : {};
  const isRun = form.get("target") === "workflow";
  return {
    ...(schedule && kept(schedule)),
    name: schedule?.name ?? text("name"),
    [form.get("kind")]: text("time"),
    timezone: text("timezone"),
    [isRun ? "workflow" : "type"]: text("what"),
    [isRun ? "input" : "payload"]: content,
    overlap: text("overlap"),
    misfire: text("misfire"),
    description: text("description"),
    paused: schedule?.paused || undefined,
    replace: Boolean(schedule),
  };
}

/** Fields that the form does not show stay unchanged. */
function kept({ seconds, windowSeconds, cap, jitterSeconds, start, end, queue, priority, maxRetries, timeoutSeconds }) {
  const period = (value) => (value ? `${value}s` : undefined);
  return {
    seconds: seconds || undefined,
    window: period(windowSeconds),
    cap,
    jitter: period(jitterSeconds),
    start: start ?? undefined,
    end: end ?? undefined,
    queue,
    priority,
    maxRetries,
    timeout: period(timeoutSeconds),
  };
}

function Form({ schedule }) {
  const [kind, setKind] = useState(schedule?.everySeconds ? "every" : schedule?.at ? "at" : "cron");
  const [target, setTarget] = useState(schedule?.type ? "type" : "workflow");
  const time = { cron: schedule?.cron, every: schedule?.everySeconds && `${schedule.everySeconds}s`, at: schedule?.at }[kind] ?? "";
  return html`
    ${!schedule && html`<label class="field"><span class="label">Name</span><input class="input" name="name" required autocomplete="off" /></label>`}
    <div class="row"><${Segments} label="Kind of time" value=${kind} options=${TIMES} onChange=${setKind} /></div>
    <input type="hidden" name="kind" value=${kind} /><input type="hidden" name="target" value=${target} />
    <div class="form-grid">
      <label class="field"><span class="label">${TIMES.find(([each]) => each === kind)[1]}</span><input key=${kind} class="input mono" name="time" required placeholder=${HINTS[kind]} defaultValue=${time} autocomplete="off" /></label>
      <label class="field"><span class="label">Time zone</span><input class="input" name="timezone" placeholder="UTC" defaultValue=${schedule?.timezone ?? ""} autocomplete="off" /></label>
    </div>
    <div class="row"><${Segments} label="What it starts" value=${target} options=${[["workflow", "Workflow"], ["type", "Task"]]} onChange=${setTarget} /></div>
    <label class="field"><span class="label">${target === "workflow" ? "Workflow" : "Task type"}</span>
      <input key=${target} class="input mono" name="what" required defaultValue=${(target === "workflow" ? schedule?.workflow : schedule?.type) ?? ""} autocomplete="off" /></label>
    <label class="field"><span class="label">${target === "workflow" ? "Input" : "Payload"} (JSON)</span>
      <textarea class="input" name="content" rows="4" spellcheck=${false} defaultValue=${format(schedule?.input ?? schedule?.payload ?? {})}></textarea></label>
    <div class="form-grid">
      <label class="field"><span class="label">If the last one still runs</span>
        <${Choice} name="overlap" value=${schedule?.overlap} options=${["allow", "skip", "cancel"]} /></label>
      <label class="field"><span class="label">If ticks were missed</span>
        <${Choice} name="misfire" value=${schedule?.misfire} options=${["once", "all", "skip"]} /></label>
    </div>
    <label class="field"><span class="label">Description</span><input class="input" name="description" defaultValue=${schedule?.description ?? ""} /></label>`;
}

function Choice({ name, value, options }) {
  const all = value && !options.includes(value) ? [value, ...options] : options;
  return html`<select class="input" name=${name}>${!value && html`<option value="">default</option>`}${all.map((each) => html`<option value=${each} selected=${each === value}>${each}</option>`)}</select>`;
}
