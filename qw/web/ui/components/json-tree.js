/** JSON as a tree that can be searched and copied: large parts are collapsed, numbers keep all digits. */
import { ExactNumber, format, isObject, sortedKeys } from "../lib/exact-json.js";
import { whole } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { Copy } from "./bits.js";

const OPEN_LEVELS = 2;
const FIRST = 100; // members shown initially
const LONG_TEXT = 2000;
export const MASK = "***";

/** Whether *value* contains masked values. */
export function hasMasked(value) {
  if (value === MASK) return true;
  return value !== null && typeof value === "object" && !(value instanceof ExactNumber) && Object.values(value).some(hasMasked);
}

/** @param {{value: any, label: string, aside?: any}} props */
export function JsonTree({ value, label, aside }) {
  const [search, setSearch] = useState("");
  const isLarge = value !== null && typeof value === "object" && Object.keys(value).length > 0 && !(value instanceof ExactNumber);
  const tree = html`<div class="json" role="group" aria-label=${label}><${Node} value=${value} level=${0} search=${search.toLowerCase()} /></div>`;
  if (!isLarge) return html`<div class="row">${tree}${aside}<${Copy} text=${() => format(value)} label="Copy ${label} as JSON" /></div>`;
  return html`<div class="stack tight">
    <div class="row">
      <input class="input json-search" type="search" placeholder="Find" aria-label="Find in ${label}" value=${search} onInput=${(event) => setSearch(event.target.value)} />
      <span class="push"></span>${aside}
      <${Copy} text=${() => format(value)} label="Copy ${label} as JSON">Copy</${Copy}>
    </div>
    ${tree}
  </div>`;
}

function Node({ name, value, level, search }) {
  if (Array.isArray(value) || isObject(value)) return html`<${Branch} ...${{ name, value, level, search }} />`;
  return html`<div class="leaf"><${Key} name=${name} search=${search} /><${Leaf} value=${value} search=${search} /></div>`;
}

function Branch({ name, value, level, search }) {
  const keys = Array.isArray(value) ? value.map((_, at) => at) : sortedKeys(value);
  const [isOpen, setOpen] = useState(level < OPEN_LEVELS && keys.length <= FIRST);
  const [most, setMost] = useState(FIRST);
  const isFound = search && contains(value, search);
  const shown = isOpen || isFound;
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  if (keys.length === 0) return html`<div class="leaf"><${Key} name=${name} search=${search} />${open}${close}</div>`;
  return html`<details open=${shown} onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary><${Key} name=${name} search=${search} />${open}<span class="muted">${shown ? "" : ` ${keys.length} ${close}`}</span></summary>
    ${shown &&
    html`<div class="children">
      ${keys.slice(0, most).map((key) => html`<${Node} key=${key} name=${key} value=${value[key]} level=${level + 1} search=${search} />`)}
      ${keys.length > most && html`<button type="button" class="button small" onClick=${() => setMost(most + 10 * FIRST)}>${keys.length - most} more</button>`}
    </div>`}
  </details>`;
}

function Key({ name, search }) {
  if (name === undefined) return null;
  return html`<span class="key"><${Marked} text=${String(name)} search=${search} /></span><span class="muted">: </span>`;
}

function Leaf({ value, search }) {
  if (value === MASK) return html`<span class="masked" title="Hidden: the key looks like a secret">••••••</span>`;
  if (typeof value === "string") return html`<${Text} text=${value} search=${search} />`;
  const kind = value instanceof ExactNumber || typeof value === "number" ? "num" : "word";
  return html`<span class=${kind}><${Marked} text=${String(value)} search=${search} /></span>`;
}

function Text({ text, search }) {
  const [isWhole, setWhole] = useState(false);
  const shown = isWhole || text.length <= LONG_TEXT ? text : text.slice(0, LONG_TEXT);
  return html`<span class="string" dir="auto">"<${Marked} text=${shown} search=${search} />${shown.length === text.length && '"'}</span>
    ${shown.length < text.length && html` <button type="button" class="button small" onClick=${() => setWhole(true)}>${whole(text.length - shown.length)} more characters</button>`}`;
}

/** Return *text* with the matches of the search marked. */
export function Marked({ text, search }) {
  const at = search ? text.toLowerCase().indexOf(search) : -1;
  if (at === -1) return text;
  return html`${text.slice(0, at)}<mark>${text.slice(at, at + search.length)}</mark><${Marked} text=${text.slice(at + search.length)} search=${search} />`;
}

function contains(value, search) {
  if (value !== null && typeof value === "object" && !(value instanceof ExactNumber)) {
    return Object.entries(value).some(([key, each]) => key.toLowerCase().includes(search) || contains(each, search));
  }
  return String(value).toLowerCase().includes(search);
}
