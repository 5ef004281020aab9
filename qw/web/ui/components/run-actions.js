/** Actions on a run. */
import { get, post } from "../lib/api.js";
import { format, parse } from "../lib/exact-json.js";
import { plural } from "../lib/format.js";
import { html, useEffect, useId, useState } from "../lib/html.js";
import { ask } from "./dialog.js";
import { Failure } from "./states.js";
import { toast } from "./toast.js";

export const isOver = (run) => ["completed", "failed", "cancelled"].includes(run.status);

const path = (run, verb) => `api/runs/${run.id}/${verb}`;

async function act(run, verb, body, onDone) {
  const { message } = await post(path(run, verb), body);
  toast(message);
  onDone();
}

export function askToCancel(run, onDone) {
  ask({
    title: "Cancel this run?",
    confirm: "Cancel the run",
    danger: true,
    content: html`<p>No step of <strong>${run.workflow}</strong> starts any more, and running steps are asked to stop. What was done is not undone.</p>`,
    run: () => act(run, "cancel", {}, onDone),
  });
}

/** Retry from the failed steps, or from *step*; the dialog shows which steps run again and which are kept. */
export function askToRetry(run, step, onDone) {
  ask({
    title: step ? `Retry from step ${step}?` : "Retry this run?",
    confirm: "Retry",
    wide: true,
    content: () => html`<${RetryPreview} run=${run} step=${step} />
      <label class="field inline"><input type="checkbox" name="latest" /><span>Use the newest definition of the workflow</span></label>`,
    run: (form) => act(run, "retry", { step: step ?? null, latest: form.get("latest") === "on" }, onDone),
  });
}

/** Retry with a definition that is edited for this run only. */
export async function askToEditAndRetry(run, step, onDone) {
  const { workflow } = await get(`api/workflows/${run.workflowId}`);
  ask({
    title: "Edit the definition and retry",
    confirm: "Retry with this definition",
    wide: true,
    content: html`<p class="muted">Only this run uses it; the workflow stays as it is. Steps that run programs cannot be changed here.</p>
      <${RetryPreview} run=${run} step=${step} />
      <label class="field"><span class="label">Definition</span><textarea class="input" name="definition" rows="18" spellcheck=${false} defaultValue=${format(workflow.definition)}></textarea></label>`,
    run: (form) => act(run, "retry", { step: step ?? null, definition: parse(form.get("definition")) }, onDone),
  });
}

function RetryPreview({ run, step }) {
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    get(path(run, "retry-preview"), { step }).then(setFound, setError);
  }, []);
  if (error) return html`<${Failure} error=${error} what="The preview" />`;
  if (!found) return html`<p class="muted">Looking at what would run again…</p>`;
  return html`<${Steps} title=${`${plural(found.again.length, "step")} will run again`} steps=${found.again} />
    <${Steps} title=${`${plural(found.kept.length, "step")} kept with their results`} steps=${found.kept} />`;
}

function Steps({ title, steps }) {
  return html`<div><strong class="small">${title}</strong>
    <div class="chips">${steps.slice(0, 40).map((step) => html`<span class="tag">${step}</span>`)}${steps.length > 40 && html`<span class="muted">and ${steps.length - 40} more</span>`}</div></div>`;
}

export function askForSignal(run, onDone) {
  ask({
    title: "Send a signal",
    confirm: "Send",
    content: html`<p class="muted">A step that waits for it now or later takes it.</p>
      <label class="field"><span class="label">Name</span><input class="input mono" name="name" required autofocus autocomplete="off" /></label>
      <label class="field"><span class="label">Payload <span class="muted">JSON, optional</span></span><textarea class="input" name="payload" rows="5" spellcheck=${false}></textarea></label>`,
    run: (form) => act(run, "signal", { name: form.get("name"), payload: form.get("payload").trim() ? parse(form.get("payload")) : null }, onDone),
  });
}

/** *verb* is "approve" or "reject". */
export function askToDecide(run, verb, step, onDone) {
  const approves = verb === "approve";
  ask({
    title: approves ? `Approve ${step}?` : `Reject ${step}?`,
    confirm: approves ? "Approve" : "Reject",
    danger: !approves,
    content: () => html`<p>${approves ? "The run continues after this step." : "The step fails, and the run with it unless it continues on errors."}</p><${Comment} />`,
    run: (form) => act(run, verb, { step, comment: form.get("comment") }, onDone),
  });
}

export function askToMarkCompensated(run, step, onDone) {
  ask({
    title: `Was ${step} undone by hand?`,
    confirm: "Mark as done",
    content: () => html`<p>The failed compensation counts as completed, and the others go on.</p><${Comment} />`,
    run: (form) => act(run, "compensation-done", { step, comment: form.get("comment") }, onDone),
  });
}

function Comment() {
  const id = useId();
  return html`<div class="field"><label for=${id}>Note</label><textarea class="input prose" id=${id} name="comment" rows="3"></textarea></div>`;
}
