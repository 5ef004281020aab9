/** The data of a screen: loaded, reloaded after events, and never replaced by an older response. */
import { effect, useCallback, useEffect, useRef, useState } from "./html.js";
import { beat } from "./live.js";

const NOTHING = { data: undefined, error: null, isLoading: true, at: null };

/**
 * Load with `load({signal})` whenever *keys* change and, if `live`, after events.
 *
 * `data` stays until the next response, so that the layout does not jump; `isStale`: it belongs to previous keys.
 * When the keys change, a pending request is aborted, so that its response cannot replace newer data.
 * @returns {{data: any, error: Error|null, isLoading: boolean, isStale: boolean, at: number|null, reload: () => Promise<void>}}
 */
export function useResource(load, keys = [], { live = true } = {}) {
  const [state, setState] = useState(NOTHING);
  const current = useRef({ abort: null, key: null });
  const loader = useRef(load);
  loader.current = load;
  const key = JSON.stringify(keys);

  const reload = useCallback(async () => {
    const asked = current.current.key;
    current.current.abort?.abort();
    const abort = (current.current.abort = new AbortController());
    try {
      const data = await loader.current({ signal: abort.signal });
      if (abort.signal.aborted) return;
      setState({ data, error: null, isLoading: false, at: Date.now(), key: asked });
    } catch (error) {
      if (abort.signal.aborted) return;
      setState((before) => ({ ...before, error, isLoading: false, key: before.data === undefined ? asked : before.key }));
    } finally {
      if (current.current.abort === abort) current.current.abort = null;
    }
  }, []);

  useEffect(() => {
    current.current.key = key;
    setState((before) => ({ ...before, isLoading: true, error: null }));
    reload();
    return () => current.current.abort?.abort();
  }, [key]);

  useEffect(() => {
    if (!live) return undefined;
    let isFirst = true;
    return effect(() => {
      beat.value;
      if (!isFirst && current.current.abort === null) reload();
      isFirst = false;
    });
  }, [live]);

  return { ...state, isStale: state.data !== undefined && state.key !== key, reload };
}
