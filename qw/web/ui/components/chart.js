/** Time series charts with uPlot: stacked bars or lines, with a legend that shows the values at the cursor. */
import { html, useEffect, useLayoutEffect, useRef, useState } from "../lib/html.js";
import { theme } from "../lib/preferences.js";
import uPlot from "../vendor/uplot.js";

/**
 * @param {{label: string, times: number[], series: {name: string, color: string, values: (number|null)[]}[],
 *          kind: "bars"|"lines", format: (value: number) => string, height?: number}} props
 *        `times` are seconds since 1970; `color` names a custom property of the style sheet.
 */
export function Chart({ label, times, series, kind, format, height = 190, onRange }) {
  const host = useRef(null);
  const plot = useRef(null);
  const [at, setAt] = useState(null);
  const data = kind === "bars" ? [times, ...stacked(series).reverse()] : [times, ...series.map(({ values }) => values)];
  const shape = JSON.stringify([kind, series.map(({ name }) => name), height, theme.value]);

  useEffect(() => {
    const options = optionsFor({ series, kind, format, height, width: host.current.clientWidth, setAt, onRange });
    plot.current = new uPlot(options, data, host.current);
    const observer = new ResizeObserver(([{ contentRect }]) => plot.current?.setSize({ width: contentRect.width, height }));
    observer.observe(host.current);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const redraw = () => plot.current?.redraw();
    scheme.addEventListener("change", redraw);
    return () => {
      observer.disconnect();
      scheme.removeEventListener("change", redraw);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [shape]);

  useLayoutEffect(() => plot.current?.setData(data), [JSON.stringify(data)]);

  const index = at !== null && at < times.length ? at : null;
  return html`<figure class="chart" aria-label=${label}>
    <div class="legend">
      ${series.map(({ name, color, values }) => {
        const value = index === null ? lastOf(values, kind) : values[index];
        return html`<span><i style=${{ "--color": `var(${color})` }}></i>${name} <b>${value === null || value === undefined ? "–" : format(value)}</b></span>`;
      })}
      <span class="push">${index === null ? (kind === "bars" ? "total" : "latest") : moment(times[index])}</span>
    </div>
    <div ref=${host} style=${{ height: `${height}px` }}></div>
  </figure>`;
}

function lastOf(values, kind) {
  if (kind === "bars") return values.reduce((sum, value) => sum + (value ?? 0), 0);
  return values.findLast((value) => value !== null && value !== undefined);
}

function moment(time) {
  return new Date(time * 1000).toLocaleString("en-GB", { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
}

/** Return the cumulative sums of the series; the first series is at the bottom. */
function stacked(series) {
  const sums = new Array(series[0]?.values.length ?? 0).fill(0);
  return series.map(({ values }) => values.map((value, at) => (sums[at] += value ?? 0)));
}

function optionsFor({ series, kind, format, height, width, setAt, onRange }) {
  const styles = getComputedStyle(document.body);
  const color = (name) => () => resolved(name);
  const bars = uPlot.paths.bars({ size: [0.82, 24], gap: 0 });
  const drawn = kind === "bars" ? [...series].reverse() : series; // draw the highest sum first, the lower ones over it
  const axis = { stroke: color("--muted"), grid: { stroke: color("--chart-grid"), width: 1 }, ticks: { show: false }, font: `11px ${styles.fontFamily}` };
  return {
    width,
    height,
    legend: { show: false },
    padding: [8, 18, 0, 0],
    cursor: { y: false, points: { show: kind === "lines", size: 6 }, drag: { x: Boolean(onRange), y: false, setScale: false } },
    scales: {
      x: { range: (u, min, max) => (kind === "bars" ? aroundBars(u.data[0], min, max) : [min, max]) },
      y: { range: (_, min, max) => [0, Math.max(max * 1.08, kind === "bars" ? 4 : 0.01)] },
    },
    axes: [
      { ...axis, grid: { show: false }, size: 26, space: 70, values: (_, splits) => splits.map((split, at) => tick(split, splits, at)) },
      { ...axis, size: 54, space: 34, values: (_, splits) => splits.map((split) => (split === 0 ? "0" : format(split))) },
    ],
    series: [
      {},
      ...drawn.map((each) =>
        kind === "bars"
          ? { label: each.name, fill: color(each.color), stroke: color(each.color), width: 0, paths: bars, points: { show: false } }
          : { label: each.name, stroke: color(each.color), width: 1.6, points: { show: false }, spanGaps: false },
      ),
    ],
    hooks: {
      setCursor: [(u) => setAt(u.cursor.idx ?? null)],
      setSelect: onRange ? [(u) => u.select.width > 4 && onRange(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"))] : [],
    },
    drawOrder: ["axes", "series"],
  };
}

/** Extend the range by half a bar at both ends. */
function aroundBars(times, min, max) {
  const half = times.length > 1 ? (times[1] - times[0]) / 2 : 30;
  return [min - half, max + half];
}

function tick(split, splits, at) {
  const date = new Date(split * 1000);
  const step = splits.length > 1 ? splits[1] - splits[0] : 0;
  const isDay = step >= 86_400 || (date.getHours() === 0 && date.getMinutes() === 0);
  if (isDay) return date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  return date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
}

const probe = document.createElement("i");

/** Return the colour of a custom property in the current theme; a canvas does not support `light-dark()`. */
function resolved(name) {
  if (!probe.isConnected) {
    probe.hidden = true;
    document.body.append(probe);
  }
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

/** A small bar chart of values per minute. */
export function Sparkline({ values, label }) {
  const most = Math.max(1, ...values);
  const step = 120 / Math.max(1, values.length);
  const path = values
    .map((value, at) => {
      const height = value === 0 ? 0.75 : Math.max(1.5, (value / most) * 24);
      return `M${(at * step).toFixed(1)} ${(24 - height).toFixed(1)}h${(step * 0.75).toFixed(2)}V24h${(-step * 0.75).toFixed(2)}z`;
    })
    .join("");
  return html`<svg class="spark" viewBox="0 0 120 24" role="img" aria-label=${label}><path d=${path} /></svg>`;
}
