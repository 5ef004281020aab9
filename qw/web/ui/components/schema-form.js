/** A form for a JSON object, generated from its JSON Schema; undescribed parts are entered as JSON. */
import { format, isObject, parse } from "../lib/exact-json.js";
import { html, useId, useState } from "../lib/html.js";
import { Segments } from "./bits.js";

/** Whether a form can be generated from *schema*. */
export function hasFields(schema) {
  return isObject(schema?.properties) && Object.keys(schema.properties).length > 0;
}

/** The state of a form: the typed text, and `value()`, which throws an error that names an invalid field. */
export function useObjectForm(schema, initial = null) {
  const [mode, setMode] = useState(hasFields(schema) ? "form" : "json");
  const [fields, setFields] = useState(() => textsOf(schema, initial));
  const [json, setJson] = useState(() => format(initial ?? defaultsOf(schema)));
  const value = () => (mode === "form" ? objectOf(schema, fields) : parsedObject(json));
  const change = (next) => {
    if (next === mode) return;
    try {
      if (next === "json") setJson(format(objectOf(schema, fields)));
      else setFields(textsOf(schema, parsedObject(json)));
    } catch {
      // keep the text of incomplete input
    }
    setMode(next);
  };
  return { schema, mode, change, fields, setField: (name, text) => setFields({ ...fields, [name]: text }), json, setJson, value };
}

export function ObjectForm({ form, label }) {
  const { schema, mode, change, json, setJson } = form;
  const id = useId();
  return html`<div class="stack tight">
    <div class="row wide"><strong class="small" id=${id}>${label}</strong>
      ${hasFields(schema) && html`<${Segments} label="How to enter it" value=${mode} options=${[["form", "Form"], ["json", "JSON"]]} onChange=${change} />`}</div>
    ${mode === "form"
      ? requiredFirst(schema).map(([name, each]) => html`<${Field} key=${name} name=${name} schema=${each} isRequired=${schema.required?.includes(name)} form=${form} />`)
      : html`<textarea class="input" aria-labelledby=${id} rows="8" spellcheck=${false} value=${json} onInput=${(event) => setJson(event.target.value)}></textarea>`}
  </div>`;
}

function requiredFirst({ properties, required = [] }) {
  return Object.entries(properties).sort(([a], [b]) => required.includes(b) - required.includes(a));
}

function Field({ name, schema, isRequired, form }) {
  const text = form.fields[name] ?? "";
  const set = (event) => form.setField(name, event.target.value);
  const type = typeOf(schema);
  const id = useId();
  if (type === "boolean") {
    return html`<label class="field inline"><input type="checkbox" checked=${text === "true"} onChange=${(event) => form.setField(name, String(event.target.checked))} />
      <span><strong class="small">${name}</strong> <span class="hint">${schema.description}</span></span></label>`;
  }
  const hint = [schema.description, type !== "string" && type].filter(Boolean).join(" · ");
  const control = schema.enum
    ? html`<select class="input" id=${id} value=${text} onChange=${set}>${!isRequired && html`<option value=""></option>`}${schema.enum.map((each) => html`<option value=${String(each)}>${String(each)}</option>`)}</select>`
    : type === "array" || type === "object" || type === "any"
      ? html`<textarea class="input" id=${id} rows="3" spellcheck=${false} value=${text} onInput=${set}></textarea>`
      : html`<input class="input" id=${id} value=${text} inputmode=${type === "integer" || type === "number" ? "decimal" : undefined}
          placeholder=${schema.format ?? ""} autocomplete="off" required=${isRequired} onInput=${set} />`;
  return html`<div class="field"><label for=${id}>${name}${isRequired && html` <span class="muted">required</span>`}</label>${control}${hint && html`<span class="hint">${hint}</span>`}</div>`;
}

function typeOf(schema) {
  const types = [schema.type ?? schema.anyOf?.map(({ type }) => type) ?? "any"].flat();
  return types.find((type) => type !== "null") ?? "any";
}

function defaultsOf(schema) {
  const found = {};
  for (const [name, each] of Object.entries(schema?.properties ?? {})) if (each.default !== undefined) found[name] = each.default;
  return found;
}

function textsOf(schema, value) {
  const given = value ?? defaultsOf(schema);
  const names = Object.keys(schema?.properties ?? {});
  return Object.fromEntries(names.filter((name) => given[name] !== undefined).map((name) => [name, textOf(given[name])]));
}

const textOf = (value) => (typeof value === "string" ? value : value === null ? "" : format(value, 0));

function objectOf(schema, fields) {
  const found = {};
  for (const [name, each] of Object.entries(schema.properties)) {
    const text = fields[name] ?? "";
    if (text !== "") found[name] = valueOf(name, each, text);
  }
  return found;
}

function valueOf(name, schema, text) {
  const type = typeOf(schema);
  if (type === "string") return text;
  try {
    const value = parse(text);
    if ((type !== "integer" && type !== "number") || typeof value === "number" || !isObject(value)) return value;
  } catch {
    if (type === "any") return text;
  }
  throw new Error(`${name} should be ${type === "array" ? "a JSON array" : type === "object" ? "a JSON object" : `a ${type}`}`);
}

function parsedObject(text) {
  let value;
  try {
    value = parse(text.trim() || "{}");
  } catch (error) {
    throw new Error(`This is not JSON: ${error.message}`);
  }
  if (!isObject(value)) throw new Error("This should be a JSON object, as {\"customerId\": \"zoe\"}");
  return value;
}
