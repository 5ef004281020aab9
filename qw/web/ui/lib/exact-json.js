/**
 * A JSON parser that keeps all digits: numbers that a double cannot represent keep their text.
 * Most documents contain no such number and are parsed by the browser.
 */

/** A number with its original text. */
export class ExactNumber {
  constructor(text) {
    this.text = text;
  }
  toString() {
    return this.text;
  }
  /** For `JSON.stringify`, which loses digits; `format` keeps them. */
  toJSON() {
    return Number(this.text);
  }
}

const LONG_NUMBER = /(?:^|[[:,])\s*(?:-?[\d.]{16}|-?[\d.]+[eE])/; // does not match digits inside strings, such as ids

/** Parse *text*; throws SyntaxError as `JSON.parse` does. */
export function parse(text) {
  const value = JSON.parse(text);
  return LONG_NUMBER.test(text) ? new Parser(text).document() : value;
}

/** Return *value* as JSON text with sorted keys and all digits. */
export function format(value, indent = 2) {
  return write(value, " ".repeat(indent), "");
}

export function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value) && !(value instanceof ExactNumber);
}

export function sortedKeys(object) {
  return Object.keys(object).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
}

function write(value, step, margin) {
  if (value instanceof ExactNumber) return value.text;
  if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "null";
  const inner = margin + step;
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const parts = Array.isArray(value)
    ? value.map((item) => write(item, step, inner))
    : sortedKeys(value).map((key) => `${JSON.stringify(key)}:${step && " "}${write(value[key], step, inner)}`);
  if (parts.length === 0) return open + close;
  return step ? `${open}\n${inner}${parts.join(`,\n${inner}`)}\n${margin}${close}` : open + parts.join(",") + close;
}

/** Parses text that the browser's parser has already accepted. */
class Parser {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  document() {
    this.space();
    return this.value();
  }

  space() {
    while (" \n\r\t".includes(this.text[this.at] ?? "x")) this.at++;
  }

  value() {
    switch (this.text[this.at]) {
      case "{":
        return this.object();
      case "[":
        return this.array();
      case '"':
        return this.string();
      case "t":
        return this.word("true", true);
      case "f":
        return this.word("false", false);
      case "n":
        return this.word("null", null);
      default:
        return this.number();
    }
  }

  object() {
    const found = {};
    this.items("}", () => {
      const key = this.string();
      this.space();
      this.at++; // skip the colon
      this.space();
      Object.defineProperty(found, key, { value: this.value(), enumerable: true, writable: true, configurable: true });
    });
    return found;
  }

  array() {
    const found = [];
    this.items("]", () => found.push(this.value()));
    return found;
  }

  items(end, one) {
    this.at++;
    this.space();
    while (this.text[this.at] !== end) {
      one();
      this.space();
      if (this.text[this.at] === ",") this.at++;
      this.space();
    }
    this.at++;
  }

  string() {
    const start = this.at++;
    while (this.text[this.at] !== '"') this.at += this.text[this.at] === "\\" ? 2 : 1;
    return JSON.parse(this.text.slice(start, ++this.at));
  }

  word(text, value) {
    this.at += text.length;
    return value;
  }

  number() {
    const text = /[-+\d.eE]+/y;
    text.lastIndex = this.at;
    const digits = text.exec(this.text)[0];
    this.at += digits.length;
    return isExact(digits) ? Number(digits) : new ExactNumber(digits);
  }
}

function isExact(digits) {
  const number = Number(digits);
  if (String(number) === digits) return Number.isSafeInteger(number) || !Number.isInteger(number);
  return digits.length < 16 && !/e/i.test(digits);
}
