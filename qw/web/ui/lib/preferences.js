/** The user's preferences, stored in this browser. */
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

/** A signal whose value is stored by the browser, if it permits. */
export function kept(name, initial) {
  const made = signal(read(name, initial));
  effect(() => {
    const text = JSON.stringify(made.value);
    try {
      localStorage.setItem(name, text);
    } catch {
      // private windows may refuse storage
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
