/** The last outcomes as a row of marks, newest at the right, each with a link. */
import { absolute } from "../lib/format.js";
import { html } from "../lib/html.js";
import { utc } from "../lib/preferences.js";
import { toneOf } from "./bits.js";

/** @param {{marks: {status: string, at: string, link?: string, about?: string, isHollow?: boolean}[], label: string}} props */
export function Marks({ marks, label }) {
  if (marks.length === 0) return html`<span class="muted">–</span>`;
  return html`<span class="marks" role="group" aria-label=${label}>
    ${marks.map(({ status, at, link, about, isHollow }) => {
      const title = `${about ?? status} · ${absolute(at, utc.value)}`;
      const classes = `mark ${toneOf(status)} ${isHollow ? "hollow" : ""}`;
      return link ? html`<a class=${classes} href=${link} title=${title} aria-label=${title}></a>` : html`<i class=${classes} title=${title} role="img" aria-label=${title}></i>`;
    })}
  </span>`;
}
