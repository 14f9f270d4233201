// The frame of the page: navigation, banner, sign-in, and which page is shown.
import { html, remembered, render, useEffect, useNow, useRef, useState, useStore } from "./lib.js";
import { post, readSession, session } from "./api.js";
import { alarms, fleet, live, start, stop } from "./live.js";
import { Link, route } from "./router.js";
import { duration, severityRank } from "./format.js";
import { Toasts } from "./toast.js";
import { Fleet } from "./pages/fleet.js";
import { SignIn } from "./pages/signin.js";

const ICONS = {
  fleet: html`<path d="M4 6h16M4 12h16M4 18h16"/>`,
  map: html`<path d="M9 4 3 6.5v13L9 17l6 3 6-2.5v-13L15 7 9 4zM9 4v13M15 7v13"/>`,
  alarms: html`<path d="M6 16V11a6 6 0 0 1 12 0v5l1.5 2.5h-15zM10 21h4"/>`,
  pipeline: html`<path d="M3 12h4m10 0h4M7 8h10v8H7z"/>`,
  ask: html`<path d="m5 8 4 4-4 4M12 17h7"/>`,
};
const NAV = [["/fleet", "Fleet", "fleet"], ["/map", "Map", "map"], ["/alarms", "Alarms", "alarms"], ["/pipeline", "Pipeline", "pipeline"], ["/ask", "Ask", "ask"]];
const LATER = {
  "/device": () => import("./pages/device.js").then((module) => module.Device),
  "/map": () => import("./pages/map.js").then((module) => module.MapPage),
  "/alarms": () => import("./pages/alarms.js").then((module) => module.Alarms),
  "/pipeline": () => import("./pages/pipeline.js").then((module) => module.Pipeline),
  "/ask": () => import("./pages/ask.js").then((module) => module.Ask),
};
const TITLES = { "/fleet": "Fleet", "/device": "Device", "/map": "Map", "/alarms": "Alarms", "/pipeline": "Pipeline", "/ask": "Ask" };
const OLD_MS = 60000;

function Page({ path }) {
  const [pages, setPages] = useState({ "/fleet": Fleet });
  const [error, setError] = useState(null);
  useEffect(() => {
    if (pages[path] || !LATER[path]) return;
    LATER[path]().then((page) => setPages((known) => ({ ...known, [path]: page })), () => setError(path));
  }, [path]);
  const Shown = pages[path];
  if (Shown) return html`<${Shown} key=${path} />`;
  if (!LATER[path]) return html`<div class="page"><h1>There is no such page</h1><p><${Link} href="/fleet">To the fleet<//></p></div>`;
  return html`<div class="page"><h1>${TITLES[path]}</h1>${error === path ? html`<p class="problem" role="alert">This part of the page could not be loaded. <button type="button" onClick=${() => location.reload()}>Reload</button></p>` : null}</div>`;
}

/** What is wrong, if anything; null while everything flows. */
function trouble(now, { connection, since, state }) {
  if (connection === "lost") return ["bad", `No connection to the server for ${duration(now - since)}. What you see is as of then; trying again.`];
  if (!state) return null;
  if (state.problem) return ["bad", `Nothing new arrives: ${state.problem}. The tables are shown as they were published${state.published ? ` ${duration(now - state.published)} ago` : ""}.`];
  if (state.newest && now - state.newest > OLD_MS) return ["warn", `No device has reported anything for ${duration(now - state.newest)}.`];
  if (state.published && now - state.published > 10 * OLD_MS) return ["warn", `The tables were last published ${duration(now - state.published)} ago; live values are newer.`];
  return null;
}

function Banner() {
  const now = useNow(), state = useStore(live);
  const wrong = trouble(now, state);
  return html`<div class="banner-place" role="status" aria-live="polite">${wrong ? html`<p class=${`banner ${wrong[0]}`}>${wrong[1]}</p>` : null}</div>`;
}

function Pulse() {
  const { connection, state } = useStore(live), now = useNow();
  const fine = connection === "open" && state && !state.problem;
  const text = connection === "lost" ? "offline" : connection === "connecting" || !state ? "connecting" : state.problem ? "not live" : "live";
  return html`<span class=${`pulse ${fine ? "fine" : text === "connecting" ? "" : "bad"}`} title=${state?.newest ? `newest message ${duration(now - state.newest)} old` : ""}><i aria-hidden="true"></i>${text}</span>`;
}

function Theme() {
  const [theme, setTheme] = useState(document.documentElement.dataset.theme ?? "auto");
  const next = { auto: "light", light: "dark", dark: "auto" }[theme];
  const choose = () => {
    if (next === "auto") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = next;
    try { localStorage.setItem("fleetlake.theme", next); } catch { /* then it is forgotten */ }
    setTheme(next);
    dispatchEvent(new Event("fleetlake-theme"));
  };
  return html`<button type="button" class="theme" onClick=${choose} aria-label=${`Colours: ${theme}. Switch to ${next}`}>${{ auto: "◐", light: "☀", dark: "☾" }[theme]}<span class="wide">${theme}</span></button>`;
}

function useTitle(path) {
  useStore(alarms);
  const active = [...alarms.value.all.values()].filter((one) => one.status === "active");
  const known = useRef(null);
  useEffect(() => { document.title = `${active.length ? `(${active.length}) ` : ""}${TITLES[path] ?? "fleetlake"} · fleetlake`; }, [path, active.length]);
  useEffect(() => {
    const ids = new Set(active.filter((one) => severityRank(one.severity) <= 2).map((one) => one.alarm_id));
    if (known.current && alarms.value.loaded && remembered("sound", false) && [...ids].some((id) => !known.current.has(id))) beep();
    if (alarms.value.loaded) known.current = ids;
  }, [alarms.version]);
  return active.length;
}

function beep() {
  try {
    const audio = new AudioContext(), tone = audio.createOscillator(), volume = audio.createGain();
    tone.frequency.value = 660;
    volume.gain.setValueAtTime(0.15, audio.currentTime);
    volume.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + 0.5);
    tone.connect(volume).connect(audio.destination);
    tone.start();
    tone.stop(audio.currentTime + 0.5);
  } catch { /* a browser may forbid sound until the page was touched */ }
}

function App() {
  const { path } = useStore(route), who = useStore(session);
  const active = useTitle(path);
  useEffect(() => { if (who) start(); else if (who === false) stop(); }, [Boolean(who)]);
  if (who === false) return html`<${SignIn} onDone=${() => {}} /><${Toasts} />`;
  if (who === null) return html`<p class="boot" role="status">Loading the fleet…</p>`;
  const signOut = async () => { await post("/api/sign-out", {}); session.set(false); fleet.set({ ...fleet.value, devices: new Map(), loaded: false }); alarms.set({ all: new Map(), loaded: false, error: null }); };
  const here = path === "/device" ? "/fleet" : path;
  return html`<a class="skip" href="#main">Skip to content</a>
    <header class="top"><${Link} class="brand" href="/fleet"><img src="/static/icon.svg" alt="" width="24" height="24" /> fleetlake<//>
      <nav aria-label="Pages">${NAV.map(([target, name, icon]) => html`<${Link} href=${target} aria-current=${here === target ? "page" : undefined}><svg viewBox="0 0 24 24" aria-hidden="true">${ICONS[icon]}</svg><span>${name}</span>${icon === "alarms" && active ? html`<span class="badge" aria-label=${`${active} active`}>${active}</span>` : null}<//>`)}</nav>
      <div class="top-end"><${Pulse} /><${Theme} />${who.sign_in ? html`<button type="button" onClick=${signOut} title=${`${who.name}, ${who.role}`}>Sign out</button>` : null}</div></header>
    <${Banner} /><main id="main" tabindex="-1"><${Page} path=${path} /></main><${Toasts} />`;
}

const root = document.getElementById("app");
root.textContent = "";
render(html`<${App} />`, root);
readSession().catch((error) => { root.textContent = ""; render(html`<p class="boot problem" role="alert">${error.message}. <button type="button" onClick=${() => location.reload()}>Try again</button></p>`, root); });
