/** All schedules: their times in words, the next tick and the last outcomes. */
import { get } from "../lib/api.js";
import { absolute, whole } from "../lib/format.js";
import { html } from "../lib/html.js";
import { utc } from "../lib/preferences.js";
import { useResource } from "../lib/resource.js";
import { go, href, setQuery } from "../lib/router.js";
import { useRows } from "../lib/rows.js";
import { mayOperate } from "../lib/session.js";
import { Time } from "../components/bits.js";
import { askForSchedule } from "../components/edit-schedule.js";
import { FireMarks } from "../components/fires.js";
import { Icon } from "../components/icon.js";
import { Menu } from "../components/menu.js";
import { askToBackfill, askToTrigger, switchPause } from "../components/schedule-actions.js";
import { Empty, Loaded } from "../components/states.js";

const PAGE = 100;

export default function Schedules({ query }) {
  const after = query.get("after") ?? "";
  const schedules = useResource((options) => get("api/schedules", { limit: PAGE, after, next: 5, fires: 14 }, options), [after]);
  const found = schedules.data?.schedules ?? [];
  const rows = useRows(found, { idOf: ({ name }) => name, onOpen: ({ name }) => go(href("schedules", name)) });
  return html`<div class="page">
    <div class="page-head"><h1>Schedules</h1>
      <div class="actions">${mayOperate.value && html`<button type="button" class="button primary" onClick=${() => askForSchedule(null, schedules.reload)}><${Icon} name="plus" />New schedule</button>`}</div></div>
    <${Loaded} resource=${schedules} what="The schedules">
      ${(data) =>
        data.schedules.length === 0 && !after
          ? html`<section class="card"><${Empty} title="No schedules" command="qw schedule add nightly --cron '0 3 * * *' --type noop">They start tasks and runs at given times.</${Empty}></section>`
          : html`<section class="card" aria-label="Schedules"><div class="scroll"><table>
              <thead><tr><th>Schedule</th><th>When</th><th class="hide-narrow">Starts</th><th class="number">Next</th><th class="hide-phone">Last ticks</th><th></th></tr></thead>
              <tbody>${data.schedules.map((each) => html`<${Row} key=${each.name} schedule=${each} isCurrent=${rows.current === each.name} reload=${schedules.reload} />`)}</tbody>
            </table></div>
            ${(data.nextCursor || after) &&
            html`<footer><span>Showing ${whole(data.schedules.length)} by name</span><span class="push row">
              ${after && html`<button type="button" class="button small" onClick=${() => setQuery({ after: null })}>First</button>`}
              ${data.nextCursor && html`<button type="button" class="button small" onClick=${() => setQuery({ after: data.nextCursor }, { replace: false })}>More</button>`}</span></footer>`}
          </section>`}
    </${Loaded}>
  </div>`;
}

function Row({ schedule, isCurrent, reload }) {
  const { name, when, paused, broken, nextTick } = schedule;
  const open = (event) => !event.target.closest("a, button, time, label") && go(href("schedules", name));
  const next = (schedule.nextTicks ?? []).map(({ utc: at }) => absolute(at, utc.value)).join("\n");
  return html`<tr class="link ${isCurrent ? "current" : ""}" data-row=${name} onClick=${open}>
    <td><a href=${href("schedules", name)}><strong>${name}</strong></a> ${paused && html`<span class="badge tone-amber">paused</span>`}
      ${broken && html`<span class="badge tone-red" title=${broken}>broken</span>`}</td>
    <td>${when}</td>
    <td class="hide-narrow"><${Target} schedule=${schedule} /></td>
    <td class="number"><span title=${next}><${Time} at=${paused ? null : nextTick} empty=${paused ? "paused" : "never"} /></span></td>
    <td class="hide-phone"><${FireMarks} fires=${schedule.lastFires ?? []} label="Last ticks of ${name}" /></td>
    <td class="right">${mayOperate.value && html`<${Menu} label="Actions for ${name}" small items=${[
      { text: "Trigger now", icon: "play", run: () => askToTrigger(schedule, reload) },
      { text: paused ? "Resume" : "Pause", icon: paused ? "play" : "pause", run: () => switchPause(schedule, reload) },
      { text: "Backfill", icon: "retry", run: () => askToBackfill(schedule, reload) },
      { text: "Edit", icon: "edit", run: () => askForSchedule(schedule, reload) },
    ]} />`}</td>
  </tr>`;
}

export function Target({ schedule }) {
  const { workflow, type } = schedule;
  return workflow ? html`<a href=${href("runs", { workflow })}>${workflow}</a> <span class="muted small">run</span>` : html`<a href=${href("tasks", { q: `type:${type}` })}>${type}</a> <span class="muted small">task</span>`;
}
