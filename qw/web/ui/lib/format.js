/** Formats numbers, durations, sizes and times for people. */
import { ExactNumber } from "./exact-json.js";

const WHOLE = new Intl.NumberFormat("en");
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** 12345 → "12,345". */
export function whole(value) {
  if (value === null || value === undefined) return "–";
  if (value instanceof ExactNumber) return WHOLE.format(BigInt(value.text));
  return WHOLE.format(value);
}

/** 1234567 → "1.2M"; up to 9,999 in full. */
export function short(value) {
  if (value === null || value === undefined) return "–";
  const number = Number(value);
  return Math.abs(number) < 10_000 ? WHOLE.format(Math.round(number)) : SHORT.format(number);
}

/** 1234567 → "≈ 1.2M" if it is an estimate. */
export function counted(value, isEstimate) {
  return isEstimate ? `≈ ${SHORT.format(value)}` : whole(value);
}

/** A rate per minute: "0", "<0.1", "0.4", "1,200". */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  if (value > 0 && value < 0.05) return "<0.1";
  if (value > 0 && value < 9.95) return value.toFixed(1);
  return short(value);
}

const UNITS = [
  ["d", 86_400],
  ["h", 3600],
  ["m", 60],
];

/** Seconds → "340 ms", "2.4 s", "3 m 12 s", "2 d 4 h"; never negative. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const all = Math.max(0, Number(seconds));
  if (all < 0.0005) return "0 ms";
  if (all < 1) return `${Math.round(all * 1000)} ms`;
  if (all < 9.95) return `${all.toFixed(1)} s`;
  if (all < 60) return `${Math.floor(all)} s`;
  const at = UNITS.findIndex(([, size]) => all >= size);
  const [unit, size] = UNITS[at];
  const [nextUnit, nextSize] = UNITS[at + 1] ?? ["s", 1];
  const rest = Math.floor((all % size) / nextSize);
  return `${Math.floor(all / size)} ${unit}${rest ? ` ${rest} ${nextUnit}` : ""}`;
}

/** Return the seconds between two times, or until now; null without a start time. */
export function seconds(from, to = null, now = Date.now()) {
  if (!from) return null;
  return Math.max(0, ((to ? Date.parse(to) : now) - Date.parse(from)) / 1000);
}

/** Return "12 s ago", "in 3 m", or "now" within a second. */
export function ago(time, now = Date.now()) {
  const distance = (now - Date.parse(time)) / 1000;
  if (Math.abs(distance) < 1.5) return "now";
  const text = rough(Math.abs(distance));
  return distance > 0 ? `${text} ago` : `in ${text}`;
}

function rough(all) {
  if (all < 60) return `${Math.floor(all)} s`;
  const [unit, size] = UNITS.find(([, each]) => all >= each);
  return `${Math.floor(all / size)} ${unit}`;
}

/** Return the absolute time in the browser's zone or in UTC, to the millisecond. */
export function absolute(time, utc = false) {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return String(time);
  if (utc) return `${at.toISOString().replace("T", " ").replace("Z", "")} UTC`;
  const two = (number, width = 2) => String(number).padStart(width, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${two(at.getMilliseconds(), 3)}`;
  return `${day} ${clock} ${zone(at)}`;
}

/** Return "14:05:09.120" in the chosen zone. */
export function clockTime(time, utc = false) {
  return absolute(time, utc).slice(11, 23);
}

function zone(at) {
  const minutes = -at.getTimezoneOffset();
  const sign = minutes < 0 ? "−" : "+";
  const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  return `UTC${minutes === 0 ? "" : `${sign}${hours}${rest ? `:${String(rest).padStart(2, "0")}` : ""}`}`;
}

const SIZES = ["B", "kB", "MB", "GB", "TB"];

/** 1536 → "1.5 kB". */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  let size = Number(value);
  let unit = 0;
  while (size >= 1000 && unit < SIZES.length - 1) {
    size /= 1000;
    unit++;
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${SIZES[unit]}`;
}

/** Return the end of an id, which differs also between ids of the same millisecond. */
export function shortId(id) {
  return `${id.slice(0, 8)}…${id.slice(-4)}`;
}

export function plural(count, one, many = `${one}s`) {
  return `${whole(count)} ${Number(count) === 1 ? one : many}`;
}
