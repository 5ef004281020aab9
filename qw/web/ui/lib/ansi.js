/** Converts terminal colours (ANSI sequences) to spans of text; all other control sequences are removed. */

const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
const SEQUENCE = new RegExp(
  [
    "\\x1b\\[([0-?]*)[ -/]*([@-~])", // CSI
    "\\x1b\\][^\\x07\\x1b]*(?:\\x07|\\x1b\\\\)?", // OSC: titles, links
    "\\x1b[PX^_][^\\x1b]*(?:\\x1b\\\\)?", // DCS, SOS, PM, APC strings
    "\\x1b[@-_]?",
    "[\\x00-\\x08\\x0b-\\x1a\\x1c-\\x1f\\x7f\\x9b]",
  ].join("|"),
  "g",
);

/** Split *text* into `{text, classes}`. */
export function spans(text) {
  const found = [];
  let style = {};
  let from = 0;
  const add = (part) => part && found.push({ text: part, classes: classes(style) });
  for (const match of text.matchAll(SEQUENCE)) {
    add(text.slice(from, match.index));
    from = match.index + match[0].length;
    if (match[2] === "m") style = styled(style, match[1]);
  }
  add(text.slice(from));
  return found;
}

/** Return *text* without control sequences. */
export function plain(text) {
  return text.replace(SEQUENCE, "");
}

function styled(style, codes) {
  const next = { ...style };
  const numbers = codes.split(/[;:]/).map(Number);
  for (let at = 0; at < numbers.length; at++) {
    const code = numbers[at];
    if (code === 0) Object.keys(next).forEach((key) => delete next[key]);
    else if (code === 1) next.bold = true;
    else if (code === 2) next.dim = true;
    else if (code === 3) next.italic = true;
    else if (code === 4) next.underline = true;
    else if (code === 22) next.bold = next.dim = false;
    else if (code === 23) next.italic = false;
    else if (code === 24) next.underline = false;
    else if (code >= 30 && code <= 37) next.colour = NAMES[code - 30];
    else if (code >= 90 && code <= 97) next.colour = NAMES[code - 90];
    else if (code === 39) next.colour = null;
    else if (code === 38 || code === 48) at += numbers[at + 1] === 5 ? 2 : 4; // skip 256-colour and RGB parameters
  }
  return next;
}

function classes(style) {
  const marks = ["bold", "dim", "italic", "underline"].filter((mark) => style[mark]);
  return [...marks, style.colour].filter(Boolean).map((name) => `ansi-${name}`).join(" ");
}
