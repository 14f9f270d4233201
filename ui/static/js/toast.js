// Short messages that go by themselves.
import { Store, html, useStore } from "./lib.js";

const shown = new Store([]);
let next = 0;

export function toast(text, kind = "") {
  const one = { key: next++, text, kind };
  shown.set([...shown.value.slice(-2), one]);
  setTimeout(() => shown.set(shown.value.filter((other) => other !== one)), 6000);
}

export function Toasts() {
  return html`<div class="toasts" role="status" aria-live="polite">${useStore(shown).map((one) => html`<p key=${one.key} class=${one.kind}>${one.text}</p>`)}</div>`;
}
