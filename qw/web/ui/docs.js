/** The API reference: Swagger UI over /openapi.json. Its requests use the session of the dashboard. */
import { effect } from "./lib/html.js";
import { theme } from "./lib/preferences.js";

const system = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", theme.value === "dark" || (theme.value === "system" && system.matches));
effect(paint);
system.addEventListener("change", paint);

const at = (path) => new URL(path, document.baseURI).href;
const found = await fetch(at("openapi.json")).then((answer) => answer.json());
const session = await fetch(at("api/ui/session")).then((answer) => answer.json());

window.SwaggerUIBundle({
  spec: { ...found, servers: [{ url: at("./").replace(/\/$/, "") }] },
  domNode: document.getElementById("docs"),
  deepLinking: true,
  docExpansion: "list",
  filter: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  requestInterceptor: (request) => {
    if (session.csrf && !request.headers.Authorization) request.headers["X-CSRF-Token"] = session.csrf;
    return request;
  },
});
