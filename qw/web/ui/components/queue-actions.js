/** Actions on a queue: pause and resume for operators, limits and purging for admins. */
import { post, put, remove } from "../lib/api.js";
import { plural, whole } from "../lib/format.js";
import { html } from "../lib/html.js";
import { ask } from "./dialog.js";
import { toast } from "./toast.js";

const path = ({ name }, verb) => `api/queues/${encodeURIComponent(name)}/${verb}`;

export function askToPause(queue, onDone) {
  ask({
    title: `Pause ${queue.name}?`,
    confirm: "Pause",
    content: html`<p>No task of it starts until it is resumed: <strong>${plural(queue.pending, "task")}</strong> will wait. ${whole(queue.processing)} running will finish.</p>`,
    run: async () => {
      toast((await post(path(queue, "pause"))).message);
      onDone();
    },
  });
}

export async function resume(queue, onDone) {
  try {
    toast((await post(path(queue, "resume"))).message);
    onDone();
  } catch (error) {
    toast(error.message, { tone: "red" });
  }
}

export function askToPauseAll(queues, onDone) {
  const waiting = queues.reduce((sum, { pending }) => sum + pending, 0);
  ask({
    title: "Pause all queues?",
    confirm: `Pause ${plural(queues.length, "queue")}`,
    danger: true,
    content: html`<p>No task starts any more: <strong>${plural(waiting, "task")}</strong> will wait. Running tasks finish.</p>`,
    run: async () => {
      toast((await post("api/queues/pause-all")).message ?? "All queues paused");
      onDone();
    },
  });
}

export function askToResumeAll(queues, onDone) {
  const count = queues.filter(({ pausedAt }) => pausedAt).length;
  ask({
    title: "Resume all queues?",
    confirm: "Resume",
    content: html`<p><strong>${plural(count, "paused queue")}</strong> will go on, also those that were paused before.</p>`,
    run: async () => {
      toast((await post("api/queues/resume-all")).message ?? "All queues resumed");
      onDone();
    },
  });
}

const LIMITS = [
  ["concurrency", "Running at once", "4", "of all tasks of the queue"],
  ["rate", "Starts per period", "100/m", "s, m, h or d"],
  ["key", "Key", "payload.customerId", "each value of it is limited on its own"],
  ["perKey", "Running at once per value", "1", "needs a key"],
  ["perKeyRate", "Starts per period and value", "10/m", "needs a key"],
];

export function askForLimits(queue, onDone) {
  ask({
    title: `Limits of ${queue.name}`,
    confirm: "Set limits",
    content: () => html`<p class="muted">Empty fields set no limit.</p>
      ${LIMITS.map(
        ([name, label, placeholder, hint]) => html`<label class="field"><span class="label">${label}</span>
          <input class="input mono" name=${name} placeholder=${placeholder} autocomplete="off" defaultValue=${queue.limits?.[name] ?? ""} /><span class="hint">${hint}</span></label>`,
      )}`,
    run: async (form) => {
      const body = Object.fromEntries(LIMITS.map(([name]) => [name, form.get(name).trim()]).filter(([, value]) => value));
      for (const name of ["concurrency", "perKey"]) if (body[name]) body[name] = numberOf(body[name]);
      if (Object.keys(body).length) await put(path(queue, "limits"), body);
      else await remove(path(queue, "limits"));
      toast(`Limits of ${queue.name} set`);
      onDone();
    },
  });
}

const numberOf = (text) => (/^\d+$/.test(text) ? Number(text) : text);

export function askToPurge(queue, onDone) {
  ask({
    title: `Purge ${queue.name}?`,
    confirm: "Cancel waiting tasks",
    danger: true,
    confirmWith: queue.name,
    content: html`<p><strong>${plural(queue.pending + queue.retrying, "waiting task")}</strong> will be cancelled. Running and finished tasks stay.</p>`,
    run: async () => {
      toast(`Queue ${queue.name} purged: ${plural(await purged(queue), "task")} cancelled`);
      onDone();
    },
  });
}

/** Purge the queue in several calls, since each cancels a limited number of tasks; stop at the number that was shown. */
async function purged(queue) {
  let sum = 0;
  let cancelled = 0;
  do {
    ({ cancelled } = await post(path(queue, "purge"), { confirm: queue.name }));
    sum += cancelled;
  } while (cancelled && sum < queue.pending + queue.retrying);
  return sum;
}
