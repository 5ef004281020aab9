/** Splits a search into terms: qualifiers such as `status:failed`, `payload.customerId:"Zoe & Co"`, and text. The server interprets them. */

const TOKEN = /(?:([\w.[\]-]+):)?("(?:[^"\\]|\\.)*"?|\S*)/gy;

/** Return the terms as `[{text, field, value, start, end}]`; `field` is null for text. */
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

/** Return *query* without the term *text*. */
export function without(query, text) {
  const kept = tokens(query).filter((token) => token.text !== text);
  return kept.map((token) => token.text).join(" ");
}

/** Return *query* with `field:value` in place of its terms on the field; an empty value removes them. */
export function withField(query, field, value) {
  const kept = tokens(query).filter((token) => token.field !== field);
  const term = value ? [`${field}:${quoted(value)}`] : [];
  return [...term, ...kept.map((token) => token.text)].join(" ");
}

/** Return the value of the only term on *field*; null if there is none or several. */
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
