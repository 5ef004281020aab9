/** Keyboard navigation and selection of table rows. */
import { useEffect, useState } from "./html.js";
import { useKeys } from "./keyboard.js";

/**
 * Bind `j`, `k` and Enter on *rows*, with `selectable` also `x` and Escape.
 * @returns {{current: string|null, chosen: Set<string>, toggle: Function, toggleAll: Function, clear: Function}}
 */
export function useRows(rows, { idOf = (row) => row.id, onOpen, selectable = false, keys = {} }) {
  const [current, setCurrent] = useState(null);
  const [chosen, setChosen] = useState(new Set());
  const ids = rows.map(idOf);
  const move = (step) => {
    const at = ids.indexOf(current);
    const next = ids[at === -1 ? (step > 0 ? 0 : ids.length - 1) : Math.min(ids.length - 1, Math.max(0, at + step))];
    setCurrent(next ?? null);
    document.querySelector(`[data-row="${CSS.escape(next ?? "")}"]`)?.scrollIntoView({ block: "nearest" });
  };
  const toggle = (id) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    setChosen(next);
  };
  const isAll = ids.length > 0 && ids.every((id) => chosen.has(id));
  const onCurrent = (run) => () => {
    const row = rows[ids.indexOf(current)];
    if (!row) return false;
    run(row);
    return true;
  };
  useKeys({
    j: { about: "Next row", run: () => move(1) },
    k: { about: "Row before", run: () => move(-1) },
    ...(onOpen && { Enter: { about: "Open the row", run: (event) => event.target.closest("a, button, summary") ? false : onCurrent(onOpen)() } }),
    ...(selectable && {
      x: { about: "Choose the row", run: onCurrent((row) => toggle(idOf(row))) },
      Escape: { run: () => (chosen.size ? setChosen(new Set()) : setCurrent(null)) },
    }),
    ...Object.fromEntries(Object.entries(keys).map(([key, { about, run }]) => [key, { about, run: () => (chosen.size ? run([...chosen]) : onCurrent((row) => run([idOf(row)]))()) }])),
  });
  const known = ids.join();
  useEffect(() => {
    if (current !== null && !ids.includes(current)) setCurrent(null);
  }, [known]);
  return {
    current,
    chosen,
    isAll,
    toggle,
    toggleAll: () => setChosen(isAll ? new Set() : new Set(ids)),
    clear: () => setChosen(new Set()),
  };
}
