/** The audit: who did what, through which interface, with which outcome. */
import { get } from "../lib/api.js";
import { whole } from "../lib/format.js";
import { html } from "../lib/html.js";
import { useResource } from "../lib/resource.js";
import { setQuery } from "../lib/router.js";
import { RunLink, Status, TaskLink, Time } from "../components/bits.js";
import { Icon } from "../components/icon.js";
import { Empty, Loaded } from "../components/states.js";

const LIMIT = 100;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-/;

export default function Audit({ query }) {
  const [actor, verb, before] = ["actor", "verb", "before"].map((name) => query.get(name) ?? "");
  const audit = useResource((options) => get("api/audit", { limit: LIMIT, actor, verb, before }, options), [actor, verb, before]);
  const field = (name, label, value) => html`<div class="search"><${Icon} name="search" /><input class="input" type="search" aria-label=${label} placeholder=${label} value=${value}
    onChange=${(event) => setQuery({ [name]: event.target.value.trim(), before: null })} /></div>`;
  return html`<div class="page">
    <div class="page-head"><h1>Audit</h1><span class="muted">what people and programs did</span></div>
    <div class="row flow">${field("actor", "Actor", actor)}${field("verb", "Act, for example task retry", verb)}</div>
    <${Loaded} resource=${audit} what="The audit">${(data) =>
      data.entries.length === 0
        ? html`<section class="card"><${Empty} title=${actor || verb || before ? "No entry matches" : "Nothing was done yet"} command=${actor || verb ? null : "qw audit"}>Retries, cancellations, pauses and changes are noted here with who did them.</${Empty}></section>`
        : html`<section class="card" aria-label="Entries"><div class="scroll" tabindex="0"><table>
            <thead><tr><th>When</th><th>Actor</th><th class="hide-phone">Through</th><th>Act</th><th>What</th><th class="number">Count</th><th>Outcome</th></tr></thead>
            <tbody>${data.entries.map((entry) => html`<${Row} key=${entry.id} entry=${entry} />`)}</tbody></table></div>
            <footer><span>Showing ${whole(data.entries.length)}, newest first</span><span class="push row">
              ${before && html`<button type="button" class="button small" onClick=${() => setQuery({ before: null })}>Newest</button>`}
              ${data.nextCursor && html`<button type="button" class="button small" onClick=${() => setQuery({ before: data.nextCursor }, { replace: false })}>Older</button>`}</span></footer></section>`}</${Loaded}>
  </div>`;
}

function Row({ entry }) {
  return html`<tr>
    <td><${Time} at=${entry.at} /></td>
    <td><strong>${entry.actor}</strong></td>
    <td class="hide-phone"><span class="tag">${entry.via}</span></td>
    <td class="nowrap"><code>${entry.verb}</code></td>
    <td class="wide-cell" title=${textOf(entry.target)}><${Target} target=${entry.target} verb=${entry.verb} />${entry.detail && html` <span class="muted">${textOf(entry.detail)}</span>`}</td>
    <td class="number">${entry.count === null ? "–" : whole(entry.count)}</td>
    <td><${Status} status=${entry.outcome === "ok" || entry.outcome === "done" ? "completed" : "failed"} text=${entry.outcome} /></td>
  </tr>`;
}

const textOf = (value) => (typeof value === "string" ? value : value ? JSON.stringify(value) : "");

function Target({ target, verb }) {
  const text = textOf(target);
  if (!UUID.test(text)) return html`<code>${text}</code>`;
  return verb.startsWith("run") || verb.startsWith("workflow") ? html`<${RunLink} id=${text} />` : html`<${TaskLink} id=${text} />`;
}
