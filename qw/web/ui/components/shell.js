/** The frame of every screen: navigation, connection state, theme and user; or the login instead. */
import { needsLogin } from "../lib/api.js";
import { duration } from "../lib/format.js";
import { html, useEffect, useErrorBoundary, useRef, useState } from "../lib/html.js";
import { useKeys } from "../lib/keyboard.js";
import { lostAt, paused, setPaused, state } from "../lib/live.js";
import { now } from "../lib/now.js";
import { theme, utc } from "../lib/preferences.js";
import { go, href, place } from "../lib/router.js";
import { logout, session } from "../lib/session.js";
import { SCREENS, screenAt } from "../screens/index.js";
import { Dialogs } from "./dialog.js";
import { showKeys } from "./help.js";
import { Icon, LOGO } from "./icon.js";
import { Login } from "./login.js";
import { Menu } from "./menu.js";
import { Empty, Failure, Skeleton } from "./states.js";
import { Toasts } from "./toast.js";

export function Shell() {
  useKeys({
    "?": { about: "Show the keys", run: showKeys },
    p: { about: "Pause or resume live updates", run: () => setPaused(!paused.value) },
    ...Object.fromEntries(SCREENS.map(({ name, title, key }) => [`g ${key}`, { about: `Go to ${title.toLowerCase()}`, run: () => go(href(...(name ? [name] : []))) }])),
  });
  if (needsLogin.value) return html`<${Login} />`;
  return html`<div class="frame">
    <a class="skip" href="#main">Skip to content</a>
    <${Sidebar} />
    <${Topbar} />
    <main class="main" id="main" tabindex="-1"><${CurrentScreen} /></main>
    <${Dialogs} />
    <${Toasts} />
  </div>`;
}

function CurrentScreen() {
  const { parts, query } = place.value;
  const found = screenAt(parts);
  const [loaded, setLoaded] = useState({});
  useEffect(() => {
    if (!found) return;
    const load = found.load;
    load().then(
      (module) => setLoaded({ load, Screen: module.default }),
      (error) => setLoaded({ load, error }),
    );
  }, [found?.load]);
  useEffect(() => {
    document.title = found ? `${parts[1] ?? found.screen.title} · qw` : "Not found · qw";
  }, [place.value.path]);
  if (!found) return html`<${NotFound} />`;
  if (loaded.load !== found.load) return html`<div class="page"><h1>${found.screen.title}</h1><section class="card"><${Skeleton} /></section></div>`;
  if (loaded.error) return html`<${Failure} error=${loaded.error} what="This screen" onRetry=${() => location.reload()} />`;
  return html`<${Guarded} key=${parts.join("/")} Screen=${loaded.Screen} parts=${parts} query=${query} />`;
}

/** An error boundary: a bug in one screen leaves the others usable. */
function Guarded({ Screen, parts, query }) {
  const [error, again] = useErrorBoundary();
  if (error) return html`<div class="page"><${Failure} error=${error} what="This screen" onRetry=${again} /></div>`;
  return html`<${Screen} parts=${parts} query=${query} />`;
}

function NotFound() {
  return html`<div class="page"><section class="card">
    <${Empty} title="There is no such page"><a href=${href()}>Go to the overview</a></${Empty}>
  </section></div>`;
}

function Sidebar({ onGo }) {
  const current = place.value.parts[0] ?? "";
  return html`<div class="sidebar">
    <a class="brand" href=${href()} onClick=${onGo}><img src=${LOGO} alt="" />qw</a>
    <nav class="nav" aria-label="Screens">
      ${SCREENS.map(
        ({ name, title, icon, isApart }) => html`${isApart && html`<hr />`}
          <a href=${href(...(name ? [name] : []))} aria-current=${name === current ? "page" : undefined} onClick=${onGo}>
            <${Icon} name=${icon} />${title}
          </a>`,
      )}
    </nav>
    <div class="foot">
      <${LiveState} />
      <${Who} />
    </div>
  </div>`;
}

function Topbar() {
  const [isOpen, setOpen] = useState(false);
  const title = screenAt(place.value.parts)?.screen.title ?? "qw";
  return html`<div class="topbar">
    <button type="button" class="button bare icon" aria-label="Menu" onClick=${() => setOpen(true)}><${Icon} name="menu" /></button>
    <strong>${title}</strong>
    <span class="push"></span>
    <${LiveState} />
    ${isOpen && html`<${Drawer} onClose=${() => setOpen(false)} />`}
  </div>`;
}

function Drawer({ onClose }) {
  const element = useRef(null);
  useEffect(() => {
    element.current.showModal();
  }, []);
  return html`<dialog class="drawer" ref=${element} aria-label="Menu" onClose=${onClose} onClick=${(event) => event.target === element.current && onClose()}>
    <${Sidebar} onGo=${onClose} />
  </dialog>`;
}

const LIVE = {
  live: ["green", "Live"],
  connecting: ["gray", "Connecting…"],
  paused: ["amber", "Paused"],
};

/** The connection state, and a button that pauses live updates. */
function LiveState() {
  const [tone, text] = LIVE[state.value] ?? ["red", `Reconnecting, lost ${duration(Math.round((now.value - lostAt.value) / 1000))} ago`];
  const action = paused.value ? "Resume live updates" : "Pause live updates";
  return html`<div class="row">
    <span class="dot tone-${tone}"></span><span class="small muted" role="status">${text}</span>
    <button type="button" class="button bare icon small push" aria-label=${action} title="${action} (p)" aria-pressed=${paused.value}
        onClick=${() => setPaused(!paused.value)}>
      <${Icon} name=${paused.value ? "play" : "pause"} />
    </button>
  </div>`;
}

const THEMES = { system: "light", light: "dark", dark: "system" };

function Who() {
  const { name, role, loginRequired, version, readOnly } = session.value;
  return html`<div class="row">
    <span class="small muted cut" title="qw ${version}">${loginRequired ? `${name} · ${role}` : `qw ${version}`}${readOnly && " · read-only"}</span>
    <span class="push row">
      <button type="button" class="button bare icon small" aria-label="Theme: ${theme.value}" title="Theme: ${theme.value}" onClick=${() => (theme.value = THEMES[theme.value])}>
        <${Icon} name=${theme.value === "dark" ? "moon" : "sun"} />
      </button>
      ${loginRequired &&
      html`<button type="button" class="button bare icon small" aria-label="Sign out" title="Sign out" onClick=${logout}><${Icon} name="logout" /></button>`}
    </span>
  </div>`;
}

/** The page if nothing could be loaded. */
export function StartFailure({ error, onRetry }) {
  return html`<main class="main"><div class="page"><${Failure} error=${error} onRetry=${onRetry} what="The dashboard" /></div></main>`;
}
