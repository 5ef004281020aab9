/** The log of a task: it is followed while the task runs, and can be filtered by level and text, and downloaded. */
import { get } from "../lib/api.js";
import { plain, spans } from "../lib/ansi.js";
import { absolute, clockTime, whole } from "../lib/format.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../lib/html.js";
import { paused } from "../lib/live.js";
import { utc } from "../lib/preferences.js";
import { Icon } from "./icon.js";
import { Card, Segments } from "./bits.js";
import { Empty, Failure, Skeleton } from "./states.js";

const PAGE = 1000; // lines per request
const MOST = 20_000; // lines kept in memory: the last ones of a longer log
const DRAWN = 500; // lines rendered initially
const EVERY = 1000;
const LEVELS = [
  ["", "All"],
  ["WARNING", "Warnings"],
  ["ERROR", "Errors"],
];
const RANK = { DEBUG: 0, INFO: 1, WARNING: 2, ERROR: 3 };

export function LogView({ id, isRunning }) {
  const { lines, error, isLoaded, isCut } = useLog(id, isRunning);
  const [level, setLevel] = useState("");
  const [search, setSearch] = useState("");
  const [isFollowing, setFollowing] = useState(true);
  const [most, setMost] = useState(DRAWN);
  const box = useRef(null);
  const wanted = search.toLowerCase();
  const found = lines.filter((line) => (!level || RANK[line.level] >= RANK[level]) && (!wanted || plain(line.message).toLowerCase().includes(wanted)));
  const shown = found.slice(-most);
  useLayoutEffect(() => {
    if (isFollowing && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [found.length, isFollowing, level]);
  const scrolled = ({ currentTarget: { scrollTop, scrollHeight, clientHeight } }) => setFollowing(scrollHeight - scrollTop - clientHeight < 30);
  const aside = html`
    ${lines.length > 0 &&
    html`<input class="input json-search" type="search" placeholder="Find" aria-label="Find in the log" value=${search} onInput=${(event) => setSearch(event.target.value)} />
      <${Segments} label="Level" value=${level} options=${LEVELS} onChange=${setLevel} />
      <button type="button" class="button small" onClick=${() => download(id, lines)}><${Icon} name="download" />Download</button>`}`;
  return html`<${Card} title="Log" label="Log" aside=${aside}>
    ${error && html`<div class="body"><${Failure} error=${error} what="The log" /></div>`}
    ${!isLoaded && !error && html`<${Skeleton} rows=${4} height=${14} />`}
    ${isLoaded && lines.length === 0 && html`<${Empty} compact title="No log lines">${isRunning ? "They appear here as they are written." : "The handler wrote nothing to its log."}</${Empty}>`}
    ${lines.length > 0 &&
    html`<div class="log" ref=${box} onScroll=${scrolled} role="log" aria-label="Log lines" tabindex="0">
      ${isCut && html`<p class="muted line"><span></span><span></span>Older lines are left out; qw task logs shows them all.</p>`}
      ${found.length > shown.length && html`<button type="button" class="button small bare" onClick=${() => setMost(most + 5000)}>${whole(found.length - shown.length)} lines before</button>`}
      ${shown.map((line) => html`<${Line} key=${line.id} line=${line} search=${wanted} />`)}
      ${found.length === 0 && html`<p class="line muted"><span></span><span></span>No line matches.</p>`}
    </div>`}
    ${isRunning && lines.length > 0 && !isFollowing && html`<button type="button" class="new-rows" onClick=${() => setFollowing(true)}>Follow the end</button>`}
  </${Card}>`;
}

function Line({ line }) {
  return html`<div class="line">
    <time datetime=${line.createdAt} title=${absolute(line.createdAt, utc.value)}>${clockTime(line.createdAt, utc.value)}</time>
    <span class="level level-${line.level}">${line.level}</span>
    <span class="text" dir="auto">${spans(line.message).map(({ text, classes }) => (classes ? html`<span class=${classes}>${text}</span>` : text))}</span>
  </div>`;
}

/** Load all lines, and new ones while the task runs. */
function useLog(id, isRunning) {
  const [state, setState] = useState({ lines: [], error: null, isLoaded: false, isCut: false });
  const last = useRef(0);
  useEffect(() => {
    let timer;
    const abort = new AbortController();
    const look = async () => {
      try {
        if (!document.hidden && !(paused.value && last.current)) await readOn(id, last, setState, abort.signal);
      } catch (error) {
        if (abort.signal.aborted) return;
        setState((before) => ({ ...before, error }));
      }
      if (isRunning && !abort.signal.aborted) timer = setTimeout(look, EVERY);
    };
    look();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [id, isRunning]);
  return state;
}

async function readOn(id, last, setState, signal) {
  for (;;) {
    const { logs } = await get(`api/task/${id}/logs`, { after: last.current }, { signal });
    last.current = logs.at(-1)?.id ?? last.current;
    setState((before) => {
      const lines = logs.length ? [...before.lines, ...logs] : before.lines;
      return { lines: lines.slice(-MOST), error: null, isLoaded: true, isCut: before.isCut || lines.length > MOST };
    });
    if (logs.length < PAGE) return;
  }
}

function download(id, lines) {
  const text = lines.map((line) => `${line.createdAt} ${line.level} ${plain(line.message)}\n`).join("");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = `${id}.log`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
