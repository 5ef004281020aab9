/** The search field, with completion while typing; Enter searches. */
import { get } from "../lib/api.js";
import { html, useEffect, useId, useRef, useState } from "../lib/html.js";
import { useKeys } from "../lib/keyboard.js";
import { quoted, tokens, without } from "../lib/query.js";
import { useResource } from "../lib/resource.js";
import { Icon } from "./icon.js";

const MOST = 12;

export function SearchBox({ value, onSearch, placeholder, label = "Search", fields = "api/search/fields" }) {
  const [text, setText] = useState(value);
  const [caret, setCaret] = useState(null); // null: no completion
  const [at, setAt] = useState(-1);
  const input = useRef(null);
  const listId = useId();
  const known = useResource((options) => get(fields, {}, options), [fields], { live: false });
  useEffect(() => setText(value), [value]);
  useKeys({ "/": { about: "Search", run: () => input.current.focus() } });

  const offers = caret === null ? [] : offered(text, caret, known.data?.fields ?? []);
  const change = (event) => {
    setText(event.target.value);
    setCaret(event.target.selectionStart);
    setAt(-1);
  };
  const search = (query) => {
    setCaret(null);
    onSearch(query.trim());
  };
  const accept = (offer) => {
    const next = text.slice(0, offer.start) + offer.insert + text.slice(offer.end);
    setText(next);
    setAt(-1);
    if (offer.isWhole) search(next);
    else setCaret(offer.start + offer.insert.length);
    input.current.focus();
  };
  const press = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && offers.length) setAt((at + step + offers.length) % offers.length);
    else if (event.key === "Tab" && !event.shiftKey && offers.length && caret !== null && text) accept(offers[Math.max(0, at)]);
    else if (event.key === "Enter") at >= 0 && offers[at] ? accept(offers[at]) : search(text);
    else if (event.key === "Escape") caret === null ? input.current.blur() : setCaret(null);
    else return;
    event.preventDefault();
  };
  return html`<div class="search">
    <${Icon} name="search" />
    <input ref=${input} class="input" type="text" role="combobox" aria-label=${label} aria-expanded=${offers.length > 0} aria-controls=${listId}
      aria-activedescendant=${at >= 0 ? `${listId}-${at}` : undefined} autocomplete="off" autocapitalize="off" spellcheck=${false} placeholder=${placeholder}
      value=${text} onInput=${change} onKeyDown=${press} onFocus=${(event) => setCaret(event.target.selectionStart)} onBlur=${() => setCaret(null)} />
    <kbd aria-hidden="true">/</kbd>
    ${offers.length > 0 &&
    html`<ul class="completions" role="listbox" id=${listId} aria-label="Completions">
      ${offers.map(
        (offer, index) => html`<li id=${`${listId}-${index}`} role="option" aria-selected=${index === at} onPointerDown=${(event) => event.preventDefault()} onClick=${() => accept(offer)}>
          <code>${offer.insert}</code><span class="muted cut">${offer.about}</span>
        </li>`,
      )}
    </ul>`}
  </div>`;
}

/** Return the completions at the caret: names of qualifiers, or values of the current qualifier. */
function offered(text, caret, fields) {
  const token = tokens(text).find(({ start, end }) => start < caret && caret <= end);
  const { start, end } = token ?? { start: caret, end: caret };
  const typed = text.slice(start, caret);
  const [, name, part] = /^([\w.[\]-]+):"?(.*)$/.exec(typed) ?? [];
  if (name === undefined) {
    return fields
      .filter((field) => field.name.startsWith(typed.toLowerCase()))
      .slice(0, MOST)
      .map((field) => ({ insert: field.name.endsWith(".") ? field.name : `${field.name}:`, about: field.about, start, end }));
  }
  const last = part.split(",").at(-1).toLowerCase();
  const before = part.slice(0, part.length - last.length);
  return (fields.find((field) => field.name === name)?.values ?? [])
    .filter((value) => value.toLowerCase().includes(last) && value !== last)
    .slice(0, MOST)
    .map((value) => ({ insert: `${name}:${before}${quoted(value)}`, about: "", start, end, isWhole: true }));
}

/** The terms of the search, each with a button to remove it. */
export function SearchChips({ query, onSearch }) {
  const terms = tokens(query);
  if (terms.length === 0) return null;
  return html`<div class="chips">
    ${terms.map(
      ({ text }) => html`<span class="chip" key=${text}><code>${text}</code>
        <button type="button" aria-label="Remove ${text}" onClick=${() => onSearch(without(query, text))}><${Icon} name="close" /></button></span>`,
    )}
    ${terms.length > 1 && html`<button type="button" class="button bare small" onClick=${() => onSearch("")}>Clear all</button>`}
  </div>`;
}
