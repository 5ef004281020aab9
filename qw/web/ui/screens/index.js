/** The screens by the first part of their URL; each is loaded when it is first shown. */

/** `load` returns a module whose default export renders the screen from `{parts, query}`. */
export const SCREENS = [
  { name: "", title: "Overview", icon: "overview", key: "o", load: () => import("./overview.js") },
  { name: "tasks", title: "Tasks", icon: "tasks", key: "t", load: () => import("./tasks.js"), one: () => import("./task.js") },
  { name: "runs", title: "Runs", icon: "runs", key: "r", load: () => import("./runs.js"), one: () => import("./run.js") },
  {
    name: "workflows",
    title: "Workflows",
    icon: "workflows",
    key: "w",
    load: () => import("./workflows.js"),
    one: () => import("./workflow.js"),
  },
  {
    name: "schedules",
    title: "Schedules",
    icon: "schedules",
    key: "s",
    load: () => import("./schedules.js"),
    one: () => import("./schedule.js"),
  },
  { name: "queues", title: "Queues", icon: "queues", key: "q", load: () => import("./queues.js"), one: () => import("./queue.js") },
  { name: "workers", title: "Workers", icon: "workers", key: "k", load: () => import("./workers.js") },
  { name: "events", title: "Events", icon: "events", key: "e", load: () => import("./events.js"), isApart: true },
  { name: "database", title: "Database", icon: "database", key: "d", load: () => import("./database.js") },
  { name: "audit", title: "Audit", icon: "audit", key: "a", load: () => import("./audit.js") },
];

/** Return the screen at a URL as `{screen, load}`, or null. */
export function screenAt(parts) {
  const screen = SCREENS.find(({ name }) => name === (parts[0] ?? ""));
  if (!screen || parts.length > 2 || (parts.length === 2 && !screen.one)) return null;
  return { screen, load: parts.length === 2 ? screen.one : screen.load };
}
