/**
 * Tells the screens to refresh: on events of the stream while it is connected, otherwise by a timer with backoff.
 * Does nothing while the tab is hidden or the user has paused: no refresh on focus, none on reconnect.
 */
import { effect, signal, untracked } from "./html.js";
import { address, needsLogin } from "./api.js";
import { EVENT_TYPES } from "./event-types.js";
import { session } from "./session.js";

const PAUSED = "qw.paused";
const AT_MOST_EVERY = 1000; // minimum milliseconds between two refreshes
const SILENT_EVERY = 10_000; // milliseconds without events after which screens refresh
const FIRST_RETRY = 1000;
const LONGEST_RETRY = 30_000;

export const paused = signal(sessionStorage.getItem(PAUSED) === "1");
/** "connecting", "live", "lost" or "paused". */
export const state = signal(paused.value ? "paused" : "connecting");
/** When the connection was lost, in milliseconds since 1970; null while connected. */
export const lostAt = signal(null);
/** A counter that is incremented whenever screens should refresh. */
export const beat = signal(0);

const listeners = new Set();
let source = null;
let timer = null;
let pending = null;
let lastBeat = 0;
let retry = FIRST_RETRY;

export function setPaused(value) {
  sessionStorage.setItem(PAUSED, value ? "1" : "0");
  paused.value = value;
}

/** Call *listener* with `{id, type, data}` of each event. Returns a function that unsubscribes. */
export function onEvent(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Connect whenever the user is known, the tab is visible and the user has not paused. */
export function start() {
  const visible = signal(!document.hidden);
  document.addEventListener("visibilitychange", () => (visible.value = !document.hidden));
  effect(() => {
    const wanted = session.value && !needsLogin.value && visible.value && !paused.value;
    untracked(() => (wanted ? connect() : disconnect()));
  });
}

function disconnect() {
  stop();
  if (paused.value) {
    state.value = "paused";
    lostAt.value = null;
  }
}

function stop() {
  source?.close();
  source = null;
  clearTimeout(timer);
  clearTimeout(pending);
  timer = pending = null;
}

function connect() {
  stop();
  if (state.value === "paused") state.value = "connecting";
  source = new EventSource(address("api/events"));
  source.onopen = () => {
    const wasAway = state.value !== "connecting";
    state.value = "live";
    lostAt.value = null;
    retry = FIRST_RETRY;
    if (wasAway) refresh();
    again();
  };
  source.onerror = () => {
    stop();
    state.value = "lost";
    lostAt.value ??= Date.now();
    timer = setTimeout(() => {
      refresh();
      connect();
    }, retry);
    retry = Math.min(retry * 2, LONGEST_RETRY);
  };
  for (const type of EVENT_TYPES) source.addEventListener(type, heard);
}

function heard(event) {
  for (const listener of listeners) listener({ id: event.lastEventId, type: event.type, data: event.data });
  soon();
}

/** Schedule a refresh as soon as `AT_MOST_EVERY` allows. */
function soon() {
  pending ??= setTimeout(refresh, Math.max(0, lastBeat + AT_MOST_EVERY - Date.now()));
}

function refresh() {
  clearTimeout(pending);
  pending = null;
  lastBeat = Date.now();
  beat.value++;
  again();
}

function again() {
  clearTimeout(timer);
  if (source) timer = setTimeout(refresh, SILENT_EVERY);
}
