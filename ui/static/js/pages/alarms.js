// Alarms: what is wrong, worst and newest first, and doing something about it, by mouse or by one key.
import { PHONE, html, remember, remembered, useEffect, useLoaded, useMedia, useMemo, useRef, useState, useStore } from "../lib.js";
import { get, post, session } from "../api.js";
import { alarms, fleet, putAlarms, reload } from "../live.js";
import { Link, change, deviceAddress, route } from "../router.js";
import { Age, Moment, SEVERITIES, count, dateTime, nativeId, severityRank, vendorName } from "../format.js";
import { Dialog, Empty, Loading, Problem, Rows, Segments, Select, Severity } from "../components.js";
import { Chart } from "../chart.js";
import { toast } from "../toast.js";

const MINUTE = 60000, HOUR = 60 * MINUTE;
const SNOOZES = [[15 * MINUTE, "15 minutes"], [HOUR, "1 hour"], [4 * HOUR, "4 hours"], [24 * HOUR, "1 day"], [7 * 24 * HOUR, "1 week"]];
const VERBS = { acknowledge: "Acknowledge", snooze: "Snooze", resolve: "Resolve", reopen: "Reopen" };
const DONE = { acknowledge: "acknowledged", snooze: "snoozed", resolve: "resolved", reopen: "reopened" };

const nameOf = (id) => fleet.value.devices.get(id)?.name || nativeId(id);
const order = (a, b) => severityRank(a.severity) - severityRank(b.severity) || b.last_triggered_at - a.last_triggered_at;

export function Alarms() {
  const { params } = useStore(route);
  const { all, loaded, error } = useStore(alarms);
  useStore(fleet);
  const who = useStore(session);
  const phone = useMedia(PHONE);
  const [picked, setPicked] = useState(new Set());
  const [asking, setAsking] = useState(null);
  const [sound, setSound] = useState(remembered("sound", false));
  const value = (name) => params.get(name) ?? "";
  const which = value("status") || "open";
  const list = useMemo(() => [...all.values()], [alarms.version]);
  const rows = useMemo(() => list.filter((one) => (which === "all" || (which === "open" ? one.status !== "resolved" : one.status === which))
    && (!value("severity") || one.severity === value("severity")) && (!value("vendor") || one.vendor === value("vendor"))
    && (!value("q") || `${one.title} ${one.device_id} ${nameOf(one.device_id)} ${one.rule_name}`.toLowerCase().includes(value("q").toLowerCase()))).sort(order), [list, params]);
  const open = value("id");
  const [cursor, setCursor] = useState(null);
  const at = rows.some((one) => one.alarm_id === (cursor ?? open)) ? (cursor ?? open) : rows[0]?.alarm_id;
  const toggle = (id) => setPicked((known) => { const next = new Set(known); if (!next.delete(id)) next.add(id); return next; });
  const targets = () => { const chosen = rows.filter((one) => picked.has(one.alarm_id)).map((one) => one.alarm_id); return chosen.length ? chosen : at ? [at] : []; };
  const begin = (action, ids = targets()) => {
    if (!who?.may_act) { toast("Your key may read only; acting on alarms takes a key of role operate.", "bad"); return; }
    if (ids.length) setAsking({ action, ids });
  };
  useEffect(() => {
    const key = (event) => {
      if (event.target.closest("input,textarea,select,dialog") || event.metaKey || event.ctrlKey || event.altKey || asking) return;
      const step = (by) => { const index = Math.max(0, Math.min(rows.length - 1, rows.findIndex((one) => one.alarm_id === at) + by)); if (rows[index]) { setCursor(rows[index].alarm_id); if (open) change({ id: rows[index].alarm_id }); } };
      const keys = { j: () => step(1), k: () => step(-1), a: () => (who?.may_act ? perform("acknowledge", targets(), {}).then(() => setPicked(new Set())) : begin("acknowledge")), s: () => begin("snooze"), r: () => begin("resolve"), x: () => at && toggle(at), o: () => at && change({ id: at }, { keep: true }), Escape: () => (open ? change({ id: "" }) : setPicked(new Set())) };
      if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  });
  if (!loaded && error) return html`<h1 class="visually-hidden">Alarms</h1>${error.code === "nothing_published" ? html`<${Empty} title="No alarms yet">The pipeline is starting; alarms appear here by themselves.<//>` : html`<${Problem} error=${error} retry=${reload} />`}`;
  if (!loaded) return html`<h1 class="visually-hidden">Alarms</h1><${Loading} what="Loading alarms" lines=${8} />`;
  const times = (pick) => list.filter(pick).length;
  const columns = [
    { key: "pick", label: html`<span class="visually-hidden">Select</span>`, width: "34px", cell: (one) => html`<input type="checkbox" checked=${picked.has(one.alarm_id)} onChange=${() => toggle(one.alarm_id)} aria-label=${`Select ${one.title}`} />` },
    { key: "severity", label: "Severity", width: "104px", cell: (one) => html`<${Severity} severity=${one.severity} />` },
    { key: "title", label: "Alarm", width: "minmax(180px, 3fr)", cell: (one) => html`<${Link} class="device-link" href=${`/alarms?${new URLSearchParams({ ...Object.fromEntries(params), id: one.alarm_id })}`}><span class="title">${one.title}</span>${one.rule_name && one.rule_name !== one.title ? html`<span class="sub">${one.rule_name}</span>` : null}<//>` },
    { key: "device", label: "Device", width: "minmax(120px, 1.5fr)", cell: (one) => html`<${Link} class="device-link" href=${deviceAddress(one.device_id)}><span class="title plain">${nameOf(one.device_id)}</span><span class="sub">${vendorName(one.vendor)}</span><//>` },
    { key: "status", label: "Status", width: "122px", cell: (one) => html`<${Status} one=${one} />` },
    { key: "count", label: "Times", width: "60px", align: "end", cell: (one) => html`<span class="num">${count(one.occurrence_count)}</span>` },
    { key: "age", label: "Raised", width: "112px", align: "end", cell: (one) => html`<${Age} at=${one.triggered_at} />` },
  ].filter((column) => !(open && !phone && ["count"].includes(column.key)));
  const card = (one) => html`<div class="device-card alarm-card"><div><label class="pick"><input type="checkbox" checked=${picked.has(one.alarm_id)} onChange=${() => toggle(one.alarm_id)} aria-label=${`Select ${one.title}`} /></label><${Link} class="device-link" href=${`/alarms?${new URLSearchParams({ ...Object.fromEntries(params), id: one.alarm_id })}`}><span class="title">${one.title}</span><//></div>
    <div class="end"><${Severity} severity=${one.severity} /></div><div class="sub">${nameOf(one.device_id)} · <${Status} one=${one} /></div><div class="sub end"><${Age} at=${one.triggered_at} /></div></div>`;
  const pickedHere = rows.filter((one) => picked.has(one.alarm_id)).length;
  return html`<div class=${`page fill ${open ? "with-detail" : ""}`}>
    <h1 class="visually-hidden">Alarms</h1>
    <div class="toolbar">
      <${Segments} label="Status" value=${which} onChange=${(status) => change({ status: status === "open" ? "" : status })} options=${[["open", `Open ${times((one) => one.status !== "resolved")}`], ["active", `Active ${times((one) => one.status === "active")}`], ["acknowledged", `Acknowledged ${times((one) => one.status === "acknowledged")}`], ["resolved", "Resolved"], ["all", "All"]]} />
      <${Select} label="Severity" all="All severities" value=${value("severity")} options=${SEVERITIES} onChange=${(severity) => change({ severity })} />
      <${Select} label="Vendor" all="All vendors" value=${value("vendor")} options=${[...new Set(list.map((one) => one.vendor))].sort().map((vendor) => [vendor, vendorName(vendor)])} onChange=${(vendor) => change({ vendor })} />
      <label class="search"><span class="visually-hidden">Search alarms</span><input type="search" placeholder="Search alarms" value=${value("q")} onInput=${(event) => change({ q: event.target.value })} /></label>
      <label class="check"><input type="checkbox" checked=${sound} onChange=${(event) => { setSound(event.target.checked); remember("sound", event.target.checked); }} /> Sound</label>
    </div>
    <div class="action-bar" role="toolbar" aria-label="Actions on the selected alarms">
      <span role="status">${pickedHere ? `${pickedHere} selected` : html`<span class="muted keys"><kbd>j</kbd> <kbd>k</kbd> move · <kbd>x</kbd> select · <kbd>a</kbd> acknowledge · <kbd>s</kbd> snooze · <kbd>r</kbd> resolve</span>`}</span>
      ${["acknowledge", "snooze", "resolve"].map((action) => html`<button type="button" disabled=${!who?.may_act || !at} onClick=${() => begin(action)}>${VERBS[action]}</button>`)}
      ${pickedHere ? html`<button type="button" class="link" onClick=${() => setPicked(new Set())}>Clear</button>` : html`<button type="button" class="link" disabled=${!rows.length} onClick=${() => setPicked(new Set(rows.slice(0, 200).map((one) => one.alarm_id)))}>Select all</button>`}
    </div>
    <div class="split">
      ${rows.length ? html`<${Rows} label="Alarms" columns=${columns} rows=${rows} rowKey=${(one) => one.alarm_id} height=${phone ? 70 : 52} card=${phone ? card : null} selected=${at}
          rowClass=${(one) => (one.status === "resolved" ? "done" : "")} onOpen=${(one) => { setCursor(one.alarm_id); change({ id: one.alarm_id }, { keep: !open }); }} />`
        : html`<${Empty} title=${which === "open" && !params.get("severity") && !params.get("q") ? "Nothing is wrong" : "No alarm matches"}>${which === "open" ? "No alarm is open. New ones appear here by themselves." : "Change the filters to see more."}<//>`}
      ${open ? html`<${Detail} key=${open} id=${open} begin=${begin} mayAct=${who?.may_act} />` : null}
    </div>
    ${asking ? html`<${Ask} ...${asking} onClose=${() => setAsking(null)} onDone=${() => { setAsking(null); setPicked(new Set()); }} />` : null}
  </div>`;
}

function Status({ one }) {
  const asleep = one.snoozed_until && one.snoozed_until > Date.now() && one.status !== "resolved";
  return html`<span class=${`status ${one.status}`}>${asleep ? "snoozed" : one.status}</span>${one.flapping ? html` <span class="flag">flapping</span>` : null}`;
}

export async function perform(action, ids, extra) {
  if (!ids.length) return;
  try {
    const outcomes = Object.values(await post("/api/alarms/act", { alarms: ids, action, ...extra }));
    const done = outcomes.filter((one) => one.outcome === "done").length, pending = outcomes.filter((one) => one.outcome === "pending").length;
    const refused = outcomes.filter((one) => one.outcome === "refused");
    const parts = [done && `${done} ${DONE[action]}`, pending && `${pending} sent; the alarm engine has not carried ${pending === 1 ? "it" : "them"} out yet`, refused.length && `${refused.length} not possible: ${refused[0].reason}`];
    toast(parts.filter(Boolean).join(" · "), refused.length ? "bad" : pending ? "" : "good");
  } catch (error) { toast(error.message, "bad"); }
}

function Ask({ action, ids, onClose, onDone }) {
  const [note, setNote] = useState("");
  const [length, setLength] = useState(HOUR);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    await perform(action, ids, { note: note || null, until: action === "snooze" ? Date.now() + Number(length) : null });
    onDone();
  };
  return html`<${Dialog} title=${`${VERBS[action]} ${ids.length === 1 ? "this alarm" : `${ids.length} alarms`}`} onClose=${onClose}>
    <form onSubmit=${submit}>
      ${action === "snooze" ? html`<label class="field"><span>No notifications for</span><select value=${length} onChange=${(event) => setLength(event.target.value)}>${SNOOZES.map(([key, text]) => html`<option value=${key} selected=${key === length}>${text}</option>`)}</select></label>` : null}
      <label class="field"><span>Note (kept in the alarm's timeline)</span><textarea rows="3" maxlength="4000" value=${note} onInput=${(event) => setNote(event.target.value)}></textarea></label>
      <p class="buttons"><button type="button" onClick=${onClose}>Cancel</button><button type="submit" class="primary" disabled=${busy}>${busy ? "Waiting for the alarm engine…" : VERBS[action]}</button></p>
    </form><//>`;
}

function Detail({ id, begin, mayAct }) {
  const live = alarms.value.all.get(id);
  const loaded = useLoaded(() => get("/api/alarm", { id }), [id, live?.sequence, live?.status]);
  const box = useRef(null);
  useEffect(() => { box.current?.focus({ preventScroll: true }); }, []);
  const one = { ...loaded.data, ...live };
  return html`<aside class="detail" aria-label="Alarm" tabindex="-1" ref=${box}>
    <div class="detail-head"><button type="button" class="close" aria-label="Close" onClick=${() => change({ id: "" })}>×</button></div>
    ${!one.title ? (loaded.error ? html`<${Problem} error=${loaded.error} retry=${loaded.reload} />` : html`<${Loading} what="Loading the alarm" />`) : html`
    <p><${Severity} severity=${one.severity} /> <${Status} one=${one} /></p>
    <h2>${one.title}</h2><p class="message">${one.message}</p>
    <p class="buttons">${one.status === "resolved" ? html`<button type="button" disabled=${!mayAct} onClick=${() => begin("reopen", [id])}>Reopen</button>`
      : html`${one.status === "active" ? html`<button type="button" class="primary" disabled=${!mayAct} onClick=${() => begin("acknowledge", [id])}>Acknowledge</button>` : null}<button type="button" disabled=${!mayAct} onClick=${() => begin("snooze", [id])}>Snooze</button><button type="button" disabled=${!mayAct} onClick=${() => begin("resolve", [id])}>Resolve</button>`}</p>
    <dl class="about"><div><dt>Device</dt><dd><${Link} href=${deviceAddress(one.device_id)}>${nameOf(one.device_id)}<//></dd></div>
      <div><dt>Raised</dt><dd><${Moment} at=${one.triggered_at} /></dd></div><div><dt>Last occurrence</dt><dd><${Moment} at=${one.last_triggered_at} /> · ${count(one.occurrence_count)} in all</dd></div>
      ${one.snoozed_until ? html`<div><dt>Snoozed until</dt><dd><${Moment} at=${one.snoozed_until} /></dd></div>` : null}
      ${one.resolved_at ? html`<div><dt>Resolved</dt><dd><${Moment} at=${one.resolved_at} /></dd></div>` : null}</dl>
    <h3>Why</h3><${Why} one=${one} rule=${loaded.data?.rule} />
    <h3>Timeline</h3>${loaded.data ? html`<ol class="timeline compact">${loaded.data.timeline.slice().reverse().slice(0, 100).map((entry) => html`<li key=${entry.sequence}><${Moment} at=${entry.at} /><div><b>${entry.event_type}</b> <span class="muted">by ${entry.actor.replaceAll("_", " ")}</span>${entry.note ? html`<p class="note">${entry.note}</p>` : null}</div></li>`)}</ol>` : html`<${Loading} what="Loading the timeline" lines=${3} />`}`}
  </aside>`;
}

const OPERATORS = { gt: ">", gte: "≥", lt: "<", lte: "≤", eq: "=", neq: "≠" };
function sentence(rule) {
  const config = rule.config ?? {};
  const metric = config.metric ?? config.datapoint_id;
  if (rule.rule_type === "threshold" && metric) return `${metric} ${OPERATORS[config.operator] ?? config.operator} ${config.value ?? ""}${config.duration_seconds ? ` for ${config.duration_seconds} s` : ""}`;
  return rule.rule_type.replaceAll("_", " ");
}

const RANGES = [[6, "6 hours"], [24, "1 day"], [7 * 24, "1 week"], [31 * 24, "1 month"]];
const KEPT = ["created_at", "updated_at", "source"];
function Trial({ rule }) {
  const [text, setText] = useState(() => JSON.stringify(Object.fromEntries(Object.entries(rule).filter(([name]) => !KEPT.includes(name))), null, 2));
  const [hours, setHours] = useState(24);
  const [state, set] = useState({});
  const submit = async (event) => {
    event.preventDefault();
    let changed;
    try { changed = JSON.parse(text); } catch (error) { set({ error: new Error(`This is no JSON: ${error.message}`) }); return; }
    set({ busy: true });
    try { set({ result: await post("/api/rules/try", { rule: changed, hours: Number(hours) }) }); } catch (error) { set({ error }); }
  };
  const { result, error, busy } = state;
  return html`<form class="trial" onSubmit=${submit}>
    <label class="field"><span>Rule, to be changed at will: nothing is put in force</span><textarea class="code" rows="10" spellcheck="false" value=${text} onInput=${(event) => setText(event.target.value)}></textarea></label>
    <p class="buttons"><${Select} label="Readings of the last" all="" value=${hours} options=${RANGES} onChange=${setHours} /><button type="submit" class="primary" disabled=${busy}>${busy ? "Trying…" : "Try"}</button></p>
    ${error ? html`<p class="problem" role="alert">${error.message}</p>` : null}
    ${result ? html`<div role="status"><p><b>${count(result.alarm_count)} ${result.alarm_count === 1 ? "alarm" : "alarms"}</b> in ${count(result.readings)} readings of ${count(result.devices)} devices${result.alarm_count > result.alarms.length ? `; the latest ${result.alarms.length} are shown` : ""}</p>
      ${result.alarms.length ? html`<ol class="timeline compact">${result.alarms.slice().reverse().map((alarm) => html`<li key=${alarm.alarm_id}><${Moment} at=${Date.parse(alarm.triggered_at)} /><div><${Link} href=${deviceAddress(alarm.device_id)}>${nameOf(alarm.device_id)}<//> <span class="muted">${alarm.resolved_at ? `resolved ${dateTime(Date.parse(alarm.resolved_at))}` : alarm.status}${alarm.occurrence_count > 1 ? ` · ${count(alarm.occurrence_count)} times` : ""}</span></div></li>`)}</ol>` : null}</div>` : null}
  </form>`;
}

function Why({ one, rule }) {
  const around = [one.triggered_at - 20 * MINUTE, Math.min(one.triggered_at + 20 * MINUTE, Date.now())];
  const series = useLoaded(() => (one.metric ? get("/api/series", { id: one.device_id, metric: [one.metric], since: around[0], until: around[1] + 1000 }) : Promise.resolve(null)), [one.alarm_id, one.metric]);
  const read = series.data?.series?.[one.metric];
  return html`${rule ? html`<p>Rule <b>${rule.name}</b>: <code>${sentence(rule)}</code></p><details><summary>The rule as it is in force</summary><pre>${JSON.stringify(rule, null, 2)}</pre></details>
      <details><summary>Try it on history</summary><${Trial} key=${rule.id} rule=${rule} /></details>`
      : html`<p>${one.rule_id?.startsWith(`${one.vendor}:`) ? `Raised by ${vendorName(one.vendor)} itself, not by a rule of this pipeline.` : `Rule ${one.rule_name}`}</p>`}
    ${one.metric && read ? html`<figure><figcaption>${one.metric} around the alarm, ${dateTime(one.triggered_at)}</figcaption><${Chart} height=${150} series=${[{ metric: one.metric, unit: read.unit, at: read.at, mean: read.mean }]} range=${around} alarms=${[one]} label=${`${one.metric} around the alarm`} /></figure>` : null}`;
}
