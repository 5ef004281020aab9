/** Keyboard shortcuts: each screen binds letters; `g` starts a jump. Keys in input fields and dialogs are left alone. */
import { useEffect } from "./html.js";

const bindings = []; // the last binding of a key wins
let prefix = null;
let prefixTimer = null;

/** Bind `{key: {about, run}}` while the component is mounted; a key such as "g t" is two letters typed in sequence. */
export function useKeys(keys) {
  useEffect(() => {
    bindings.push(keys);
    return () => bindings.splice(bindings.indexOf(keys), 1);
  });
}

/** Return all active shortcuts as `[key, about]`. */
export function knownKeys() {
  const found = new Map();
  for (const keys of bindings) for (const [key, { about }] of Object.entries(keys)) if (about) found.set(key, about);
  return [...found];
}

export function startKeyboard() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
    const key = prefix ? `${prefix} ${event.key}` : event.key;
    setPrefix(null);
    const binding = bindings.findLast((keys) => key in keys);
    if (binding) {
      if (binding[key].run(event) !== false) event.preventDefault();
    } else if (bindings.some((keys) => Object.keys(keys).some((known) => known.startsWith(`${event.key} `)))) {
      setPrefix(event.key);
    }
  });
}

function setPrefix(value) {
  prefix = value;
  clearTimeout(prefixTimer);
  if (value) prefixTimer = setTimeout(() => (prefix = null), 1200);
}

function isTyping(element) {
  return element.isContentEditable || /^(TEXTAREA|SELECT)$/.test(element.tagName) || isTextInput(element);
}

function isTextInput(element) {
  return element.tagName === "INPUT" && !/^(checkbox|radio|button|submit|range)$/.test(element.type);
}
