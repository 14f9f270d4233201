// Fleet: which devices there are, how they are, and which need somebody.
import { PHONE, html, useMedia, useMemo, useNow, useStore } from "../lib.js";
import { alarms, fleet, openAlarms, reload } from "../live.js";
import { Link, change, deviceAddress, go, route } from "../router.js";
import { Age, SEVERITIES, count, nativeId, number, severityRank, vendorName } from "../format.js";
import { Battery, Empty, Loading, Presence, Problem, Rows, Select, Severity, Vendor, useSorted } from "../components.js";

const STATES = ["robot.status", "machine.state", "robot.movement", "power.state", "device.mode"];
export const stateOf = (device) => { for (const metric of STATES) if (device.metrics[metric] != null) return device.metrics[metric]; return null; };
export const presenceOf = (device, now, onlineMs) => (!device.heard ? "never seen" : now - device.heard <= onlineMs ? "online" : "silent");
const words = (text) => (text == null ? null : String(text).replaceAll("_", " ").toLowerCase().replace(/^./, (first) => first.toUpperCase()));

function attention(device, presence, raised) {
  if (raised && severityRank(raised.worst) <= 1) return 0;
  if (presence === "silent" && device.registered !== false) return 1;
  if (device.metrics["battery.level"] < 20) return 2;
  if (raised) return 3;
  return presence === "never seen" ? 4 : 5;
}

function Name({ device }) {
  return html`<${Link} class="device-link" href=${deviceAddress(device.id)}>
    <span class="title">${device.name || nativeId(device.id)}</span>
    ${device.name && html`<span class="sub">${nativeId(device.id)}</span>`}<//>`;
}

const COLUMNS = [
  { key: "presence", label: "State", width: "112px", cell: ({ presence }) => html`<${Presence} state=${presence} />`, sort: (row) => row.presence },
  { key: "name", label: "Device", width: "minmax(180px, 2fr)", cell: ({ device }) => html`<${Name} device=${device} />`, sort: ({ device }) => (device.name || nativeId(device.id)).toLowerCase() },
  { key: "vendor", label: "Vendor", width: "118px", cell: ({ device }) => html`<${Vendor} vendor=${device.vendor} />`, sort: ({ device }) => device.vendor },
  { key: "model", label: "Model", width: "minmax(90px, 1fr)", cell: ({ device }) => device.model ?? html`<span class="muted">–</span>`, sort: ({ device }) => device.model },
  { key: "doing", label: "Activity", width: "minmax(100px, 1fr)", cell: ({ device }) => words(stateOf(device)) ?? html`<span class="muted">–</span>`, sort: ({ device }) => stateOf(device) },
  { key: "battery", label: "Battery", width: "104px", align: "end", cell: ({ device }) => html`<${Battery} level=${device.metrics["battery.level"]} />`, sort: ({ device }) => device.metrics["battery.level"] },
  { key: "signal", label: "Signal", width: "92px", align: "end", cell: ({ device }) => { const signal = device.metrics["network.signal_strength"]; return signal == null ? html`<span class="muted">–</span>` : html`<span class="num">${number(Math.round(signal))} dBm</span>`; }, sort: ({ device }) => device.metrics["network.signal_strength"] },
  { key: "heard", label: "Heard", width: "112px", align: "end", cell: ({ device }) => html`<${Age} at=${device.heard} />`, sort: ({ device }) => device.heard && -device.heard },
  { key: "alarms", label: "Alarms", width: "112px", align: "end", cell: ({ raised }) => (raised ? html`<span class="alarm-count"><${Severity} severity=${raised.worst} short=${true} /><span class="num">${raised.count}</span></span>` : html`<span class="muted">–</span>`), sort: ({ raised }) => (raised ? severityRank(raised.worst) * 1000 - raised.count : null) },
  { key: "attention", label: "", width: "0px", cell: () => null, sort: (row) => row.attention },
];

function Card({ row: { device, presence, raised } }) {
  return html`<div class="device-card"><div><${Name} device=${device} /></div>
    <div class="end">${raised ? html`<span class="alarm-count"><${Severity} severity=${raised.worst} short=${true} /><span class="num">${raised.count}</span></span>` : null}<${Battery} level=${device.metrics["battery.level"]} /></div>
    <div class="sub"><${Vendor} vendor=${device.vendor} /> <${Presence} state=${presence} /></div>
    <div class="sub end"><${Age} at=${device.heard} /></div></div>`;
}

export function Fleet() {
  const { params } = useStore(route);
  const { devices, loaded, error, onlineMs } = useStore(fleet);
  useStore(alarms);
  const now = useNow(), phone = useMedia(PHONE);
  const slow = Math.floor(now / 5000);
  const raisedBy = openAlarms(severityRank);
  const all = useMemo(() => [...devices.values()].map((device) => {
    const presence = presenceOf(device, now, onlineMs), raised = raisedBy.get(device.id);
    return { device, presence, raised, attention: attention(device, presence, raised) };
  }), [fleet.version, alarms.version, slow]);
  const value = (name) => params.get(name) ?? "";
  const search = value("q").toLowerCase().split(/\s+/).filter(Boolean);
  const rows = useMemo(() => all.filter(({ device, presence, attention }) =>
    search.every((word) => device.lower.includes(word))
    && (!value("vendor") || device.vendor === value("vendor"))
    && (!value("model") || device.model === value("model"))
    && (!value("group") || device.groups.includes(value("group")))
    && (!value("state") || presence === value("state") || (value("state") === "attention" && attention <= 3))), [all, params]);
  const sort = { key: value("sort") || "attention", down: value("down") === "1" };
  const sorted = useSorted(useMemo(() => (sort.key === "attention" ? [...rows].sort((a, b) => (a.device.id < b.device.id ? -1 : 1)) : rows), [rows, sort.key]), COLUMNS, sort.key, sort.down);
  const by = (pick) => { const sums = new Map(); for (const row of all) for (const key of [pick(row)].flat()) if (key) sums.set(key, (sums.get(key) ?? 0) + 1); return sums; };
  const options = (pick, text = (key) => key) => [...by(pick)].sort().map(([key, times]) => [key, `${text(key)} (${times})`]);
  const presences = by((row) => row.presence);
  const open = [...alarms.value.all.values()].filter((one) => one.status !== "resolved");
  const groups = options(({ device }) => device.groups);

  if (!loaded && error && !devices.size) {
    return error.code === "nothing_published"
      ? html`<h1 class="visually-hidden">Fleet</h1><${Empty} title="The first tables are on their way">The pipeline is starting; devices appear here by themselves as soon as something is published.<//>`
      : html`<h1 class="visually-hidden">Fleet</h1><${Problem} error=${error} retry=${reload} />`;
  }
  if (!loaded) return html`<h1 class="visually-hidden">Fleet</h1><${Loading} what="Loading the fleet" lines=${10} />`;
  const tile = (state, label, number, kind = "") => html`<button type="button" class=${`tile ${kind}`} aria-pressed=${value("state") === state ? "true" : "false"} onClick=${() => change({ state: value("state") === state ? "" : state })}><span class="num">${count(number)}</span><span>${label}</span></button>`;
  return html`<div class="page fill">
    <h1 class="visually-hidden">Fleet</h1>
    <div class="tiles" role="group" aria-label="Summary; each number filters the list">
      <button type="button" class="tile" aria-pressed=${value("state") ? "false" : "true"} onClick=${() => change({ state: "" })}><span class="num">${count(all.length)}</span><span>devices</span></button>
      ${tile("online", "online", presences.get("online") ?? 0, "good")}
      ${tile("silent", "silent", presences.get("silent") ?? 0)}
      ${tile("attention", "need attention", all.filter((row) => row.attention <= 3).length, "warn")}
      <${Link} class="tile alarms-tile" href="/alarms"><span class="num">${count(open.length)}</span><span>open alarms</span>
        <span class="mix">${SEVERITIES.map((severity) => { const times = open.filter((one) => one.severity === severity).length; return times ? html`<span><${Severity} severity=${severity} short=${true} /> <span class="num">${times}</span></span>` : null; })}</span><//>
    </div>
    <div class="toolbar" role="search">
      <label class="search"><span class="visually-hidden">Search devices by name, id or model</span>
        <input type="search" placeholder="Search name, id or model" value=${value("q")} onInput=${(event) => change({ q: event.target.value })} /></label>
      <${Select} label="Vendor" all="All vendors" value=${value("vendor")} options=${options(({ device }) => device.vendor, vendorName)} onChange=${(vendor) => change({ vendor })} />
      <${Select} label="Model" all="All models" value=${value("model")} options=${options(({ device }) => device.model)} onChange=${(model) => change({ model })} />
      ${groups.length > 0 && html`<${Select} label="Group" all="All groups" value=${value("group")} options=${groups} onChange=${(group) => change({ group })} />`}
      <span class="shown" role="status">${sorted.length === all.length ? "" : `${count(sorted.length)} of ${count(all.length)} shown`}</span>
    </div>
    ${all.length === 0 ? html`<${Empty} title="No devices yet">Devices appear here by themselves when a vendor's registry names them, or when they send something.<//>`
      : sorted.length === 0 ? html`<${Empty} title="No device matches">Change the search or <button type="button" class="link" onClick=${() => go("/fleet")}>show all devices</button>.<//>`
      : html`<${Rows} label="Devices" columns=${COLUMNS.slice(0, -1)} rows=${sorted} rowKey=${(row) => row.device.id} height=${phone ? 70 : 44}
          card=${phone ? (row) => html`<${Card} row=${row} />` : null} sort=${sort} onOpen=${(row) => go("/device", { id: row.device.id })}
          onSort=${(key) => change({ sort: key, down: sort.key === key && !sort.down ? "1" : "" })} />`}
  </div>`;
}
