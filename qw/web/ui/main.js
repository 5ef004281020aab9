/** Start of the dashboard: load the session, then start the shell, the clock, the shortcuts and the live updates. */
import { loadSession } from "./lib/session.js";
import { html, render } from "./lib/html.js";
import { startKeyboard } from "./lib/keyboard.js";
import { start as startLive } from "./lib/live.js";
import { place } from "./lib/router.js";
import { startClock } from "./lib/now.js";
import { Shell, StartFailure } from "./components/shell.js";
import { screenAt } from "./screens/index.js";

const root = document.getElementById("app");

async function main() {
  screenAt(place.value.parts)?.load(); // in parallel with the session
  try {
    await loadSession();
  } catch (error) {
    render(html`<${StartFailure} error=${error} onRetry=${main} />`, root);
    return;
  }
  render(html`<${Shell} />`, root);
}

startClock();
startKeyboard();
startLive();
main();
