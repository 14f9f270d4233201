// Sign-in by a key of the alarm service.
import { html, useState } from "../lib.js";
import { post, readSession } from "../api.js";

export function SignIn({ onDone }) {
  const [key, setKey] = useState("");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem("");
    try { await post("/api/sign-in", { key }); await readSession(); onDone(); } catch (error) { setProblem(error.message); setBusy(false); }
  };
  return html`<main class="sign-in"><form onSubmit=${submit}><img src="/static/icon.svg" alt="" width="40" height="40" />
    <h1>Sign in to fleetlake</h1><p>With a key of the alarm service. <code>fleetlake alarms keys create NAME</code> makes one.</p>
    <label class="field"><span>Key</span><input type="password" name="key" autocomplete="current-password" required value=${key} onInput=${(event) => setKey(event.target.value)} autofocus /></label>
    ${problem ? html`<p class="problem" role="alert">${problem}</p>` : null}
    <button type="submit" class="primary" disabled=${busy}>${busy ? "Signing in…" : "Sign in"}</button></form></main>`;
}
