/** One schedule: its times and the outcomes of its ticks. */
import { get } from "../lib/api.js";
import { absolute, duration } from "../lib/format.js";
import { html } from "../lib/html.js";
import { utc } from "../lib/preferences.js";
import { useResource } from "../lib/resource.js";
import { href } from "../lib/router.js";
import { mayOperate } from "../lib/session.js";
import { Card, Command, Facts, Moment, Time } from "../components/bits.js";
import { askForSchedule } from "../components/edit-schedule.js";
import { FireTable } from "../components/fires.js";
import { Icon } from "../components/icon.js";
import { JsonTree } from "../components/json-tree.js";
import { Menu } from "../components/menu.js";
import { askToBackfill, askToRemove, askToTrigger, switchPause } from "../components/schedule-actions.js";
import { Banner, Empty, Loaded } from "../components/states.js";
import { Target } from "./schedules.js";

export default function ScheduleScreen({ parts }) {
  const name = parts[1];
  const path = `api/schedules/${encodeURIComponent(name)}`;
  const schedule = useResource((options) => get(path, {}, options), [name]);
  if (schedule.data === undefined && schedule.error?.status === 404) {
    return html`<div class="page"><section class="card"><${Empty} title="There is no schedule ${name}"><a href=${href("schedules")}>All schedules</a></${Empty}></section></div>`;
  }
  return html`<div class="page">
    <div class="crumbs"><a href=${href("schedules")}>Schedules</a><span>/</span><span class="cut">${name}</span></div>
    <${Loaded} resource=${schedule} what="The schedule">${(data) => html`<${Schedule} schedule=${data} path=${path} reload=${schedule.reload} />`}</${Loaded}>
  </div>`;
}

function Schedule({ schedule, path, reload }) {
  const next = useResource((options) => get(`${path}/next`, { count: 5 }, options), [path, schedule.updatedAt]);
  const fires = useResource((options) => get(`${path}/fires`, { limit: 50 }, options), [path]);
  const { name, paused, broken } = schedule;
  return html`
    <div class="page-head">
      <h1 class="wrap">${name}</h1>${paused && html`<span class="badge tone-amber">paused</span>`}
      <span class="muted">${schedule.when}</span>
      <div class="actions">${mayOperate.value && html`
        <button type="button" class="button primary" onClick=${() => askToTrigger(schedule, fires.reload)}><${Icon} name="play" />Trigger now</button>
        <button type="button" class="button" onClick=${() => switchPause(schedule, reload)}><${Icon} name=${paused ? "play" : "pause"} />${paused ? "Resume" : "Pause"}</button>
        <${Menu} label="More" items=${[
          { text: "Edit", icon: "edit", run: () => askForSchedule(schedule, reload) },
          { text: "Backfill", icon: "retry", run: () => askToBackfill(schedule, fires.reload) },
          { text: "Delete", icon: "trash", danger: true, run: () => askToRemove(schedule) },
        ]} />`}</div>
    </div>
    ${broken && html`<${Banner} tone="red"><strong>It does not fire:</strong> ${broken}</${Banner}>`}
    <div class="columns uneven">
      <${Card} title="Past ticks"><${Loaded} resource=${fires} what="The ticks">
        ${(data) => (data.fires.length === 0 ? html`<${Empty} compact title="No tick yet">Next: <${Time} at=${schedule.nextTick} empty="never" /></${Empty}>` : html`<div class="scroll"><${FireTable} fires=${data.fires} /></div>`)}
      </${Loaded}></${Card}>
      <div class="stack">
        <${Card} title="Next ticks"><div class="body">
          <${Loaded} resource=${next} what="The next ticks">${(data) => html`<${Ticks} ticks=${data.ticks} paused=${paused} />`}</${Loaded}></div></${Card}>
        <${Card} title="Details"><div class="body stack">
          <${Facts} facts=${[
            ["Starts", html`<${Target} schedule=${schedule} />`],
            ["Description", schedule.description],
            ["Cron", schedule.cron && html`<code>${schedule.cron}</code>`],
            ["Time zone", schedule.timezone],
            ["Overlap", schedule.overlap],
            ["Missed ticks", schedule.misfire],
            ["Jitter", schedule.jitterSeconds > 0 && duration(schedule.jitterSeconds)],
            ["Changed", html`<${Moment} at=${schedule.updatedAt} />`],
          ].map(([term, content]) => [term, content || null])} />
          <div><${Command} text=${`qw schedule trigger ${name}`} /></div></div></${Card}>
        <${Card} title=${schedule.workflow ? "Input" : "Payload"}><div class="body"><${JsonTree} value=${schedule.input ?? schedule.payload ?? {}} label="payload" /></div></${Card}>
      </div>
    </div>`;
}

function Ticks({ ticks, paused }) {
  if (ticks.length === 0) return html`<span class="muted">It does not fire again.</span>`;
  return html`<ol class="stack tight">${ticks.map(
    (tick) => html`<li class="${paused ? "muted" : ""}">
      <div class="row wide"><span title=${absolute(tick.utc, utc.value)}>${tick.local.slice(0, 19).replace("T", " ")} ${tick.zone}</span><span class="muted small"><${Time} at=${tick.utc} /></span></div>
      ${tick.note && html`<div class="small text-amber">${tick.note}</div>`}
    </li>`,
  )}</ol>`;
}
