/** The only module that imports the rendering libraries: `html` templates, hooks and signals. */
import { Fragment, h, render } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

// Do not let htm reuse the elements of templates without values: each refresh would keep the previous tree alive,
// 3 to 5 kB on the page of a run.
const NO_REUSE = 3;

export const html = htm.bind(function create() {
  this[0] = NO_REUSE;
  return h(...arguments);
});
export { Fragment, render };
export { useCallback, useEffect, useErrorBoundary, useId, useLayoutEffect, useMemo, useRef, useState } from "../vendor/preact-hooks.js";
export { batch, computed, effect, signal, untracked } from "../vendor/signals.js";
