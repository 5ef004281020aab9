/** The list of keyboard shortcuts. */
import { html } from "../lib/html.js";
import { knownKeys } from "../lib/keyboard.js";
import { ask } from "./dialog.js";

export function showKeys() {
  const keys = knownKeys();
  ask({
    title: "Keys",
    content: html`<div class="keys">
      ${keys.map(([key, about]) => html`<span>${key.split(" ").map((each) => html`<kbd>${each}</kbd> `)}</span><span>${about}</span>`)}
    </div>`,
  });
}
