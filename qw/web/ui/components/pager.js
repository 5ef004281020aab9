/** The controls above and below the rows of a page. */
import { html } from "../lib/html.js";
import { setQuery } from "../lib/router.js";

/** A button "12 new tasks" above the rows; the rows stay in place until it is pressed. */
export function NewRows({ page, noun }) {
  if (page.newer === 0) return null;
  const count = page.isMoreNew ? `${page.newer}+` : page.newer;
  return html`<button type="button" class="new-rows" onClick=${page.reload}>${count} new ${page.newer === 1 ? noun : `${noun}s`} · show</button>`;
}

export function Pager({ page, cursor }) {
  const show = (before) => {
    setQuery({ before }, { replace: false });
    scrollTo(0, 0);
  };
  return html`<span class="push row">
    ${cursor && html`<button type="button" class="button small" onClick=${() => show(null)}>Newest</button>`}
    ${page.nextCursor && html`<button type="button" class="button small" onClick=${() => show(page.nextCursor)}>Older</button>`}
  </span>`;
}
