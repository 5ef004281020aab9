/** The form to enqueue a task, optionally prefilled from an existing task. */
import { get, post } from "../lib/api.js";
import { html, useId, useState } from "../lib/html.js";
import { useResource } from "../lib/resource.js";
import { go, href } from "../lib/router.js";
import { ask } from "./dialog.js";
import { ObjectForm, useObjectForm } from "./schema-form.js";
import { Failure, Skeleton } from "./states.js";
import { toast } from "./toast.js";

const OPTIONS = [
  ["queue", "Queue", "default"],
  ["priority", "Priority", "0 to 9, lower runs first"],
  ["delay", "Delay", "10m"],
  ["maxRetries", "Attempts at most", "3"],
  ["timeout", "Timeout", "30s"],
  ["uniqueKey", "Unique key", "at most one unfinished task may hold it"],
];
const NUMBERS = new Set(["priority", "maxRetries"]);

/** *like*: `{type, payload, queue}` of the task to prefill from. */
export function askForNewTask(like = null) {
  const draft = { current: () => ({}) };
  ask({
    title: like ? "Enqueue again with another payload" : "New task",
    confirm: "Enqueue",
    wide: true,
    content: () => html`<${Form} like=${like} draft=${draft} />`,
    run: async (data) => {
      const body = { type: data.get("type"), payload: draft.current() };
      for (const [name] of OPTIONS) if (data.get(name)) body[name] = NUMBERS.has(name) ? Number(data.get(name)) : data.get(name);
      const { taskId } = await post("api/task", body);
      toast("Task enqueued");
      go(href("tasks", taskId));
    },
  });
}

function Form({ like, draft }) {
  const types = useResource((options) => get("api/types", {}, options), [], { live: false });
  const [type, setType] = useState(like?.type ?? "");
  const listId = useId();
  if (types.error) return html`<${Failure} error=${types.error} what="The task types" onRetry=${types.reload} />`;
  if (!types.data) return html`<${Skeleton} rows=${4} height=${30} />`;
  const found = types.data.types.find(({ name }) => name === type);
  return html`
    <label class="field"><span class="label">Type</span>
      <input class="input mono" name="type" list=${listId} required autocomplete="off" value=${type} onInput=${(event) => setType(event.target.value)} />
      <datalist id=${listId}>${types.data.types.map(({ name }) => html`<option value=${name}></option>`)}</datalist></label>
    <${Payload} key=${found?.name ?? ""} schema=${found?.schema ?? null} initial=${like?.payload ?? null} draft=${draft} />
    <details><summary class="small">More options</summary>
      <div class="form-grid">${OPTIONS.map(
        ([name, label, placeholder]) => html`<label class="field"><span class="label">${label}</span><input class="input" name=${name} placeholder=${placeholder} autocomplete="off" defaultValue=${name === "queue" ? (like?.queue ?? "") : ""} /></label>`,
      )}</div></details>
  `;
}

function Payload({ schema, initial, draft }) {
  const form = useObjectForm(schema, initial);
  draft.current = form.value;
  return html`<${ObjectForm} form=${form} label="Payload" />`;
}
