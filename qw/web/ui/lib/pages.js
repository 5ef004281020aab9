/**
 * A page of a list whose rows keep their place: rows are updated in place, rows that no longer match stay dimmed,
 * and new rows are only counted until the user requests them.
 */
import { get } from "./api.js";
import { effect, useCallback, useEffect, useRef, useState } from "./html.js";
import { beat } from "./live.js";

export const PAGE = 50;

const LOADING = { rows: null, gone: new Set(), newer: 0, isMoreNew: false, error: null, isLoading: true };

/**
 * @param {string} path  API path of the list, newest first, with ids that sort by time
 * @param {string} name  member of the response with the rows
 * @param {object} query query parameters
 * @param {string|null} cursor start of the page; null: the newest row
 */
export function usePage(path, name, query, cursor) {
  const [state, setState] = useState(LOADING);
  const asked = useRef({ abort: null, key: "" });
  const key = JSON.stringify([path, query, cursor]);

  const load = useCallback(async (isFresh) => {
    const [from, wanted, before] = JSON.parse(asked.current.key);
    asked.current.abort?.abort();
    const abort = (asked.current.abort = new AbortController());
    try {
      const found = await get(from, { ...wanted, cursor: before, limit: PAGE }, { signal: abort.signal });
      if (abort.signal.aborted) return;
      const answer = { ...found, rows: found[name] };
      setState((shown) => (isFresh || shown.rows === null || shown.key !== asked.current.key ? fresh(answer, asked.current.key) : merged(shown, answer, before)));
    } catch (error) {
      if (!abort.signal.aborted) setState((shown) => ({ ...shown, error, isLoading: false }));
    } finally {
      if (asked.current.abort === abort) asked.current.abort = null;
    }
  }, []);

  useEffect(() => {
    asked.current.key = key;
    setState((shown) => ({ ...shown, isLoading: true, error: null }));
    load(true);
    return () => asked.current.abort?.abort();
  }, [key]);

  useEffect(() => {
    let isFirst = true;
    return effect(() => {
      beat.value;
      if (!isFirst && asked.current.abort === null) load(false);
      isFirst = false;
    });
  }, []);

  return { ...state, isStale: state.rows !== null && state.key !== key, reload: () => load(true), update: () => load(false) };
}

function fresh(answer, key) {
  return {
    key,
    rows: answer.rows,
    gone: new Set(),
    newer: 0,
    isMoreNew: false,
    count: answer.count,
    isEstimate: answer.countIsEstimate,
    nextCursor: answer.nextCursor,
    error: null,
    isLoading: false,
    at: Date.now(),
  };
}

function merged(shown, answer, before) {
  const found = new Map(answer.rows.map((row) => [row.id, row]));
  const newest = shown.rows[0]?.id ?? "";
  const isNew = (row) => !before && row.id > newest;
  const newer = answer.rows.filter(isNew).length;
  if (newest === "" && newer) return fresh(answer, shown.key); // the list was empty, so no row can move
  const oldest = answer.rows.length < PAGE ? "" : answer.rows.at(-1).id;
  return {
    ...shown,
    rows: shown.rows.map((row) => found.get(row.id) ?? row),
    gone: new Set(shown.rows.filter((row) => !found.has(row.id) && row.id >= oldest).map((row) => row.id)),
    newer,
    isMoreNew: newer === PAGE,
    count: answer.count,
    isEstimate: answer.countIsEstimate,
    error: null,
    isLoading: false,
    at: Date.now(),
  };
}
