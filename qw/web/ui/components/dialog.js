/** Dialogs, as native `dialog` elements with their focus trap. `ask` opens one from anywhere. */
import { html, signal, useEffect, useRef, useState } from "../lib/html.js";
import { TaskLink } from "./bits.js";
import { Banner } from "./states.js";

const open = signal(null);

/**
 * Show a dialog. `content` is its text, or a component that gets `{close}`. `run` performs the action after confirmation;
 * if it fails, the dialog stays open and shows the error.
 * @param {{title: string, content: any, confirm?: string, danger?: boolean, wide?: boolean, confirmWith?: string, run?: () => Promise<void>}} options
 */
export function ask(options) {
  open.value = options;
}

export function closeDialog() {
  open.value = null;
}

export function Dialogs() {
  const options = open.value;
  return options && html`<${Dialog} key=${options.title} options=${options} />`;
}

function Dialog({ options }) {
  const element = useRef(null);
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const [typed, setTyped] = useState("");
  useEffect(() => {
    element.current.showModal();
    return () => element.current?.close();
  }, []);
  const close = () => !isBusy && closeDialog();
  const submit = async (event) => {
    event.preventDefault();
    if (!options.run) return close();
    setBusy(true);
    setError(null);
    try {
      const data = new FormData(event.target);
      await options.run(data);
      closeDialog();
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
    return undefined;
  };
  const isLocked = options.confirmWith !== undefined && typed !== options.confirmWith;
  const kind = options.danger ? "danger" : "primary";
  const Content = options.content;
  return html`<dialog ref=${element} class=${options.wide ? "wide" : ""} aria-labelledby="dialog-title" onClose=${closeDialog}
      onClick=${(event) => event.target === element.current && close()}>
    <form onSubmit=${submit}>
      <header><h2 id="dialog-title">${options.title}</h2></header>
      <div class="content">
        ${typeof Content === "function" ? html`<${Content} close=${close} />` : Content}
        ${options.confirmWith !== undefined &&
        html`<label class="field"><span class="label">Type <code>${options.confirmWith}</code> to confirm</span>
          <input class="input mono" autocomplete="off" autofocus value=${typed} onInput=${(event) => setTyped(event.target.value)} /></label>`}
        ${error && html`<${Problem} error=${error} />`}
      </div>
      <footer>
        <button type="button" class="button" onClick=${close}>${options.run ? "Back" : "Close"}</button>
        ${options.run &&
        html`<button type="submit" class="button ${kind}" disabled=${isBusy || isLocked}>${isBusy ? "Working…" : options.confirm}</button>`}
      </footer>
    </form>
  </dialog>`;
}

/** An error message, with a link to the task that holds the unique key, if that is the cause. */
export function Problem({ error }) {
  return html`<${Banner} tone="red">
    ${(error.messages ?? [error.message]).map((message) => html`<p>${message}</p>`)}
    ${error.holder && html`<p>The key is held by task <${TaskLink} id=${error.holder} full />.</p>`}
  </${Banner}>`;
}
