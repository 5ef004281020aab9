/** The login form for an access token. */
import { html, useState } from "../lib/html.js";
import { login, session } from "../lib/session.js";
import { LOGO } from "./icon.js";
import { Banner } from "./states.js";

export function Login() {
  const [error, setError] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await login(new FormData(event.target).get("token").trim());
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  return html`<main class="login">
    <form class="card" onSubmit=${submit}>
      <div class="body stack">
        <h1 class="row"><img src=${LOGO} alt="" width="28" height="28" />Sign in to qw</h1>
        ${session.value?.authenticated && !error && html`<${Banner}>Your session has ended. Sign in again to go on where you were.</${Banner}>`}
        <label class="field"><span class="label">Access token</span>
          <input class="input mono" type="password" name="token" required autofocus autocomplete="current-password" aria-invalid=${Boolean(error)} />
          <span class="hint">One of <code>QW_API_TOKENS</code>. Its role decides what you may do.</span></label>
        ${error && html`<${Banner} tone="red">${error.status === 401 ? "The server does not know this token." : error.message}</${Banner}>`}
        <button type="submit" class="button primary" disabled=${isBusy}>Sign in</button>
      </div>
    </form>
  </main>`;
}
