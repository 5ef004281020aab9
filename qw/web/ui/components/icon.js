/** Line icons on a 16 pixel grid. */
import { html } from "../lib/html.js";

const PATHS = {
  overview: "M2 13V8m4 5V3m4 10V6m4 7v-3",
  tasks: "M3 4h1M3 8h1M3 12h1M7 4h6M7 8h6M7 12h6",
  runs: "M4 3.5h0M4 3v7a2 2 0 0 0 2 2h4M4 6h5a2 2 0 0 0 2-2M12.5 12h0M12.5 3.5h0",
  workflows: "M2 2.5h4v4H2zM10 2.5h4v4h-4zM6 11h4v3H6zM4 6.5V8h8V6.5M8 8v3",
  schedules: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 5v3.2l2.2 1.4",
  queues: "M2 3h12v3H2zM2 9.5h8M2 13h5",
  workers: "M2.5 2.5h11v4h-11zM2.5 9.5h11v4h-11zM5 4.5h0M5 11.5h0",
  events: "M2 8h3l2-5 3 10 2-5h2",
  database: "M3 4c0-2.4 10-2.4 10 0S3 6.4 3 4zM3 4v8c0 2.4 10 2.4 10 0V4M3 8c0 2.4 10 2.4 10 0",
  audit: "M4 2h6l3 3v9H4zM10 2v3h3M6.5 8.5h4M6.5 11h3",
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM14 14l-3.5-3.5",
  close: "M4 4l8 8M12 4l-8 8",
  menu: "M2 4h12M2 8h12M2 12h12",
  more: "M3.5 8h0M8 8h0M12.5 8h0",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  play: "M5 3l8 5-8 5z",
  retry: "M13 8a5 5 0 1 1-1.6-3.7M13 2v3h-3",
  cancel: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM4 12l8-8",
  undo: "M3 7h7a3 3 0 0 1 0 6H7M6 4L3 7l3 3",
  copy: "M6 6h7v7H6zM4 10H3V3h7v1",
  check: "M3 8.5l3.3 3.3L13 5",
  warning: "M8 2l6.5 11.5h-13zM8 6.5v3.3M8 11.7h0",
  info: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 7.3v3.7M8 5h0",
  columns: "M2.5 3h11v10h-11zM6.2 3v10M9.8 3v10",
  download: "M8 2v8M5 7.5L8 10.5l3-3M3 13.5h10",
  sun: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM8 1.5v1M8 13.5v1M1.5 8h1M13.5 8h1M3.4 3.4l.7.7M11.9 11.9l.7.7M3.4 12.6l.7-.7M11.9 4.1l.7-.7",
  moon: "M13 9.5A5.5 5.5 0 1 1 6.5 3a4.5 4.5 0 0 0 6.5 6.5z",
  plus: "M8 3v10M3 8h10",
  edit: "M3 13l.7-3L11 2.7 13.3 5 6 12.3zM9.5 4.2l2.3 2.3",
  trash: "M3 4.5h10M6 4.5V3h4v1.5M4.5 4.5l.5 9h6l.5-9",
  fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  minus: "M3 8h10",
  eye: "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8zM8 10a2 2 0 1 0 0-4 2 2 0 0 0 0 4z",
  logout: "M6 3H3v10h3M7 8h7M11 5l3 3-3 3",
  signal: "M3 13c0-5.5 4.5-10 10-10M6.5 13A6.5 6.5 0 0 1 13 6.5M12 12h0",
  chevron: "M6 4l4 4-4 4",
};

/** The address of the logo. */
export const LOGO = document.querySelector("link[rel=icon]").href;

export function Icon({ name, label }) {
  return html`<svg class="icon" viewBox="0 0 16 16" role=${label && "img"} aria-label=${label} aria-hidden=${label ? undefined : "true"}>
    <path d=${PATHS[name]} />
  </svg>`;
}
