// The live connection, and the fleet as it is now: what the tables have, overlaid with what has come since.
import { get, readSession, session } from "./api.js";
import { Store } from "./lib.js";

/** connection: connecting, open or lost; state: what the server says of the pipeline. */
export const live = new Store({ connection: "connecting", since: Date.now(), state: null });
/** devices by id; loaded: whether the tables were read; error: why they could not be. */
export const fleet = new Store({ devices: new Map(), loaded: false, error: null, published: null, onlineMs: 900000 });
/** alarms by id. */
export const alarms = new Store({ all: new Map(), loaded: false, error: null });

const SILENT_MS = 12000, RETRY_MS = 2000;
const listeners = new Set();
let source = null, device = "", heardAt = 0, retry = null;

/** Hear readings and events of the device that the page shows: listener({readings, events}) or listener("resync"). */
export function follow(id, listener) {
  listeners.add(listener);
  if (device !== id) { device = id; connect(); }
  return () => {
    listeners.delete(listener);
    if (!listeners.size && device) { device = ""; connect(); }
  };
}

export function start() {
  connect();
  reload();
  setInterval(() => {
    if (source && live.value.connection === "open" && Date.now() - heardAt > SILENT_MS) lost();
  }, 1000);
  addEventListener("online", connect);
}

/** Reads the tables anew: at the start, and when live changes were missed. */
export async function reload() {
  await Promise.all([readFleet(), readAlarms()]);
}

async function readFleet() {
  try {
    const { devices, published, online_ms } = await get("/api/fleet");
    const known = fleet.value.devices, fresh = new Map();
    for (const one of devices) {
      const row = { ...one, id: one.device_id, lower: `${one.device_id} ${one.name ?? ""} ${one.model ?? ""}`.toLowerCase() };
      const before = known.get(row.id);
      if (before && before.heard > (row.heard ?? 0)) {
        row.heard = before.heard;
        row.metrics = { ...row.metrics, ...before.metrics };
      }
      fresh.set(row.id, row);
    }
    for (const [id, row] of known) if (!fresh.has(id)) fresh.set(id, row);
    fleet.set({ devices: fresh, loaded: true, error: null, published, onlineMs: online_ms });
  } catch (error) { fleet.set({ ...fleet.value, error }); }
}

async function readAlarms() {
  try {
    const all = new Map();
    for (const one of await get("/api/alarms")) all.set(one.alarm_id, one);
    for (const [id, one] of alarms.value.all) if ((one.sequence ?? 0) > (all.get(id)?.sequence ?? 0)) all.set(id, one);
    alarms.set({ all, loaded: true, error: null });
  } catch (error) { alarms.set({ ...alarms.value, error }); }
}

function connect() {
  if (session.value === false) return;
  clearTimeout(retry);
  source?.close();
  source = new EventSource(device ? `/api/live?device=${encodeURIComponent(device)}` : "/api/live");
  const mine = source;
  const on = (name, work) => source.addEventListener(name, (event) => {
    if (mine !== source) return;
    heard();
    work(JSON.parse(event.data));
  });
  source.onopen = () => mine === source && heard();
  source.onerror = () => mine === source && lost();
  on("state", (state) => {
    // A pipeline that publishes for the first time, or after a long while, has tables that this page has not read.
    const first = state.published && (!fleet.value.loaded || fleet.value.error);
    live.set({ ...live.value, state });
    if (first) reload();
  });
  on("changes", take);
  on("device", (content) => { for (const listener of listeners) listener(content); });
  on("resync", () => { reload(); for (const listener of listeners) listener("resync"); });
}

function heard() {
  heardAt = Date.now();
  if (live.value.connection === "open") return;
  const again = live.value.connection === "lost";
  live.set({ ...live.value, connection: "open", since: heardAt });
  if (again) { reload(); for (const listener of listeners) listener("resync"); }
}

function lost() {
  source?.close();
  source = null;
  if (live.value.connection !== "lost") live.set({ ...live.value, connection: "lost", since: Date.now() });
  clearTimeout(retry);
  retry = setTimeout(async () => {
    try { await readSession(); } catch { /* still away */ }
    connect();
  }, RETRY_MS);
}

export function stop() { clearTimeout(retry); source?.close(); source = null; }

function take({ devices, alarms: changed = [] }) {
  const entries = Object.entries(devices ?? {});
  if (entries.length) {
    const known = fleet.value.devices;
    for (const [id, news] of entries) {
      const row = known.get(id);
      if (!row) known.set(id, { id, device_id: id, vendor: news.vendor, name: null, model: null, registered: false, groups: [], lower: id.toLowerCase(), heard: news.heard, metrics: news.metrics });
      else known.set(id, { ...row, heard: Math.max(row.heard ?? 0, news.heard), metrics: { ...row.metrics, ...news.metrics } });
    }
    fleet.changed();
  }
  if (changed.length) putAlarms(changed);
}

export function putAlarms(changed) {
  const { all } = alarms.value;
  for (const one of changed) if ((all.get(one.alarm_id)?.sequence ?? 0) <= (one.sequence ?? 0)) all.set(one.alarm_id, { ...all.get(one.alarm_id), ...one });
  alarms.changed();
}

let counted = -1, open = new Map();
/** Open alarms by device: {count, worst}. */
export function openAlarms(rank) {
  if (counted === alarms.version) return open;
  counted = alarms.version;
  open = new Map();
  for (const one of alarms.value.all.values()) {
    if (one.status === "resolved") continue;
    const known = open.get(one.device_id);
    if (!known) open.set(one.device_id, { count: 1, worst: one.severity });
    else { known.count++; if (rank(one.severity) < rank(known.worst)) known.worst = one.severity; }
  }
  return open;
}
