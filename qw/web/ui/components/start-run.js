/** Starts a run of a workflow, with a form generated from its declared inputs. */
import { post } from "../lib/api.js";
import { isObject } from "../lib/exact-json.js";
import { html } from "../lib/html.js";
import { go, href } from "../lib/router.js";
import { ask } from "./dialog.js";
import { ObjectForm, useObjectForm } from "./schema-form.js";
import { toast } from "./toast.js";

export function askToStart(workflow) {
  const draft = { current: () => ({}) };
  ask({
    title: `Start ${workflow.name}`,
    confirm: "Start the run",
    wide: true,
    content: () => html`<${Form} workflow=${workflow} draft=${draft} />`,
    run: async () => {
      const { runId } = await post(`api/workflows/${workflow.id}/start`, { input: draft.current() });
      toast("Run started");
      go(href("runs", runId));
    },
  });
}

function Form({ workflow, draft }) {
  const schema = inputSchema(workflow.definition.input);
  const form = useObjectForm(schema, null);
  draft.current = form.value;
  return html`${workflow.definition.description && html`<p class="muted">${workflow.definition.description}</p>`}
    ${schema === null && html`<p class="muted">It declares no inputs.</p>`}
    <${ObjectForm} form=${form} label="Input" />`;
}

const TYPES = { date: { type: "string", format: "date" }, datetime: { type: "string", format: "date-time" }, duration: { type: "string", format: "duration" } };

/** Return the JSON Schema of declared inputs such as `{customerId: "string", amount: {type: "number", default: 1}}`; null without inputs. */
function inputSchema(input) {
  if (!isObject(input) || Object.keys(input).length === 0) return null;
  const properties = {};
  const required = [];
  for (const [name, declared] of Object.entries(input)) {
    const about = typeof declared === "string" ? { type: declared } : declared;
    properties[name] = { ...about, ...(TYPES[about.type] ?? {}) };
    if (!("default" in about)) required.push(name);
  }
  return { type: "object", properties, required };
}
