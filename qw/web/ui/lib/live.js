/**
 * What tells the screens to look again: the event stream while it is connected, else a timer that backs off.
 * Nothing happens while the tab is hidden or the reader has paused: no refresh on focus, none on reconnect.
 */
import { effect, signal, untracked } from "./html.js";
import { address } from "./api.js";
import { EVENT_TYPES } from "./event-types.js";

const PAUSED = "qw.paused";
const AT_MOST_EVERY = 1000; // milliseconds between two refreshes, however many events there are
const SILENT_EVERY = 10_000; // milliseconds after which screens refresh without an event
const FIRST_RETRY = 1000;
const LONGEST_RETRY = 30_000;

export const paused = signal(sessionStorage.getItem(PAUSED) === "1");
/** "connecting", "live", "lost" or "paused". */
export const state = signal(paused.value ? "paused" : "connecting");
/** When the connection was lost, in milliseconds since 1970; null while it stands. */
export const lostAt = signal(null);
/** Rises whenever screens should look again. */
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

/** Call *listener* with `{id, type, body}` of each event. Returns how to stop. */
export function onEvent(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Begin to listen, as long as the tab is visible and the reader has not paused. */
export function start() {
  const visible = signal(!document.hidden);
  document.addEventListener("visibilitychange", () => (visible.value = !document.hidden));
  effect(() => {
    const wanted = visible.value && !paused.value;
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

/** Refresh at once if the last time is long enough ago, else when it is. */
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
