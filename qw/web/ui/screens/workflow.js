/** One workflow: its graph, its runs, its definition. */
import { get, put, remove } from "../lib/api.js";
import { plural } from "../lib/format.js";
import { html } from "../lib/html.js";
import { usePage } from "../lib/pages.js";
import { useResource } from "../lib/resource.js";
import { go, href, setQuery } from "../lib/router.js";
import { mayOperate } from "../lib/session.js";
import { Card, Command, Facts, Moment } from "../components/bits.js";
import { ask } from "../components/dialog.js";
import { Graph } from "../components/graph.js";
import { Icon } from "../components/icon.js";
import { JsonTree } from "../components/json-tree.js";
import { Menu } from "../components/menu.js";
import { askToStart } from "../components/start-run.js";
import { Empty, Failure, Loaded, Skeleton } from "../components/states.js";
import { toast } from "../components/toast.js";
import { RunTable } from "./runs.js";
import { countSteps } from "./workflows.js";

export default function WorkflowScreen({ parts, query }) {
  const id = parts[1];
  const found = useResource((options) => get(`api/workflows/${encodeURIComponent(id)}`, {}, options), [id]);
  if (found.data === undefined && [400, 404].includes(found.error?.status)) {
    return html`<div class="page"><section class="card"><${Empty} title="There is no workflow ${id}"><a href=${href("workflows")}>All workflows</a></${Empty}></section></div>`;
  }
  return html`<div class="page">
    <div class="crumbs"><a href=${href("workflows")}>Workflows</a><span>/</span><span class="cut">${found.data?.workflow.name ?? id}</span></div>
    <${Loaded} resource=${found} what="The workflow">${({ workflow }) => html`<${Workflow} workflow=${workflow} query=${query} reload=${found.reload} />`}</${Loaded}>
  </div>`;
}

function Workflow({ workflow, query, reload }) {
  const { definition } = workflow;
  const steps = stepsOf(definition);
  const selected = steps.find(({ id }) => id === query.get("step"));
  return html`
    <div class="page-head">
      <h1 class="wrap">${workflow.name}</h1>${!workflow.isActive && html`<span class="badge tone-gray">inactive</span>`}
      <span class="muted">${definition.description}</span>
      <div class="actions">
        ${mayOperate.value && workflow.isActive && html`<button type="button" class="button primary" onClick=${() => askToStart(workflow)}><${Icon} name="play" />Start a run</button>`}
        ${mayOperate.value && html`<${Menu} label="More" items=${[
          { text: workflow.isActive ? "Deactivate" : "Activate", icon: workflow.isActive ? "pause" : "play", run: () => askToSwitch(workflow, reload) },
          { text: "Delete", icon: "trash", danger: true, run: () => askToDelete(workflow) },
        ]} />`}
      </div>
    </div>
    <${Card} title=${plural(countSteps(definition), "step")} label="Steps">
      <${Graph} key=${workflow.updatedAt} steps=${steps} selected=${selected?.id} onSelect=${(step) => setQuery({ step: step === selected?.id ? null : step })} />
    </${Card}>
    ${selected && html`<${Card} title="Step ${selected.id}"><div class="body"><${JsonTree} value=${selected.definition} label="step" /></div></${Card}>`}
    <${Runs} workflow=${workflow} cursor=${query.get("before")} />
    <div class="columns">
      <${Card} title="Definition"><div class="body"><${JsonTree} value=${definition} label="definition" /></div></${Card}>
      <${Card} title="Details"><div class="body stack">
        <${Facts} facts=${[["Created", html`<${Moment} at=${workflow.createdAt} />`], ["Changed", html`<${Moment} at=${workflow.updatedAt} />`]]} />
        <div><${Command} text=${`qw workflow start ${workflow.name}`} /></div></div></${Card}>
    </div>`;
}

function Runs({ workflow }) {
  const page = usePage("api/runs", "runs", { workflow: workflow.name }, null);
  const all = html`<a class="small" href=${href("runs", { workflow: workflow.name })}>All its runs</a>`;
  return html`<${Card} title="Last runs" aside=${all}>
    ${page.error && html`<div class="body"><${Failure} error=${page.error} onRetry=${page.reload} what="The runs" /></div>`}
    ${page.rows === null && !page.error && html`<${Skeleton} rows=${4} />`}
    ${page.rows?.length === 0 && html`<${Empty} compact title="It has not run yet" command=${`qw workflow start ${workflow.name}`} />`}
    ${page.rows?.length > 0 && html`<div class="scroll"><${RunTable} runs=${page.rows.slice(0, 10)} withWorkflow=${false} /></div>`}
  </${Card}>`;
}

/** Return the steps of a definition for `Graph`; also for a definition with transitions between types. */
function stepsOf(definition) {
  const list = (value) => (value === undefined || value === null ? [] : [value].flat());
  if (definition.steps) {
    return definition.steps.map((step) => ({ id: step.id, type: step.type ?? (step.run ? "run" : step.foreach ? "foreach" : "command"), needs: list(step.needs), status: "pending", definition: step }));
  }
  const { initialTask, transitions = {} } = definition;
  const types = [...new Set([initialTask?.type, ...Object.entries(transitions).flatMap(([from, to]) => [from, to?.type])])].filter(Boolean);
  return types.map((type) => ({
    id: type,
    type,
    status: "pending",
    needs: Object.entries(transitions).filter(([, to]) => to?.type === type).map(([from]) => from),
    definition: type === initialTask?.type ? initialTask : Object.values(transitions).find((to) => to?.type === type),
  }));
}

function askToSwitch(workflow, reload) {
  const { name, isActive } = workflow;
  ask({
    title: isActive ? `Deactivate ${name}?` : `Activate ${name}?`,
    confirm: isActive ? "Deactivate" : "Activate",
    content: html`<p>${isActive ? "No new runs can be started; existing runs continue." : "Runs can be started again, also by schedules."}</p>`,
    run: async () => {
      toast((await put(`api/workflows/${workflow.id}/${isActive ? "deactivate" : "activate"}`)).message);
      reload();
    },
  });
}

function askToDelete({ id, name }) {
  ask({
    title: `Delete ${name}?`,
    confirm: "Delete",
    danger: true,
    confirmWith: name,
    content: html`<p>Its definition is removed; its runs continue and can still be retried.</p>`,
    run: async () => {
      toast((await remove(`api/workflows/${id}`)).message);
      go(href("workflows"));
    },
  });
}
