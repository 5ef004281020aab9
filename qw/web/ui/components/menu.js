/** A button with a list of actions below it. `items` are `{text, icon, run, href, danger}`; null leaves one out. */
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { Icon } from "./icon.js";

export function Menu({ label, icon = "more", items, children, small }) {
  const [isOpen, setOpen] = useState(false);
  const element = useRef(null);
  useEffect(() => {
    if (!isOpen) return undefined;
    const outside = (event) => {
      if (event.type === "keydown" ? event.key === "Escape" : !element.current?.contains(event.target)) setOpen(false);
    };
    document.addEventListener("pointerdown", outside);
    document.addEventListener("keydown", outside);
    return () => {
      document.removeEventListener("pointerdown", outside);
      document.removeEventListener("keydown", outside);
    };
  }, [isOpen]);
  const shown = items?.filter(Boolean);
  if (shown?.length === 0) return null;
  return html`<div class="menu" ref=${element} onClick=${(event) => event.stopPropagation()}>
    <button type="button" class="button ${small ? "small" : ""} ${icon === "more" ? "icon bare" : ""}" aria-label=${label} title=${label}
        aria-expanded=${isOpen} onClick=${() => setOpen(!isOpen)}>
      <${Icon} name=${icon} />${icon !== "more" && label}
    </button>
    ${isOpen && html`<ul>${children ?? shown.map((item) => html`<li class=${item.danger ? "danger" : ""}><${Item} item=${item} onDone=${() => setOpen(false)} /></li>`)}</ul>`}
  </div>`;
}

function Item({ item, onDone }) {
  const content = html`${item.icon && html`<${Icon} name=${item.icon} />`}${item.text}`;
  if (item.href) return html`<a href=${item.href} onClick=${onDone}>${content}</a>`;
  const click = () => {
    onDone();
    item.run();
  };
  return html`<button type="button" onClick=${click}>${content}</button>`;
}
