/** The database: sizes, ages, problems and how to fix them. */
import { get } from "../lib/api.js";
import { bytes, duration, short, whole } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { useResource } from "../lib/resource.js";
import { Bar, Card, Facts, Time } from "../components/bits.js";
import { Empty, Loaded } from "../components/states.js";
import { Advice } from "../components/why.js";

const LARGEST = 15; // tables shown initially
const TONES = { error: "tone-red", warning: "tone-amber" };

export default function Database() {
  const database = useResource((options) => get("api/database", {}, options));
  return html`<div class="page">
    <div class="page-head"><h1>Database</h1><span class="muted">${database.data && `PostgreSQL ${database.data.version}`}</span></div>
    <${Loaded} resource=${database} what="The state of the database">${(data) => html`
      <${Checks} checks=${data.checks ?? []} />
      <div class="tiles">
        <${Tile} label="Size" value=${bytes(data.sizeBytes)} />
        <${Tile} label="Connections" value=${whole(data.connections?.used)} note=${`of ${whole(data.connections?.max)}`} />
        <${Tile} label="Oldest transaction" value=${duration(data.oldestTransactionSeconds)} note="holds back vacuum" />
        <${Tile} label="Dead rows" value=${short(data.tables.reduce((sum, { deadRows }) => sum + (deadRows ?? 0), 0))} note="until vacuum" />
        <${Tile} label="Schema" value=${data.migration?.current ?? "–"} note=${data.migration?.current === data.migration?.newest ? "up to date" : `newest is ${data.migration?.newest}`} />
        <${Tile} label="Tables" value=${whole(data.tables.length)} />
      </div>
      <div class="columns uneven">
        <${Tables} tables=${data.tables} />
        <div class="stack">
          <${Card} title="Retention"><div class="body"><${Facts} facts=${Object.entries(data.retention ?? {}).map(([name, value]) => [words(name), kept(name, value)])} /></div></${Card}>
          <${Card} title="Connections"><div class="body"><${Facts} facts=${Object.entries(data.connections?.byName ?? {}).map(([name, count]) => [name || "others", whole(count)])} /></div></${Card}>
        </div>
      </div>`}</${Loaded}>
  </div>`;
}

const words = (name) => name.replace(/([A-Z])/g, " $1").toLowerCase().replace(/ seconds$/, "");

function kept(name, value) {
  if (typeof value === "number" && name.endsWith("Seconds")) return duration(value);
  return value === null ? "for ever" : String(value);
}

function Tile({ label, value, note }) {
  return html`<div class="tile"><div class="label">${label}</div><div class="value">${value}</div><div class="note" title=${note}>${note ?? ""}</div></div>`;
}

/** The findings of `qw doctor`, problems first. */
function Checks({ checks }) {
  const wrong = checks.filter(({ ok }) => !ok);
  const right = checks.filter(({ ok }) => ok);
  return html`<${Card} title="Checks" aside=${html`<span class="small muted">as in qw doctor</span>`}>
    <div class="scroll" tabindex="0"><table><tbody>
      ${checks.length === 0 && html`<tr><td><${Empty} compact title="No checks" /></td></tr>`}
      ${[...wrong, ...right].map(
        (check) => html`<tr key=${check.name}><td class="shrink"><span class="dot ${check.ok ? "tone-green" : (TONES[check.level] ?? "tone-amber")}"></span>  <strong>${check.name}</strong></td>
          <td class="wrap">${check.text}${!check.ok && check.fix && html`<${Advice} text=${check.fix} />`}</td></tr>`,
      )}
    </tbody></table></div>
  </${Card}>`;
}

function Tables({ tables }) {
  const [isAll, setAll] = useState(false);
  const sorted = [...tables].sort((a, b) => b.sizeBytes - a.sizeBytes);
  const footer = !isAll && sorted.length > LARGEST && html`<span>Showing the ${LARGEST} largest of ${whole(sorted.length)}</span><button type="button" class="button small push" onClick=${() => setAll(true)}>Show all</button>`;
  const most = sorted[0]?.sizeBytes || 1;
  return html`<${Card} title="Tables" footer=${footer}><div class="scroll" tabindex="0"><table>
    <thead><tr><th>Table</th><th class="number">Rows</th><th class="number">Dead</th><th class="number">Size</th><th class="hide-phone"></th><th class="number hide-phone">Vacuumed</th></tr></thead>
    <tbody>${sorted.slice(0, isAll ? undefined : LARGEST).map(
      (table) => html`<tr key=${table.name}><td><code>${table.name}</code></td><td class="number">≈ ${short(table.rows)}</td>
        <td class="number ${table.deadRows > table.rows && table.deadRows > 10_000 ? "text-amber" : ""}">${short(table.deadRows)}</td><td class="number">${bytes(table.sizeBytes)}</td>
        <td class="hide-phone"><${Bar} part=${table.sizeBytes / most} label=${bytes(table.sizeBytes)} /></td><td class="number hide-phone"><${Time} at=${table.lastVacuum} empty="never" /></td></tr>`,
    )}</tbody></table></div></${Card}>`;
}
