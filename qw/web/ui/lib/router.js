/**
 * The URL holds the state: `ui/tasks?q=status:failed`. URLs are relative to the base that the server writes into the
 * page, so that the dashboard works below any path prefix of a proxy or a mount.
 */
import { signal } from "./html.js";

const BASE = new URL(".", document.baseURI);
document.querySelector("base").href = BASE; // the relative base would be wrong for other URLs
const ROOT = `${BASE.pathname}ui/`;

/** `{path: "tasks", parts: ["tasks"], query: URLSearchParams}` of the current URL. */
export const place = signal(read());

addEventListener("popstate", () => (place.value = read()));

/** Follow links within the dashboard without reloading the page. */
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  const isPlain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  if (!link || !isPlain || link.target || link.hasAttribute("download") || event.defaultPrevented) return;
  const url = new URL(link.href);
  if (url.origin !== location.origin || !(url.pathname.startsWith(ROOT) || url.pathname === BASE.pathname)) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});

function read() {
  const path = location.pathname.startsWith(ROOT) ? location.pathname.slice(ROOT.length) : "";
  const parts = path.split("/").filter(Boolean).map(decode);
  return { path, parts, query: new URLSearchParams(location.search) };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Return the URL of a screen, for links: `href("tasks", id)`, `href("tasks", {q: "status:failed"})`; `href()` is the overview. */
export function href(...parts) {
  const last = parts.at(-1);
  const query = last !== null && typeof last === "object" ? parts.pop() : {};
  return `ui/${parts.map(encodeURIComponent).join("/")}${queryText(query)}`;
}

/** Show another screen; the back button returns to the current one. */
export function go(address) {
  history.pushState(null, "", new URL(address, BASE));
  place.value = read();
  scrollTo(0, 0);
}

/**
 * Change query parameters of this screen; null, "" and false remove a parameter.
 * With `replace` the back button skips the previous state.
 */
export function setQuery(changes, { replace = true } = {}) {
  const query = { ...Object.fromEntries(place.value.query), ...changes };
  const url = new URL(`${location.pathname}${queryText(query)}`, location.origin);
  if (url.href === location.href) return;
  history[replace ? "replaceState" : "pushState"](null, "", url);
  place.value = read();
}

function queryText(query) {
  const set = Object.entries(query).filter(([, value]) => ![null, undefined, "", false].includes(value));
  const text = new URLSearchParams(set.map(([name, value]) => [name, String(value)])).toString();
  return text && `?${text}`;
}
