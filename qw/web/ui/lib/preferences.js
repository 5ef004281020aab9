/** What one reader chose, kept in this browser. */
import { effect, signal } from "./html.js";

/** "light", "dark", or "system". */
export const theme = kept("qw.theme", "system");
/** Whether absolute times are in UTC. */
export const utc = kept("qw.utc", false);

effect(() => {
  const root = document.documentElement;
  if (theme.value === "system") delete root.dataset.theme;
  else root.dataset.theme = theme.value;
});

/** A signal whose value outlives the page, where the browser lets it. */
export function kept(name, initial) {
  const made = signal(read(name, initial));
  effect(() => {
    const text = JSON.stringify(made.value);
    try {
      localStorage.setItem(name, text);
    } catch {
      // private windows keep nothing
    }
  });
  return made;
}

function read(name, initial) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? initial;
  } catch {
    return initial;
  }
}
