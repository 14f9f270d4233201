// Device: everything that is known of one device, as it is now and over time.
import { html, useEffect, useInterval, useLoaded, useMemo, useNow, useRef, useState, useStore } from "../lib.js";
import { get } from "../api.js";
import { alarms, fleet, follow } from "../live.js";
import { Link, address, change, route } from "../router.js";
import { Age, Moment, dateTime, nativeId, number, unitText, utc, valueText } from "../format.js";
import { Battery, Empty, Loading, Presence, Problem, Segments, Severity, Vendor } from "../components.js";
import { Chart, colour } from "../chart.js";
import { presenceOf } from "./fleet.js";

const MINUTE = 60000, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const RANGES = { "15m": 15 * MINUTE, "1h": HOUR, "6h": 6 * HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY, "1y": 365 * DAY };
const FAVOURITES = ["battery.level", "environment.temperature", "environment.humidity", "network.signal_strength", "job.progress", "water.fresh", "cpu.temperature", "environment.pressure"];
const WIDTHS = { 0: "single readings", [MINUTE]: "means per minute", [HOUR]: "means per hour", [DAY]: "means per day" };

export function Device() {
  const { params } = useStore(route);
  const id = params.get("id") ?? "";
  const loaded = useLoaded(() => get("/api/device", { id }), [id]);
  const [readings, setReadings] = useState({});
  const [events, setEvents] = useState([]);
  const arrived = useRef([]);
  useEffect(() => {
    setReadings({});
    setEvents([]);
    return follow(id, (news) => {
      if (news === "resync") { loaded.reload(); return; }
      if (news.device_id !== id) return;
      setReadings((known) => ({ ...known, ...news.readings }));
      if (news.events.length) setEvents((known) => [...news.events, ...known].slice(0, 300));
      for (const listener of arrived.current) listener(news.readings);
    });
  }, [id]);
  useInterval(() => { if (loaded.error) loaded.reload(); }, 3000); // a new device is live before the tables have it
  const known = useStore(fleet);
  const row = known.devices.get(id);
  if (loaded.error && !loaded.data && !row) {
    return html`<div class="page"><h1>${nativeId(id) || "Device"}</h1>${loaded.error.status === 404
      ? html`<${Empty} title="Nobody has heard of this device">No registry names it, and it has sent nothing so far. <${Link} href="/fleet">All devices<//><//>`
      : html`<${Problem} error=${loaded.error} retry=${loaded.reload} />`}</div>`;
  }
  if (!loaded.data && !row) return html`<div class="page"><h1>${nativeId(id)}</h1><${Loading} what="Loading the device" lines=${10} /></div>`;
  const about = { ...row, ...loaded.data };
  const latest = new Map((loaded.data?.latest ?? []).map((one) => [one.metric, one]));
  for (const [metric, one] of Object.entries(readings)) if ((latest.get(metric)?.at ?? 0) <= one.at) latest.set(metric, one);
  const tab = params.get("tab") || "values";
  return html`<div class="page">
    <${Header} id=${id} about=${about} row=${row} onlineMs=${known.onlineMs} latest=${latest} />
    <${OpenAlarms} id=${id} />
    <${Charts} id=${id} latest=${latest} params=${params} arrived=${arrived} />
    <div class="tabs"><${Segments} label="What to show" value=${tab} onChange=${(chosen) => change({ tab: chosen === "values" ? "" : chosen })}
      options=${[["values", "Values"], ["timeline", "Timeline"], ["raw", "Raw messages"], ["dead", "Dead letters"], ["about", "About"]]} /></div>
    ${tab === "values" ? html`<${Values} latest=${latest} loading=${!loaded.data && !loaded.error} />` : null}
    ${tab === "timeline" ? html`<${Timeline} id=${id} fresh=${events} />` : null}
    ${tab === "raw" ? html`<${Raw} id=${id} />` : null}
    ${tab === "dead" ? html`<${DeadLetters} id=${id} />` : null}
    ${tab === "about" ? html`<${About} about=${about} />` : null}
  </div>`;
}

function Header({ id, about, row, onlineMs, latest }) {
  const now = useNow();
  const heard = Math.max(row?.heard ?? 0, about.heard ?? 0) || null;
  return html`<header class="device-head">
    <div><p class="crumbs"><${Link} href="/fleet">Fleet<//> <span aria-hidden="true">/</span> <${Vendor} vendor=${about.vendor} /></p>
      <h1>${about.name || nativeId(id)}</h1>
      <p class="sub">${[about.name && nativeId(id), about.model, about.firmware_version && `firmware ${about.firmware_version}`].filter(Boolean).join(" · ")}
        ${about.registered === false ? html` <span class="flag">not in the vendor's registry</span>` : null}</p></div>
    <dl class="facts"><div><dt>State</dt><dd><${Presence} state=${presenceOf({ heard }, now, onlineMs)} /></dd></div>
      <div><dt>Heard</dt><dd><${Age} at=${heard} /></dd></div>
      <div><dt>Battery</dt><dd><${Battery} level=${latest.get("battery.level")?.value} /></dd></div></dl>
  </header>`;
}

function OpenAlarms({ id }) {
  const { all } = useStore(alarms);
  const open = [...all.values()].filter((one) => one.device_id === id && one.status !== "resolved");
  if (!open.length) return null;
  return html`<ul class="open-alarms" aria-label="Open alarms">${open.map((one) => html`<li key=${one.alarm_id}>
    <${Link} href=${address("/alarms", { id: one.alarm_id })}><${Severity} severity=${one.severity} /><span class="title">${one.title}</span><span class="muted">${one.status} · <${Age} at=${one.triggered_at} /></span><//></li>`)}</ul>`;
}

function Charts({ id, latest, params, arrived }) {
  const numeric = [...latest.values()].filter((one) => one.numeric || typeof one.value === "number").map((one) => one.metric).sort();
  const asked = params.get("m") ? params.get("m").split(",") : null;
  const chosen = asked ?? FAVOURITES.filter((metric) => numeric.includes(metric)).slice(0, 3);
  const name = RANGES[params.get("range")] ? params.get("range") : "1h";
  const zoom = params.get("from") && params.get("to") ? [Number(params.get("from")), Number(params.get("to"))] : null;
  const [end, setEnd] = useState(Date.now());
  const range = zoom ?? [end - RANGES[name], end];
  const chosenText = chosen.join();
  const series = useLoaded(() => (chosen.length ? get("/api/series", { id, metric: chosen, since: range[0], until: range[1] + 1000 }) : Promise.resolve({ width: 0, series: {} })),
    [id, chosenText, name, zoom?.[0], zoom?.[1], chosen.length > 0]);
  const added = useRef({});
  useEffect(() => {
    added.current = {};
    const take = (readings) => {
      for (const [metric, one] of Object.entries(readings)) {
        if (typeof one.value !== "number") continue;
        (added.current[metric] ??= []).push([one.at, one.value]);
        if (added.current[metric].length > 5000) added.current[metric].splice(0, 1000);
      }
    };
    arrived.current.push(take);
    return () => { arrived.current = arrived.current.filter((one) => one !== take); };
  }, [id, chosenText, name, zoom?.[0]]);
  const span = range[1] - range[0];
  useInterval(() => { if (!zoom) setEnd(Date.now()); }, Math.max(1000, Math.min(30000, span / 600)));
  useInterval(() => { if (!zoom && series.data?.width) series.reload(); }, 30000);
  const { all } = useStore(alarms);
  const mine = useMemo(() => [...all.values()].filter((one) => one.device_id === id && (one.resolved_at ?? Infinity) >= range[0] && one.triggered_at <= range[1]), [alarms.version, id, range[0], range[1]]);
  const drawn = chosen.map((metric) => {
    const read = series.data?.series[metric] ?? { at: [], mean: [], unit: latest.get(metric)?.unit };
    const last = read.at[read.at.length - 1] ?? 0;
    const fresh = zoom || series.data?.width ? [] : (added.current[metric] ?? []).filter(([at]) => at > last).sort((a, b) => a[0] - b[0]);
    return { metric, unit: read.unit ?? latest.get(metric)?.unit, at: read.at.concat(fresh.map(([at]) => at)), mean: read.mean.concat(fresh.map(([, value]) => value)) };
  });
  const units = [...new Set(drawn.map((one) => one.unit ?? ""))];
  const toggle = (metric) => change({ m: (chosen.includes(metric) ? chosen.filter((one) => one !== metric) : [...chosen, metric].slice(-8)).join(",") || "-" });
  const download = (format) => `/api/download?${new URLSearchParams({ id, since: Math.round(range[0]), until: Math.round(range[1]), format })}`;
  if (!numeric.length) return null;
  return html`<section class="panel" aria-label="Charts">
    <div class="panel-head"><h2>History</h2>
      <${Segments} label="Range of time" value=${zoom ? "" : name} options=${Object.keys(RANGES).map((key) => [key, key])} onChange=${(key) => change({ range: key, from: "", to: "" }, { keep: true })} />
      ${zoom ? html`<span class="zoomed">${dateTime(zoom[0])} – ${dateTime(zoom[1])} <button type="button" onClick=${() => change({ from: "", to: "" }, { keep: true })}>Leave zoom</button></span>` : html`<span class="muted hint">${series.data ? WIDTHS[series.data.width] : ""} · drag across a chart to zoom</span>`}
      <span class="downloads"><a class="button" href=${download("csv")} download>CSV</a><a class="button" href=${download("parquet")} download>Parquet</a></span></div>
    <${Picker} numeric=${numeric} chosen=${chosen} toggle=${toggle} />
    ${series.error ? html`<${Problem} error=${series.error} retry=${series.reload} />` : null}
    ${units.map((unit) => {
      const group = drawn.filter((one) => (one.unit ?? "") === unit);
      return html`<figure key=${unit}><figcaption>${group.map((one) => html`<span class="key"><i style=${{ background: colour(chosen.indexOf(one.metric)) }} aria-hidden="true"></i>${one.metric} <b class="num">${valueText(latest.get(one.metric)?.value, one.unit)}</b></span>`)}</figcaption>
        <${Chart} label=${group.map((one) => one.metric).join(", ")} series=${group} first=${chosen.indexOf(group[0].metric)} range=${range} alarms=${mine} height=${units.length > 2 ? 150 : 190}
          onZoom=${(from, to) => change({ from, to }, { keep: true })} />
        ${!series.loading && group.every((one) => !one.at.length) ? html`<p class="chart-note muted">Nothing was reported in this range.</p>` : null}</figure>`;
    })}
  </section>`;
}

function Picker({ numeric, chosen, toggle }) {
  const [filter, setFilter] = useState("");
  const [open, setOpen] = useState(false);
  const shown = numeric.filter((metric) => metric.includes(filter.toLowerCase()));
  return html`<div class="picker">${chosen.filter((metric) => metric !== "-").map((metric) => html`<button type="button" class="chip" onClick=${() => toggle(metric)} aria-label=${`Remove ${metric} from the charts`}>${metric}<span aria-hidden="true">×</span></button>`)}
    <button type="button" aria-expanded=${open ? "true" : "false"} onClick=${() => setOpen(!open)}>${open ? "Done" : `Choose from ${numeric.length} metrics`}</button>
    ${open ? html`<div class="picker-list"><label class="search"><span class="visually-hidden">Filter metrics</span><input type="search" placeholder="Filter metrics" value=${filter} onInput=${(event) => setFilter(event.target.value)} /></label>
      <ul>${shown.map((metric) => html`<li key=${metric}><label><input type="checkbox" checked=${chosen.includes(metric)} onChange=${() => toggle(metric)} /> ${metric}</label></li>`)}</ul></div>` : null}</div>`;
}

function Values({ latest, loading }) {
  const [filter, setFilter] = useState("");
  if (loading) return html`<${Loading} what="Loading the values" />`;
  if (!latest.size) return html`<${Empty} title="No values yet">The device is known, but has reported nothing so far.<//>`;
  const rows = [...latest.values()].filter((one) => one.metric.includes(filter.toLowerCase())).sort((a, b) => (a.metric < b.metric ? -1 : 1));
  return html`<section class="panel"><div class="panel-head"><h2>Latest values</h2><label class="search"><span class="visually-hidden">Filter values</span><input type="search" placeholder=${`Filter ${latest.size} metrics`} value=${filter} onInput=${(event) => setFilter(event.target.value)} /></label></div>
    <table class="values"><thead><tr><th scope="col">Metric</th><th scope="col" class="end">Value</th><th scope="col">Unit</th><th scope="col" class="end">Observed</th></tr></thead>
    <tbody>${rows.map((one) => html`<${ValueRow} key=${one.metric} one=${one} />`)}</tbody></table></section>`;
}

function ValueRow({ one }) {
  const plain = typeof one.value === "number";
  const value = one.structured != null ? html`<details><summary>structure</summary><pre>${pretty(one.structured)}</pre></details>` : plain ? number(one.value) : valueText(one.value);
  return html`<tr><th scope="row">${one.metric}</th><td class="end num">${value}</td><td class="muted">${plain ? unitText(one.unit) : ""}</td><td class="end"><${Age} at=${one.at} /></td></tr>`;
}

const pretty = (text) => { try { return JSON.stringify(typeof text === "string" ? JSON.parse(text) : text, null, 2); } catch { return String(text); } };

function Timeline({ id, fresh }) {
  const loaded = useLoaded(() => get("/api/timeline", { id }), [id]);
  const [kind, setKind] = useState("");
  if (loaded.error && !loaded.data) return html`<${Problem} error=${loaded.error} retry=${loaded.reload} />`;
  if (!loaded.data) return html`<${Loading} what="Loading the timeline" />`;
  const known = new Set();
  const all = [...fresh, ...loaded.data].filter((one) => { const key = `${one.kind} ${one.what} ${one.at} ${one.title}`; return known.has(key) ? false : known.add(key); });
  const kinds = [...new Set(all.map((one) => (one.kind === "alarm" ? "alarm" : one.what)))].sort();
  const rows = all.filter((one) => !kind || (one.kind === "alarm" ? "alarm" : one.what) === kind);
  if (!all.length) return html`<${Empty} title="Nothing happened yet">Reports, alerts, command results and alarms of this device appear here.<//>`;
  return html`<section class="panel"><div class="panel-head"><h2>Timeline</h2><label class="select"><span>Kind</span><select aria-label="Kind" value=${kind} onChange=${(event) => setKind(event.target.value)}><option value="">All</option>${kinds.map((one) => html`<option value=${one}>${one.replaceAll("_", " ")}</option>`)}</select></label></div>
    <ol class="timeline">${rows.map((one) => html`<li class=${one.kind}><${Moment} at=${one.at} />
      <div>${one.severity ? html`<${Severity} severity=${one.severity} /> ` : null}${one.kind === "alarm" ? html`<${Link} href=${address("/alarms", { id: one.alarm_id })}>${one.title}<//> <span class="muted">${one.what}</span>` : html`<span>${one.title.replaceAll("_", " ")}</span>${one.title !== one.what ? html` <span class="muted">${one.what.replaceAll("_", " ")}</span>` : null}`}
      ${one.detail ? html`<details><summary>Details</summary><pre>${pretty(one.detail)}</pre></details>` : null}</div></li>`)}</ol></section>`;
}

function Raw({ id }) {
  const loaded = useLoaded(() => get("/api/raw", { id }), [id]);
  if (loaded.error) return html`<${Problem} error=${loaded.error} retry=${loaded.reload} />`;
  if (!loaded.data) return html`<${Loading} what="Reading raw messages from Kafka" />`;
  if (!loaded.data.length) return html`<${Empty} title="No raw messages">Kafka holds none of the messages that the latest readings were made of, or does not answer.<//>`;
  return html`<section class="panel"><div class="panel-head"><h2>Raw messages</h2><span class="muted">what the latest readings were made of, redacted as stored</span><button type="button" onClick=${loaded.reload}>Read anew</button></div>
    <ol class="raw">${loaded.data.map((one) => html`<li key=${`${one.partition}.${one.offset}`}><details><summary><${Moment} at=${one.at} /> <span>${one.headers.ce_type ?? one.topic}</span> <span class="muted">${one.topic} · ${one.partition} · ${one.offset}</span></summary><pre>${pretty(one.payload)}</pre><dl class="headers">${Object.entries(one.headers).map(([key, value]) => html`<div><dt>${key}</dt><dd>${value}</dd></div>`)}</dl></details></li>`)}</ol></section>`;
}

function DeadLetters({ id }) {
  const loaded = useLoaded(() => get("/api/dead-letters", { id }), [id]);
  if (loaded.error) return html`<${Problem} error=${loaded.error} retry=${loaded.reload} />`;
  if (!loaded.data) return html`<${Loading} what="Loading dead letters" />`;
  if (!loaded.data.length) return html`<${Empty} title="No dead letters">Everything that this device sent could be used.<//>`;
  return html`<section class="panel"><div class="panel-head"><h2>Dead letters</h2></div><ol class="raw">${loaded.data.map((one) => html`<li><details><summary><${Moment} at=${one.at} /> <span>${(one.problems ?? []).map((problem) => [problem.reason, problem.path].filter(Boolean).join(" at ")).join("; ")}</span> <span class="muted">${one.stage}${one.message_type ? ` · ${one.message_type}` : ""}</span></summary><pre>${pretty(one.payload)}</pre></details></li>`)}</ol></section>`;
}

function About({ about }) {
  const rows = [["Device id", about.device_id ?? about.id], ["Vendor", about.vendor], ["Model", about.model], ["Serial number", about.serial_number], ["Firmware", about.firmware_version],
    ["First heard", about.first_seen && `${dateTime(about.first_seen)} (${utc(about.first_seen)})`], ["Groups", about.groups?.join(", ")], ...Object.entries(about.attributes ?? {})].filter(([, value]) => value != null && value !== "");
  return html`<section class="panel"><div class="panel-head"><h2>About</h2></div><dl class="about">${rows.map(([key, value]) => html`<div><dt>${key}</dt><dd>${typeof value === "object" ? JSON.stringify(value) : String(value)}</dd></div>`)}</dl></section>`;
}
