/** All workflows, with the outcomes of their last runs and their next start. */
import { get } from "../lib/api.js";
import { whole } from "../lib/format.js";
import { html } from "../lib/html.js";
import { useResource } from "../lib/resource.js";
import { go, href } from "../lib/router.js";
import { useRows } from "../lib/rows.js";
import { mayOperate } from "../lib/session.js";
import { Time } from "../components/bits.js";
import { Marks } from "../components/marks.js";
import { askToStart } from "../components/start-run.js";
import { Empty, Loaded } from "../components/states.js";

const MOST = 500;
const MARKS = 14;

export default function Workflows() {
  const workflows = useResource((options) => get("api/workflows", { limit: MOST }, options));
  const runs = useResource((options) => get("api/runs", { limit: 1000 }, options));
  const schedules = useResource((options) => get("api/schedules", { limit: 1000 }, options));
  const found = workflows.data?.workflows ?? [];
  const rows = useRows(found, { onOpen: ({ id }) => go(href("workflows", id)) });
  return html`<div class="page">
    <div class="page-head"><h1>Workflows</h1><span class="muted">${workflows.data && whole(workflows.data.total)}</span></div>
    <${Loaded} resource=${workflows} what="The workflows">
      ${(data) =>
        data.workflows.length === 0
          ? html`<section class="card"><${Empty} title="No workflows" command="qw apply -f workflows.yaml">A file of definitions describes them; the daemon loads it at its start.</${Empty}></section>`
          : html`<section class="card" aria-label="Workflows"><div class="scroll"><table>
              <thead><tr><th>Workflow</th><th class="hide-narrow">Description</th><th class="number hide-phone">Steps</th><th>Last runs</th><th class="number hide-narrow">Next</th><th></th></tr></thead>
              <tbody>${data.workflows.map((each) => html`<${Row} key=${each.id} workflow=${each} runs=${runs.data?.runs ?? []} schedules=${schedules.data?.schedules ?? []} isCurrent=${rows.current === each.id} />`)}</tbody>
            </table></div>
            ${data.total > data.workflows.length && html`<footer>Showing ${whole(data.workflows.length)} of ${whole(data.total)}</footer>`}</section>`}
    </${Loaded}>
  </div>`;
}

function Row({ workflow, runs, schedules, isCurrent }) {
  const { id, name, definition, isActive } = workflow;
  const next = schedules.filter((each) => each.workflow === name && each.nextTick && !each.paused).map(({ nextTick }) => nextTick).sort()[0];
  const open = (event) => !event.target.closest("a, button, time") && go(href("workflows", id));
  return html`<tr class="link ${isCurrent ? "current" : ""}" data-row=${id} onClick=${open}>
    <td><a href=${href("workflows", id)}><strong>${name}</strong></a> ${!isActive && html`<span class="badge tone-gray">inactive</span>`}</td>
    <td class="wide-cell hide-narrow"><span class="cut muted" title=${definition.description}>${definition.description ?? ""}</span></td>
    <td class="number hide-phone">${whole(countSteps(definition))}</td>
    <td><${Marks} marks=${marksOf(runs, name)} label="Last runs of ${name}" /></td>
    <td class="number hide-narrow"><${Time} at=${next} /></td>
    <td class="right">${mayOperate.value && isActive && html`<button type="button" class="button small" onClick=${() => askToStart(workflow)}>Start</button>`}</td>
  </tr>`;
}

/** The last runs of a workflow, newest at the right. */
export function marksOf(runs, name) {
  const own = runs.filter(({ workflow }) => workflow === name).slice(0, MARKS).reverse();
  return own.map((run) => ({ status: run.status, at: run.createdAt, link: href("runs", run.id) }));
}

export function countSteps(definition) {
  return definition.steps?.length ?? 1 + Object.keys(definition.transitions ?? {}).length;
}
