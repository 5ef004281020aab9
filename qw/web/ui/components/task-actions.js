/** Actions on tasks: each confirms beforehand what happens to how many tasks, and reports the outcome. */
import { get, post } from "../lib/api.js";
import { counted, plural, whole } from "../lib/format.js";
import { html, useEffect, useState } from "../lib/html.js";
import { href, setQuery } from "../lib/router.js";
import { Banner, Failure } from "./states.js";
import { ask } from "./dialog.js";
import { toast } from "./toast.js";

/** By verb: title, confirmation text (`says`), and the statuses it applies to. */
export const ACTIONS = {
  retry: {
    title: "Retry",
    icon: "retry",
    applies: ["failed", "cancelled", "retrying"],
    says: "run again at once, with all their attempts. Tasks that are neither failed, cancelled nor waiting for a retry are skipped.",
  },
  cancel: {
    title: "Cancel",
    icon: "cancel",
    danger: true,
    applies: ["pending", "retrying", "processing"],
    says: "will not run. Tasks that have ended are skipped.",
  },
  requeue: {
    title: "Requeue",
    icon: "plus",
    applies: ["completed", "failed", "cancelled"],
    says: "are enqueued once more, each as a new task with the same payload. Tasks that have not ended are skipped.",
  },
  compensate: {
    title: "Compensate",
    icon: "undo",
    applies: ["completed"],
    says: "are undone: each gets a compensation task of its own.",
  },
};

/**
 * Ask for confirmation, then apply *action* to the tasks in *ids*, or to all that match *q*.
 * @param {{action: string, ids?: string[], q?: string, onDone?: () => void}} act
 */
export function askForBulk({ action, ids = null, q = null, onDone }) {
  const { title, says, danger } = ACTIONS[action];
  const what = ids ? { ids } : { q };
  ask({
    title: ids ? `${title} ${plural(ids.length, "task")}?` : `${title} everything that matches?`,
    confirm: ids ? `${title} ${plural(ids.length, "task")}` : `${title} all`,
    danger,
    content: () => html`<${Preview} action=${action} what=${what} says=${says} />`,
    run: async (form) => {
      const bulk = await post("api/bulk", { action, ...what, running: form.get("running") === "on", reason: form.get("reason") ?? "" });
      setQuery({ bulk: bulk.id });
      onDone?.();
    },
  });
}

function Preview({ action, what, says }) {
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    post("api/bulk", { action, ...what, dryRun: true }).then(setFound, setError);
  }, []);
  const number = found ? counted(found.matched, found.isEstimate) : "…";
  return html`
    <p><strong>${number} ${found?.matched === 1 ? "task" : "tasks"}</strong> ${says}</p>
    ${what.q !== undefined && html`<p class="muted">Filter: <code>${what.q || "all tasks"}</code></p>`}
    ${action === "cancel" && html`<label class="field inline"><input type="checkbox" name="running" /><span>Also stop those that are running</span></label>`}
    <label class="field"><span class="label">Reason <span class="muted">(optional, for the audit)</span></span><input class="input" name="reason" maxlength="200" /></label>
    <p class="small muted">It runs in the background; you can stop it.</p>
    ${error && html`<${Failure} error=${error} what="The number of tasks" />`}
  `;
}

const WORDS = { retry: ["Retrying", "retried"], cancel: ["Cancelling", "cancelled"], requeue: ["Requeueing", "requeued"], compensate: ["Compensating", "compensated"] };

/** The progress of a bulk operation, until it is dismissed. */
export function BulkProgress({ id, onChange }) {
  const [bulk, setBulk] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    let timer;
    let isGone = false;
    const look = async () => {
      try {
        const found = await get(`api/bulk/${id}`);
        if (isGone) return;
        setBulk(found);
        if (found.state === "running") timer = setTimeout(look, 500);
        else onChange?.();
      } catch (failure) {
        if (!isGone) setError(failure);
      }
    };
    look();
    return () => {
      isGone = true;
      clearTimeout(timer);
    };
  }, [id]);
  if (error) return html`<${Failure} error=${error} what="The progress" />`;
  if (!bulk) return null;
  const [doing, done] = WORDS[bulk.action];
  const skipped = Object.entries(bulk.skipped ?? {});
  const dismiss = html`<button type="button" class="button small" onClick=${() => setQuery({ bulk: null })}>Dismiss</button>`;
  if (bulk.state === "running") {
    const stop = html`<button type="button" class="button small" onClick=${() => post(`api/bulk/${id}/stop`)}>Stop</button>`;
    return html`<${Banner} tone="blue" icon="info" action=${stop}>
      <p><strong>${doing} ${counted(bulk.matched, bulk.isEstimate)} tasks</strong> · ${whole(bulk.done)} done</p>
      <progress class="progress" max=${Math.max(1, bulk.matched)} value=${bulk.done} aria-label="Progress"></progress>
    </${Banner}>`;
  }
  const isBad = bulk.state === "failed" || bulk.state === "interrupted";
  return html`<${Banner} tone=${isBad ? "red" : skipped.length ? "amber" : "green"} icon=${isBad ? "warning" : "check"} action=${dismiss}>
    <p><strong>${plural(bulk.done, "task")} ${done}</strong>${bulk.state === "stopped" && ", then stopped"}${isBad && `, then ${bulk.state}: ${bulk.error ?? ""}`}</p>
    ${skipped.map(([reason, count]) => html`<p>${plural(count, "task")} skipped: ${reason}</p>`)}
  </${Banner}>`;
}

/** Retry, cancel or compensate one task without confirmation. */
export function askForTask(action, task, { onDone }) {
  const { title, danger } = ACTIONS[action];
  ask({ title: `${title} this task?`, confirm: `${title} the task`, danger, content: html`<p>${consequence(action, task)}</p>`, run: () => actOn(action, task, onDone) });
}

function consequence(action, task) {
  const name = html`<strong>${task.type}</strong> <code>${task.id}</code>`;
  if (action === "retry") return html`${name} runs again at once, with a fresh budget of ${plural(task.maxRetries, "attempt")}.`;
  if (action === "compensate") return html`A compensation task that undoes ${name} is enqueued.`;
  if (task.status === "processing") return html`${name} is running; its handler is asked to stop. What it has done so far is not undone.`;
  return html`${name} will not run.`;
}

async function actOn(action, task, onDone) {
  const query = action === "cancel" && task.status === "processing" ? "?running=true" : "";
  const answer = await post(`api/task/${task.id}/${action}${query}`);
  const link = answer.taskId && html`<a href=${href("tasks", answer.taskId)}>Open it</a>`;
  toast(html`${answer.message}. ${link}`);
  onDone?.();
}
