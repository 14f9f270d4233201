// Pipeline: is everything flowing, how fast, how old, and what was left behind.
import { html, useInterval, useLoaded, useStore } from "../lib.js";
import { get } from "../api.js";
import { live } from "../live.js";
import { Link, deviceAddress } from "../router.js";
import { Age, Moment, count, duration, nativeId, number, vendorName } from "../format.js";
import { Loading, Problem } from "../components.js";

const ORDER = ["simulate", "connect", "stream", "delta", "duckdb", "alarms", "ui"];
const PURPOSE = { simulate: "simulated vendors", connect: "vendors → Kafka", stream: "normalise, detect", delta: "Kafka → lake", duckdb: "lake → fleet.duckdb", alarms: "alarm service", ui: "this page" };
const place = (name) => { const at = ORDER.indexOf(name.replace(/-\d+$/, "")); return at < 0 ? 9 : at; };
const rate = (value) => (value == null ? "–" : `${number(value >= 10 ? Math.round(value) : Math.round(value * 10) / 10)}/s`);
const seconds = (value) => (value >= 10 ? `${number(Math.round(value))} s` : value >= 1 ? `${number(value)} s` : `${Math.round(value * 1000)} ms`);

export function Pipeline() {
  const loaded = useLoaded(() => get("/api/pipeline"), []);
  useInterval(loaded.reload, 2000);
  const { state } = useStore(live);
  if (!loaded.data) return html`<div class="page"><h1>Pipeline</h1>${loaded.error ? html`<${Problem} error=${loaded.error} retry=${loaded.reload} />` : html`<${Loading} what="Loading the pipeline" lines=${10} />`}</div>`;
  const { stages, observations, age_p50: p50, age_p95: p95, tables, dead_letters: dead, gaps, not_listened: unheard } = loaded.data;
  const now = state ?? loaded.data.state;
  const lag = stages.reduce((sum, stage) => sum + Object.values(stage.lag).reduce((a, b) => a + b, 0), 0);
  return html`<div class="page"><h1>Pipeline</h1>
    ${loaded.error ? html`<${Problem} error=${loaded.error} retry=${loaded.reload} />` : null}
    <div class="tiles wide-tiles" role="group" aria-label="Summary">
      <div class="tile"><span class="num">${number(Math.round((observations / 60) * 10) / 10)}</span><span>messages per second</span></div>
      <div class="tile"><span class="num">${observations ? seconds(p50) : "–"}</span><span>from receipt to this page, median</span></div>
      <div class="tile"><span class="num">${observations ? seconds(p95) : "–"}</span><span>95 of 100 within</span></div>
      <div class="tile"><span class="num">${stages.length ? count(lag) : "–"}</span><span>records waiting</span></div>
      <div class="tile"><span class="num">${now?.published ? html`<${Age} at=${now.published} />` : "–"}</span><span>tables published</span></div>
    </div>
    <section class="panel" aria-label="Stages"><div class="panel-head"><h2>Stages</h2></div>
      ${stages.length ? html`<ol class="stages">${[...stages].sort((a, b) => place(a.name) - place(b.name)).map((stage) => html`<${Stage} key=${stage.name} stage=${stage} />`)}</ol>`
        : html`<p class="muted pad">No pipeline that was started with <code>fleetlake up</code> runs on this data folder. Where stages run elsewhere, Prometheus shows them; rates above are measured on the topics.</p>`}</section>
    <${Doctor} />
    <div class="columns">
      <section class="panel" tabindex="0" role="region" aria-label="Connections"><div class="panel-head"><h2>Connections</h2></div><${Connections} stages=${stages} /></section>
      <section class="panel" tabindex="0" role="region" aria-label="Vendors"><div class="panel-head"><h2>Vendors</h2></div><${Vendors} stages=${stages} /></section>
      <section class="panel" tabindex="0" role="region" aria-label="Dead letters, last 7 days"><div class="panel-head"><h2>Dead letters, last 7 days</h2></div>
        ${dead.length ? html`<table><thead><tr><th scope="col">Reason</th><th scope="col">Stage</th><th scope="col">Vendor</th><th scope="col" class="end">Count</th><th scope="col" class="end">Latest</th></tr></thead><tbody>${dead.map((one) => html`<tr><th scope="row"><code>${one.reason || "unknown"}</code></th><td>${one.stage}</td><td>${one.vendor ? vendorName(one.vendor) : "–"}</td><td class="end num">${count(one.count)}</td><td class="end"><${Age} at=${one.latest} /></td></tr>`)}</tbody></table>` : html`<p class="muted pad">None: everything that was received could be used.</p>`}</section>
      <section class="panel" tabindex="0" role="region" aria-label="Connection gaps, last 2 days"><div class="panel-head"><h2>Connection gaps, last 2 days</h2></div>
        ${gaps.length ? html`<table><thead><tr><th scope="col">When</th><th scope="col">Vendor</th><th scope="col">Device</th><th scope="col">Why</th></tr></thead><tbody>${gaps.map((gap) => html`<tr><td><${Moment} at=${gap.at} /></td><td>${vendorName(gap.vendor)}</td><td><${Link} href=${deviceAddress(gap.device_id)}>${nativeId(gap.device_id)}<//></td><td>${gap.data?.reason ?? gap.data?.why ?? gap.title ?? "–"}</td></tr>`)}</tbody></table>` : html`<p class="muted pad">None: every connection held.</p>`}</section>
      <section class="panel" tabindex="0" role="region" aria-label="Times when nobody listened, last 7 days"><div class="panel-head"><h2>Nobody listened, last 7 days</h2></div>
        ${unheard.length ? html`<table><thead><tr><th scope="col">From</th><th scope="col">Until</th><th scope="col">To whom</th></tr></thead><tbody>${unheard.map((one) => html`<tr><td><${Moment} at=${one.since} /></td><td>${one.until ? html`<${Moment} at=${one.until} />` : html`<b>still</b>`}</td><td>${nativeId(one.device_id) === "fleetlake" ? `${vendorName(one.vendor)}, all devices` : html`<${Link} href=${deviceAddress(one.device_id)}>${nativeId(one.device_id)}<//>`}</td></tr>`)}</tbody></table>` : html`<p class="muted pad">None: silence of a device was the device's own.</p>`}</section>
      <section class="panel" tabindex="0" role="region" aria-label="Tables"><div class="panel-head"><h2>Tables</h2></div>
        ${tables.length ? html`<table><thead><tr><th scope="col">Lake table</th><th scope="col" class="end">Rows</th><th scope="col" class="end">Files</th><th scope="col" class="end">Size</th><th scope="col" class="end">Version</th></tr></thead><tbody>${tables.map((one) => html`<tr><th scope="row"><code>${one.table_name}</code></th><td class="end num">${count(one.rows)}</td><td class="end num">${count(one.files)}</td><td class="end num">${number(one.bytes / 1e6)} MB</td><td class="end num">${one.delta_version}</td></tr>`)}</tbody></table>` : html`<p class="muted pad">Nothing has been published yet.</p>`}</section>
    </div>
  </div>`;
}

function Stage({ stage }) {
  const lag = Object.values(stage.lag).reduce((a, b) => a + b, 0);
  return html`<li class=${`stage ${stage.up ? "up" : "down"}`}><h3><i aria-hidden="true"></i>${stage.name}<span class="visually-hidden">${stage.up ? " is ready" : " is not ready"}</span></h3>
    <p class="sub">${PURPOSE[stage.name.replace(/-\d+$/, "")] ?? ""}</p>
    <dl><div><dt>in</dt><dd class="num">${rate(stage.rate_in)}</dd></div><div><dt>out</dt><dd class="num">${rate(stage.rate_out)}</dd></div><div><dt>waiting</dt><dd class="num">${Object.keys(stage.lag).length ? count(lag) : "–"}</dd></div></dl>
    ${stage.problem ? html`<p class="stage-problem">${stage.problem}</p>` : null}</li>`;
}

// The doctor writes commands between backticks.
const code = (text) => text.split("`").map((part, index) => (index % 2 ? html`<code>${part}</code>` : part));
const VERDICTS = { WRONG: ["bad", "wrong"], note: ["warn", "note"], ok: ["good", "ok"] };
function Doctor() {
  const loaded = useLoaded(() => get("/api/doctor"), []);
  useInterval(loaded.reload, 10000);
  const findings = loaded.data?.findings ?? [];
  const odd = findings.filter((one) => one.verdict !== "ok"), well = findings.filter((one) => one.verdict === "ok");
  const row = (one) => { const [kind, word] = VERDICTS[one.verdict] ?? ["warn", one.verdict]; return html`<li class=${`finding ${kind}`}><span class="verdict">${word}</span><div><b>${one.subject}</b> ${code(one.what)}${one.advice ? html`<p class="muted">${code(one.advice)}</p>` : null}</div></li>`; };
  return html`<section class="panel" aria-label="What the doctor says"><div class="panel-head"><h2>What the doctor says</h2>${loaded.data && findings.length ? html`<span class="muted">${odd.length ? `${odd.length} of ${findings.length} findings` : "nothing is wrong"} · ${duration(loaded.data.seconds_ago * 1000)} ago</span>` : null}</div>
    ${!loaded.data ? (loaded.error ? html`<${Problem} error=${loaded.error} retry=${loaded.reload} />` : html`<${Loading} what="Examining the pipeline" lines=${3} />`)
      : html`${odd.length ? html`<ul class="findings">${odd.map(row)}</ul>` : null}${well.length ? html`<details class="pad"><summary>${well.length} found well</summary><ul class="findings">${well.map(row)}</ul></details>` : null}${findings.length ? null : html`<p class="muted pad">The doctor is not at hand here.</p>`}`}</section>`;
}

function Connections({ stages }) {
  const groups = stages.flatMap((stage) => stage.connection_states ?? []).filter((group) => group.connections);
  if (!groups.length) return html`<p class="muted pad">No connector on this machine keeps connections open.</p>`;
  return html`<table><thead><tr><th scope="col">Vendor</th><th scope="col" class="end">Up</th><th scope="col">Last errors</th></tr></thead><tbody>${groups.map((group) => html`<tr><th scope="row" class="nowrap">${vendorName(group.vendor)}<span class="sub">${group.channel}</span></th>
    <td class="end num nowrap">${count(group.connections - group.away)} of ${count(group.connections)}</td>
    <td>${group.failures.length ? html`<ul class="failures">${group.failures.slice(0, 5).map((one) => html`<li><span class=${one.is_away ? "bad" : "muted"}>${one.is_away ? "away" : "back"}</span> ${nativeId(one.name)}: ${one.reason} <span class="muted">${duration(one.seconds_ago * 1000)} ago</span></li>`)}</ul>` : html`<span class="muted">none since the start</span>`}</td></tr>`)}</tbody></table>`;
}

function Vendors({ stages }) {
  const connect = stages.filter((stage) => stage.name.startsWith("connect"));
  const names = [...new Set(connect.flatMap((stage) => [...Object.keys(stage.connections), ...Object.keys(stage.received)]))].filter(Boolean).sort();
  const sum = (part, vendor, of = connect) => of.reduce((total, stage) => total + (stage[part][vendor] ?? 0), 0);
  if (!names.length) return html`<p class="muted pad">No connector runs on this machine.</p>`;
  return html`<table><thead><tr><th scope="col">Vendor</th><th scope="col" class="end">Connected</th><th scope="col" class="end">Received</th><th scope="col" class="end">Gaps</th><th scope="col" class="end">Dead letters</th></tr></thead>
    <tbody>${names.map((vendor) => html`<tr><th scope="row">${vendorName(vendor)}</th><td class="end num">${count(sum("connections", vendor))}</td><td class="end num">${count(sum("received", vendor))}</td><td class="end num">${count(sum("gaps", vendor))}</td><td class="end num">${count(sum("dead_letters", vendor, stages))}</td></tr>`)}</tbody></table>`;
}
