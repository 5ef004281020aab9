/** The current time for relative times: one timer for the whole page, stopped while the tab is hidden. */
import { signal } from "./html.js";

export const now = signal(Date.now());

let timer = null;

export function startClock() {
  const tick = () => (now.value = Date.now());
  const set = () => {
    clearInterval(timer);
    if (!document.hidden) timer = setInterval(tick, 1000);
  };
  document.addEventListener("visibilitychange", set);
  set();
}
