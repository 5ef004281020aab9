/** The words of a search: qualifiers as `status:failed`, `payload.customerId:"Zoe & Co"`, and texts. The server explains them; here they are only taken apart. */

const TOKEN = /(?:([\w.[\]-]+):)?("(?:[^"\\]|\\.)*"?|\S*)/gy;

/** `[{text, field, value, start, end}]`; `field` null for a text. */
export function tokens(query) {
  const found = [];
  let at = 0;
  while (at < query.length) {
    if (/\s/.test(query[at])) {
      at++;
      continue;
    }
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(query);
    if (!match?.[0]) {
      at++;
      continue;
    }
    const [text, field = null, value] = match;
    found.push({ text, field, value: unquoted(value), start: at, end: at + text.length });
    at += text.length;
  }
  return found;
}

/** *query* without the term *text*. */
export function without(query, text) {
  const kept = tokens(query).filter((token) => token.text !== text);
  return kept.map((token) => token.text).join(" ");
}

/** *query* with `field:value` instead of what it said about the field; an empty value removes it. */
export function withField(query, field, value) {
  const kept = tokens(query).filter((token) => token.field !== field);
  const term = value ? [`${field}:${quoted(value)}`] : [];
  return [...term, ...kept.map((token) => token.text)].join(" ");
}

/** The value of the only term about *field*, or null. */
export function valueOf(query, field) {
  const about = tokens(query).filter((token) => token.field === field);
  return about.length === 1 ? about[0].value : null;
}

export function quoted(value) {
  return /^[^\s"\\]+$/.test(value) ? value : JSON.stringify(value);
}

function unquoted(value) {
  if (!value.startsWith('"')) return value;
  try {
    return JSON.parse(value);
  } catch {
    return value.slice(1);
  }
}
