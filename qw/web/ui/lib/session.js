/** The user and their rights. Buttons that the user may not use are not shown. */
import { csrf, get, needsLogin, post } from "./api.js";
import { computed, signal } from "./html.js";

/** The response of `GET /api/ui/session`; null until it arrives. */
export const session = signal(null);

export const mayOperate = computed(() => Boolean(session.value?.mayOperate && !session.value.readOnly));
export const mayAdmin = computed(() => Boolean(session.value?.mayAdmin && !session.value.readOnly));

export async function loadSession() {
  take(await get("api/ui/session"));
}

export async function login(token) {
  take(await post("api/ui/login", { token }));
}

export async function logout() {
  await post("api/ui/logout");
  await loadSession();
}

function take(found) {
  session.value = found;
  csrf.value = found.csrf;
  needsLogin.value = !found.authenticated;
}
