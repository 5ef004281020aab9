/** The steps of a workflow as a graph: laid out by dagre, dragged and zoomed, opened so that it can be read. */
import { duration, seconds, whole } from "../lib/format.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib/html.js";
import { now } from "../lib/now.js";
import { toneOf } from "./bits.js";
import { Icon } from "./icon.js";
import { Skeleton } from "./states.js";

const WIDTH = 190;
const HEIGHT = 50;
const LETTERS = 22;
const LEAST_ZOOM = 0.15;
const MOST_ZOOM = 2;
const READABLE = 0.6; // the first look is not smaller than this

let library = null;

/** @param {{steps: object[], selected: string|null, onSelect: (id: string) => void, follow?: boolean}} props */
export function Graph({ steps, selected, onSelect, follow = false }) {
  const [dagre, setDagre] = useState(null);
  useEffect(() => {
    library ??= import("../vendor/dagre.js");
    library.then(setDagre);
  }, []);
  const shape = JSON.stringify(steps.map(({ id, needs, compensates }) => [id, needs, compensates]));
  const layout = useMemo(() => dagre && laidOut(dagre, steps), [dagre, shape]);
  if (!layout) return html`<div class="graph"><${Skeleton} rows=${5} /></div>`;
  return html`<${Canvas} layout=${layout} steps=${new Map(steps.map((step) => [step.id, step]))} selected=${selected} onSelect=${onSelect} follow=${follow} />`;
}

function laidOut(dagre, steps) {
  const graph = new (dagre.graphlib?.Graph ?? dagre.default.graphlib.Graph)();
  graph.setGraph({ rankdir: "LR", nodesep: 18, ranksep: 44, edgesep: 12, marginx: 16, marginy: 16 });
  graph.setDefaultEdgeLabel(() => ({}));
  const ids = new Set(steps.map(({ id }) => id));
  for (const { id } of steps) graph.setNode(id, { width: WIDTH, height: HEIGHT });
  for (const { id, needs, compensates } of steps) {
    for (const need of needs ?? []) if (ids.has(need)) graph.setEdge(need, id);
    if (ids.has(compensates)) graph.setEdge(compensates, id);
  }
  (dagre.layout ?? dagre.default.layout)(graph);
  const { width, height } = graph.graph();
  const columns = [...new Set(graph.nodes().map((id) => graph.node(id).x))];
  return {
    width: Math.max(width, WIDTH),
    height: Math.max(height, HEIGHT),
    nodes: graph.nodes().map((id) => ({ id, ...graph.node(id) })),
    edges: graph.edges().map(({ v, w }) => ({ from: v, to: w, path: curve(graph.node(v), graph.node(w), graph.edge(v, w).points, columns) })),
  };
}

/**
 * From the right side of one node to the left side of the other, level through the columns between: dagre keeps a place
 * free there, so that no edge crosses a node.
 */
function curve(from, to, points, columns) {
  const stops = [{ x: from.x + WIDTH / 2, y: from.y }];
  for (const { x, y } of points.slice(1, -1)) {
    if (!columns.some((column) => Math.abs(column - x) < 1)) continue;
    stops.push({ x: x - WIDTH / 2, y }, { x: x + WIDTH / 2, y });
  }
  stops.push({ x: to.x - WIDTH / 2, y: to.y });
  let path = `M${stops[0].x} ${stops[0].y}`;
  for (let at = 1; at < stops.length; at++) {
    const [before, next] = [stops[at - 1], stops[at]];
    const middle = (before.x + next.x) / 2;
    path += before.y === next.y ? `L${next.x} ${next.y}` : `C${middle} ${before.y} ${middle} ${next.y} ${next.x} ${next.y}`;
  }
  const { x, y } = stops.at(-1);
  return `${path}M${x - 6} ${y - 4}L${x} ${y}L${x - 6} ${y + 4}`;
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
    if (size && !view) setView(opening(layout, size));
  }, [size, layout]);
  const running = follow ? [...steps.values()].find(({ status }) => status === "running")?.id : null;
  useEffect(() => {
    const node = layout.nodes.find(({ id }) => id === running);
    if (node && size && view) setView({ ...view, x: size.width / 2 - node.x * view.zoom, y: size.height / 2 - node.y * view.zoom });
  }, [running]);
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
    if (event.target.closest("[role=button], button")) return;
    drag.current = { x: event.clientX - view.x, y: event.clientY - view.y };
    event.currentTarget.setPointerCapture(event.pointerId);
  };
  const move = (event) => drag.current && setView({ ...view, x: event.clientX - drag.current.x, y: event.clientY - drag.current.y });
  const height = Math.min(520, Math.max(200, layout.height + 40));
  return html`<div class="graph" ref=${box} style=${{ height: `${height}px` }} onPointerDown=${down} onPointerMove=${move} onPointerUp=${() => (drag.current = null)}>
    ${view &&
    html`<svg width="100%" height="100%" role="group" aria-label="Graph of the steps">
      <g transform="translate(${view.x} ${view.y}) scale(${view.zoom})">
        ${layout.edges.map((edge) => html`<path class="edge ${edgeClass(edge, steps)}" d=${edge.path} />`)}
        ${layout.nodes.map((node) => html`<${Node} key=${node.id} node=${node} step=${steps.get(node.id)} isSelected=${node.id === selected} onSelect=${onSelect} />`)}
      </g>
    </svg>`}
    <div class="graph-tools">
      <button type="button" class="button icon small" aria-label="Zoom in" onClick=${() => zoom(1.25)}><${Icon} name="plus" /></button>
      <button type="button" class="button icon small" aria-label="Zoom out" onClick=${() => zoom(0.8)}><${Icon} name="minus" /></button>
      <button type="button" class="button icon small" aria-label="Show all" onClick=${() => setView(fitted(layout, size))}><${Icon} name="fit" /></button>
    </div>
  </div>`;
}

function fitted(layout, size) {
  const zoom = Math.max(LEAST_ZOOM, Math.min(1, size.width / layout.width, size.height / layout.height));
  return { zoom, x: Math.max(0, (size.width - layout.width * zoom) / 2), y: Math.max(0, (size.height - layout.height * zoom) / 2) };
}

/** All of it if that can be read, else its beginning. */
function opening(layout, size) {
  const all = fitted(layout, size);
  if (all.zoom >= READABLE) return all;
  return { zoom: READABLE + 0.15, x: 0, y: Math.min(0, (size.height - layout.height * (READABLE + 0.15)) / 2) };
}

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
  const label = step.compensates ? `undo ${step.compensates}` : step.id;
  return html`<g class="node ${toneOf(step.status)} ${isSelected ? "selected" : ""} ${step.compensates ? "undo" : ""} ${step.startedAt ? "" : "idle"}" role="button" tabindex="0"
      aria-label="${label}: ${step.status}" aria-pressed=${isSelected} transform="translate(${node.x - WIDTH / 2} ${node.y - HEIGHT / 2})" onClick=${select} onKeyDown=${press}>
    <title>${label} · ${step.type} · ${step.status}</title>
    <rect width=${WIDTH} height=${HEIGHT} rx="8" />
    <rect class="edge-mark" x="0" y="10" width="4" height=${HEIGHT - 20} rx="2" />
    <svg width=${WIDTH - 4} height=${HEIGHT}><text class="name" x="14" y="21">${cut(label)}</text>
      <text class="about" x="14" y="38">${cut(about(step), LETTERS + 5)}</text></svg>
  </g>`;
}

const cut = (text, most = LETTERS) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** The line below the name. */
function about(step) {
  const { items } = step;
  if (items) return `${whole(items.completed + (items.failed ?? 0))} of ${whole(items.total)} done${items.failed ? `, ${whole(items.failed)} failed` : ""}`;
  if (!step.startedAt) return step.type;
  if (step.status === "skipped") return "skipped";
  return `${step.status} · ${duration(seconds(step.startedAt, step.finishedAt, now.value))}`;
}
