/** The one place that knows which libraries render: `html` templates, hooks and signals. */
import { Fragment, h, render } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

// htm would use the elements of a template without values again: then each refresh keeps the tree before it alive, 3 to
// 5 kB of a run's page.
const NO_REUSE = 3;

export const html = htm.bind(function create() {
  this[0] = NO_REUSE;
  return h(...arguments);
});
export { Fragment, render };
export { useCallback, useEffect, useErrorBoundary, useId, useLayoutEffect, useMemo, useRef, useState } from "../vendor/preact-hooks.js";
export { batch, computed, effect, signal, untracked } from "../vendor/signals.js";
