/** The steps of a workflow as a graph that can be dragged and zoomed. It opens at a step that needs attention, and draws only visible nodes. */
import { duration, seconds, whole } from "../lib/format.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib/html.js";
import { layered } from "../lib/layers.js";
import { now } from "../lib/now.js";
import { toneOf } from "./bits.js";
import { Icon } from "./icon.js";

const SIZE = { width: 190, height: 50, gapX: 46, gapY: 18, bendY: 12 };
const MARGIN = 16;
const LETTERS = 22;
const LEAST_ZOOM = 0.05;
const MOST_ZOOM = 2;
const READABLE = 0.6; // the smallest zoom of the initial view
const MOST_NODES = 150; // visible nodes beyond which all are drawn as rectangles without text
const MAP = { width: 170, height: 110 };

/** @param {{steps: object[], selected: string|null, onSelect: (id: string) => void, follow?: boolean}} props */
export function Graph({ steps, selected, onSelect, follow = false }) {
  const shape = JSON.stringify(steps.map(({ id, needs, compensates }) => [id, needs, compensates]));
  const layout = useMemo(() => laidOut(steps), [shape]);
  return html`<${Canvas} layout=${layout} steps=${new Map(steps.map((step) => [step.id, step]))} selected=${selected} onSelect=${onSelect} follow=${follow} />`;
}

function laidOut(steps) {
  const edges = steps.flatMap(({ id, needs, compensates }) => [...(needs ?? []), ...(compensates ? [compensates] : [])].map((need) => [need, id]));
  const found = layered(steps.map(({ id }) => id), edges, SIZE);
  const placed = ({ x, y }) => ({ x: x + MARGIN, y: y + MARGIN });
  const places = new Map([...found.nodes].map(([id, place]) => [id, placed(place)]));
  return {
    width: found.width + 2 * MARGIN,
    height: found.height + 2 * MARGIN,
    nodes: [...places].map(([id, place]) => ({ id, ...place })),
    edges: found.edges.map(({ from, to, bends }) => ({ from, to, path: curve(places.get(from), places.get(to), bends.map(placed)) })),
  };
}

/** Return the path from the right side of one node to the left side of the other, level in the columns between. */
function curve(from, to, bends) {
  const half = SIZE.width / 2;
  const stops = [{ x: from.x + half, y: from.y }];
  for (const { x, y } of bends) stops.push({ x: x - half, y }, { x: x + half, y });
  stops.push({ x: to.x - half, y: to.y });
  const at = ({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  let path = `M${at(stops[0])}`;
  for (let index = 1; index < stops.length; index++) {
    const [before, next] = [stops[index - 1], stops[index]];
    const middle = (before.x + next.x) / 2;
    const isLevel = Math.abs(before.y - next.y) < 0.5;
    path += isLevel ? `L${at(next)}` : `C${at({ x: middle, y: before.y })} ${at({ x: middle, y: next.y })} ${at(next)}`;
  }
  const { x, y } = stops.at(-1);
  return `${path}M${at({ x: x - 6, y: y - 4 })}L${at({ x, y })}L${at({ x: x - 6, y: y + 4 })}`;
}

function Canvas({ layout, steps, selected, onSelect, follow }) {
  const box = useRef(null);
  const [view, setView] = useState(null);
  const [size, setSize] = useState(null);
  const drag = useRef(null);
  useEffect(() => {
    const observer = new ResizeObserver(([{ contentRect }]) => setSize({ width: contentRect.width, height: contentRect.height }));
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    if (size && !view) setView(opening(layout, size, steps, selected));
  }, [size, layout]);
  const running = follow ? [...steps.values()].find(({ status }) => status === "running")?.id : null;
  useEffect(() => {
    const node = layout.nodes.find(({ id }) => id === (running ?? selected));
    if (node && view && (running || !isSeen(node, view, size))) setView(centred(node, view.zoom, size, layout));
  }, [running, selected]);
  const zoom = (factor, at = { x: size.width / 2, y: size.height / 2 }) => setView(zoomed(view, factor, at));
  useEffect(() => {
    const element = box.current;
    const wheel = (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const { left, top } = element.getBoundingClientRect();
      setView((before) => before && zoomed(before, Math.exp(-event.deltaY / 300), { x: event.clientX - left, y: event.clientY - top }));
    };
    element.addEventListener("wheel", wheel, { passive: false });
    return () => element.removeEventListener("wheel", wheel);
  }, []);
  const down = (event) => {
    if (event.target.closest("[role=button], button, .graph-map")) return;
    drag.current = { x: event.clientX - view.x, y: event.clientY - view.y };
    event.currentTarget.setPointerCapture(event.pointerId);
  };
  const move = (event) => drag.current && setView({ ...view, x: event.clientX - drag.current.x, y: event.clientY - drag.current.y });
  const up = (event) => {
    const from = drag.current;
    drag.current = null;
    if (!from || Math.abs(event.clientX - from.x - view.x) + Math.abs(event.clientY - from.y - view.y) > 4 || seen.length <= MOST_NODES) return;
    const { left, top } = box.current.getBoundingClientRect();
    const node = nodeAt(layout, { x: (event.clientX - left - view.x) / view.zoom, y: (event.clientY - top - view.y) / view.zoom });
    if (node) onSelect(node.id);
  };
  const seen = view && size ? layout.nodes.filter((node) => isSeen(node, view, size, SIZE.width)) : [];
  const isWhole = view && size && layout.width * view.zoom <= size.width + 1 && layout.height * view.zoom <= size.height + 1;
  const height = Math.min(520, Math.max(200, layout.height + 40));
  return html`<div class="graph" ref=${box} style=${{ height: `${height}px` }} onPointerDown=${down} onPointerMove=${move} onPointerUp=${up}>
    ${view &&
    html`<svg width="100%" height="100%" role="group" aria-label="Graph of the steps">
      <g transform="translate(${view.x} ${view.y}) scale(${view.zoom})">
        <${Edges} layout=${layout} steps=${steps} />
        ${seen.length > MOST_NODES
          ? html`<${Far} layout=${layout} steps=${steps} selected=${selected} />`
          : seen.map((node) => html`<${Node} key=${node.id} node=${node} step=${steps.get(node.id)} isSelected=${node.id === selected} onSelect=${onSelect} />`)}
      </g>
    </svg>`}
    ${view && !isWhole && layout.nodes.length > 12 && html`<${Overview} layout=${layout} steps=${steps} view=${view} size=${size} setView=${setView} />`}
    <div class="graph-tools">
      <button type="button" class="button icon small" aria-label="Zoom in" title="Zoom in (Ctrl + wheel)" onClick=${() => zoom(1.25)}><${Icon} name="plus" /></button>
      <button type="button" class="button icon small" aria-label="Zoom out" title="Zoom out (Ctrl + wheel)" onClick=${() => zoom(0.8)}><${Icon} name="minus" /></button>
      <button type="button" class="button icon small" aria-label="Show all" title="Show all" onClick=${() => setView(fitted(layout, size))}><${Icon} name="fit" /></button>
    </div>
  </div>`;
}

/** Draw all edges of a kind as one path: thousands of elements would make a large graph slow. */
function Edges({ layout, steps }) {
  const paths = { "": "", taken: "", undo: "" };
  for (const edge of layout.edges) paths[edgeClass(edge, steps)] += edge.path;
  return html`${Object.entries(paths).map(([kind, path]) => path && html`<path key=${kind} class="edge ${kind}" d=${path} />`)}`;
}

/** Draw all nodes as rectangles without text. */
function Far({ layout, steps, selected }) {
  const paths = new Map();
  for (const { id, x, y } of layout.nodes) {
    const step = steps.get(id);
    const kind = `${toneOf(step.status)} ${id === selected ? "selected" : step.startedAt ? "" : "idle"}`;
    paths.set(kind, `${paths.get(kind) ?? ""}M${(x - SIZE.width / 2).toFixed(0)} ${(y - SIZE.height / 2).toFixed(0)}h${SIZE.width}v${SIZE.height}h${-SIZE.width}z`);
  }
  return html`${[...paths].map(([kind, path]) => html`<path key=${kind} class="far ${kind}" d=${path} />`)}`;
}

/** A map of the graph with the visible part; a click or a drag moves the view. */
function Overview({ layout, steps, view, size, setView }) {
  const scale = Math.min(MAP.width / layout.width, MAP.height / layout.height);
  const go = (event) => {
    if (event.buttons !== 1) return;
    const { left, top } = event.currentTarget.getBoundingClientRect();
    setView(centred({ x: (event.clientX - left) / scale, y: (event.clientY - top) / scale }, view.zoom, size, layout));
  };
  return html`<svg class="graph-map" aria-hidden="true" width=${layout.width * scale} height=${layout.height * scale} viewBox="0 0 ${layout.width} ${layout.height}" onPointerDown=${go} onPointerMove=${go}>
    <${Far} layout=${layout} steps=${steps} />
    <rect class="window" x=${-view.x / view.zoom} y=${-view.y / view.zoom} width=${size.width / view.zoom} height=${size.height / view.zoom} />
  </svg>`;
}

function fitted(layout, size) {
  const zoom = Math.max(LEAST_ZOOM, Math.min(1, size.width / layout.width, size.height / layout.height));
  return { zoom, x: Math.max(0, (size.width - layout.width * zoom) / 2), y: Math.max(0, (size.height - layout.height * zoom) / 2) };
}

/** Return the initial view: everything if it is readable, otherwise the selected, a failed or a running step, otherwise the start. */
function opening(layout, size, steps, selected) {
  const all = fitted(layout, size);
  if (all.zoom >= READABLE) return all;
  const zoom = READABLE + 0.15;
  const first = (status) => layout.nodes.find(({ id }) => steps.get(id).status === status);
  const node = layout.nodes.find(({ id }) => id === selected) ?? first("failed") ?? first("running");
  if (!node) return { zoom, x: 0, y: Math.min(0, (size.height - layout.height * zoom) / 2) };
  return centred(node, zoom, size, layout);
}

/** Return the view with *node* in the middle, limited by the edges of the graph. */
function centred({ x, y }, zoom, size, layout) {
  const within = (place, room, all) => (all <= room ? (room - all) / 2 : Math.min(0, Math.max(room - all, room / 2 - place)));
  return { zoom, x: within(x * zoom, size.width, layout.width * zoom), y: within(y * zoom, size.height, layout.height * zoom) };
}

function isSeen({ x, y }, { zoom, x: left, y: top }, size, margin = 0) {
  const [atX, atY, by] = [x * zoom + left, y * zoom + top, margin * zoom];
  return atX > -by && atX < size.width + by && atY > -by && atY < size.height + by;
}

const nodeAt = (layout, { x, y }) => layout.nodes.find((node) => Math.abs(node.x - x) <= SIZE.width / 2 && Math.abs(node.y - y) <= SIZE.height / 2);

function zoomed(view, factor, { x, y }) {
  const zoom = Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, view.zoom * factor));
  const by = zoom / view.zoom;
  return { zoom, x: x - (x - view.x) * by, y: y - (y - view.y) * by };
}

function edgeClass({ from, to }, steps) {
  if (steps.get(to)?.compensates === from) return "undo";
  return steps.get(from)?.finishedAt && !["waiting", "pending"].includes(steps.get(to)?.status) ? "taken" : "";
}

function Node({ node, step, isSelected, onSelect }) {
  const select = () => onSelect(node.id);
  const press = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    select();
  };
  const { width, height } = SIZE;
  const label = step.compensates ? `undo ${step.compensates}` : step.id;
  const done = step.items?.total ? (step.items.completed + (step.items.failed ?? 0)) / step.items.total : null;
  return html`<g class="node ${toneOf(step.status)} ${isSelected ? "selected" : ""} ${step.compensates ? "undo" : ""} ${step.startedAt ? "" : "idle"}" role="button" tabindex="0"
      aria-label="${label}: ${step.status}" aria-pressed=${isSelected} transform="translate(${node.x - width / 2} ${node.y - height / 2})" onClick=${select} onKeyDown=${press}>
    <title>${label} · ${step.type} · ${step.status}</title>
    <rect width=${width} height=${height} rx="8" />
    <rect class="edge-mark" x="0" y="10" width="4" height=${height - 20} rx="2" />
    <svg width=${width - 4} height=${height}><text class="name" x="14" y="21">${cut(label)}</text>
      <text class="about" x="14" y="38">${cut(about(step), LETTERS + 5)}</text></svg>
    ${done !== null && html`<rect class="part-all" x="14" y=${height - 7} width=${width - 28} height="3" rx="1.5" /><rect class="part" x="14" y=${height - 7} width=${(width - 28) * done} height="3" rx="1.5" />`}
  </g>`;
}

const cut = (text, most = LETTERS) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** Return the text below the name of a step. */
function about(step) {
  const { items } = step;
  if (items) return `${whole(items.completed + (items.failed ?? 0))} of ${whole(items.total)} done${items.failed ? `, ${whole(items.failed)} failed` : ""}`;
  if (!step.startedAt) return step.type;
  if (step.status === "skipped") return "skipped";
  return `${step.status} · ${duration(seconds(step.startedAt, step.finishedAt, now.value))}`;
}
