/** A client of the public HTTP API that keeps all digits of numbers and throws one kind of error. */
import { format, parse } from "./exact-json.js";
import { signal } from "./html.js";

/** Set when the server asks for a token; the shell then shows the login. */
export const needsLogin = signal(false);

/** The CSRF value that requests with changes must send if a cookie authenticates them. */
export const csrf = signal(null);

const BASE = new URL(".", document.baseURI);

/** An error. `status` 0: no response. `messages`: one or more sentences. `holder`: the task that holds the unique key. */
export class ApiError extends Error {
  constructor(status, messages, { code = "", holder = null } = {}) {
    super(messages.join("; "));
    this.name = "ApiError";
    this.status = status;
    this.messages = messages;
    this.code = code;
    this.holder = holder;
  }
}

/** Return the URL of an API path, relative to the path at which the page was served. */
export function address(path, query = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  return url;
}

export const get = (path, query, options) => request("GET", path, { query, ...options });
export const post = (path, body = {}, options) => request("POST", path, { body, ...options });
export const put = (path, body = {}, options) => request("PUT", path, { body, ...options });
export const remove = (path, options) => request("DELETE", path, options);

async function request(method, path, { query, body, signal: abort, headers = {} } = {}) {
  const init = { method, signal: abort, headers: { ...headers, accept: "application/json", "x-qw-client": "dashboard" } };
  if (method !== "GET" && csrf.value) init.headers["x-csrf-token"] = csrf.value;
  if (body !== undefined) {
    init.headers["content-type"] = "application/json";
    init.body = format(body, 0);
  }
  let answer, text;
  try {
    answer = await fetch(address(path, query), init);
    text = await answer.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, ["The server does not answer"]);
  }
  const content = parsed(text);
  if (!answer.ok) throw problem(answer, content);
  return content;
}

function parsed(text) {
  try {
    return parse(text);
  } catch {
    return text;
  }
}

function problem(answer, content) {
  if (answer.status === 401) needsLogin.value = true;
  const said = content?.message ?? content?.detail ?? `The server answered ${answer.status} ${answer.statusText}`.trim();
  return new ApiError(answer.status, Array.isArray(said) ? said : [String(said)], {
    code: content?.code,
    holder: content?.holder,
  });
}
