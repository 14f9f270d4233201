// Map: devices with GPS on a map of the world, robots on maps of their own, moving live and with trails.
import { html, useEffect, useLoaded, useMemo, useRef, useState, useStore } from "../lib.js";
import { get, session } from "../api.js";
import { fleet } from "../live.js";
import { Link, change, deviceAddress, go, route } from "../router.js";
import { Age, nativeId, vendorName } from "../format.js";
import { Empty, Loading, Problem, Select } from "../components.js";
import { reload } from "../live.js";

const TRAIL = 400;
const WORLD = "world";

/** The maps that there are: the world, and one per map id (or per robot whose map has none). */
function mapsOf(devices) {
  const maps = new Map();
  const put = (key, name, device, at) => { if (!maps.has(key)) maps.set(key, { key, name, devices: [] }); maps.get(key).devices.push({ device, at }); };
  for (const device of devices.values()) {
    const m = device.metrics;
    if (typeof m["location.latitude"] === "number" && typeof m["location.longitude"] === "number") put(WORLD, "World", device, [m["location.latitude"], m["location.longitude"]]);
    if (typeof m["position.x"] === "number" && typeof m["position.y"] === "number") {
      const id = m["map.id"];
      const own = `${vendorName(device.vendor)} ${device.name || nativeId(device.id).slice(0, 24)}`;
      put(id ? `map:${id}` : `robot:${device.id}`, id ? `Map ${String(id).slice(0, 8)}` : own, device, [m["position.y"], m["position.x"]]);
    }
  }
  return [...maps.values()].sort((a, b) => (a.key === WORLD ? -1 : b.key === WORLD ? 1 : b.devices.length - a.devices.length || (a.name < b.name ? -1 : 1)));
}

/** The robots' map with most to see. */
function liveliest(maps, trails) {
  const lengths = (one) => one.devices.reduce((sum, { device }) => sum + (trails?.[device.id]?.length ?? 0), 0);
  return maps.filter((one) => one.key !== WORLD).sort((a, b) => lengths(b) - lengths(a))[0];
}

export function MapPage() {
  const { params } = useStore(route);
  const { devices, loaded, error } = useStore(fleet);
  const maps = useMemo(() => mapsOf(devices), [fleet.version]);
  const trails = useLoaded(() => get("/api/trails"), []);
  if (!loaded && error && !devices.size) return html`<div class="page"><h1>Map</h1>${error.code === "nothing_published" ? html`<${Empty} title="No positions yet">The pipeline is starting; devices appear here by themselves.<//>` : html`<${Problem} error=${error} retry=${reload} />`}</div>`;
  if (!loaded || trails.loading) return html`<div class="page"><h1>Map</h1><${Loading} what="Loading positions" /></div>`;
  if (!maps.length) return html`<div class="page"><h1>Map</h1><${Empty} title="No device tells where it is">Devices appear here once they report a position.<//></div>`;
  const chosen = maps.find((one) => one.key === params.get("map")) ?? liveliest(maps, trails.data) ?? maps[0];
  return html`<div class="page fill"><h1 class="visually-hidden">Map</h1>
    <div class="toolbar"><${Select} label="Map" all="" value=${chosen.key} options=${maps.map((one) => [one.key, `${one.name} (${one.devices.length})`])} onChange=${(map) => change({ map }, { keep: true })} />
      <span class="muted hint">${chosen.key === WORLD ? "Positions by GPS" : "Positions in metres on the robots' own map"} · trails of the last minutes</span></div>
    <div class="map-split"><${Plan} key=${chosen.key} chosen=${chosen} trails=${trails.data ?? {}} />
      <ul class="map-list" aria-label="Devices on this map">${chosen.devices.map(({ device, at }) => html`<li key=${device.id}><${Link} href=${deviceAddress(device.id)}>${device.name || nativeId(device.id)}<//>
        <span class="sub num">${chosen.key === WORLD ? `${at[0].toFixed(4)}, ${at[1].toFixed(4)}` : `x ${at[1].toFixed(2)} m, y ${at[0].toFixed(2)} m`}</span><span class="sub"><${Age} at=${device.heard} /></span></li>`)}</ul></div></div>`;
}

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function Plan({ chosen, trails }) {
  const box = useRef(null), shown = useRef(null);
  const [ready, setReady] = useState(false);
  const settings = session.value || {};
  useEffect(() => {
    let map = null, gone = false;
    import("../../vendor/leaflet.js").then((L) => {
      if (gone) return;
      const world = chosen.key === WORLD;
      map = L.map(box.current, { crs: world ? L.CRS.EPSG3857 : L.CRS.Simple, preferCanvas: true, zoomSnap: 0.25, minZoom: world ? 1 : -4, maxZoom: world ? 19 : 8, attributionControl: world && Boolean(settings.tile_url), zoomAnimation: !matchMedia("(prefers-reduced-motion: reduce)").matches });
      if (world && settings.tile_url) L.tileLayer(settings.tile_url, { attribution: settings.tile_attribution }).addTo(map);
      shown.current = { L, map, marks: new Map(), grid: world && settings.tile_url ? null : new Grid(L, map, world) };
      const bounds = L.latLngBounds(chosen.devices.map(({ at }) => at));
      for (const { device } of chosen.devices) if (!world) for (const point of (trails[device.id] ?? []).slice(-TRAIL)) bounds.extend([point.y, point.x]);
      map.fitBounds(bounds.pad(0.2), { maxZoom: world ? 14 : 5, animate: false });
      setReady(true);
    });
    const sized = new ResizeObserver(() => map?.invalidateSize({ animate: false }));
    sized.observe(box.current);
    const themed = () => shown.current && repaint(shown.current);
    addEventListener("fleetlake-theme", themed);
    return () => { gone = true; sized.disconnect(); removeEventListener("fleetlake-theme", themed); map?.remove(); shown.current = null; };
  }, []);
  useEffect(() => {
    if (!ready || !shown.current) return;
    const { L, map, marks } = shown.current;
    for (const { device, at } of chosen.devices) {
      let mark = marks.get(device.id);
      if (!mark) {
        const past = chosen.key === WORLD ? [] : (trails[device.id] ?? []).slice(-TRAIL).map((point) => [point.y, point.x]);
        mark = { path: past, seeded: past.length > 0 };
        mark.trail = L.polyline(past, { color: style("--accent"), weight: 2, opacity: 0.55, interactive: false }).addTo(map);
        mark.dot = L.circleMarker(at, { radius: 8, weight: 2, color: style("--panel"), fillColor: style("--accent"), fillOpacity: 1 }).addTo(map);
        mark.dot.bindTooltip(device.name || nativeId(device.id), { direction: "top", offset: [0, -8] });
        mark.dot.on("click", () => go("/device", { id: device.id }));
        marks.set(device.id, mark);
      }
      if (!mark.seeded && chosen.key !== WORLD && trails[device.id]) { mark.path = trails[device.id].slice(-TRAIL).map((point) => [point.y, point.x]).concat(mark.path); mark.seeded = true; }
      const last = mark.path[mark.path.length - 1];
      if (!last || last[0] !== at[0] || last[1] !== at[1]) mark.path.push(at);
      if (mark.path.length > TRAIL) mark.path.splice(0, mark.path.length - TRAIL);
      mark.dot.setLatLng(at);
      mark.trail.setLatLngs(mark.path);
    }
  }, [ready, chosen.devices, trails]);
  return html`<div class="map" ref=${box} role="application" aria-label=${`Map of ${chosen.devices.length} devices; the list beside it has their positions`}></div>`;
}

function repaint({ marks, grid }) {
  for (const { trail, dot } of marks.values()) { trail.setStyle({ color: style("--accent") }); dot.setStyle({ color: style("--panel"), fillColor: style("--accent") }); }
  grid?.draw();
}

/** Lines in round distances, so that a map without a picture still has a scale. */
class Grid {
  constructor(L, map, world) {
    this.L = L; this.map = map; this.world = world; this.lines = L.layerGroup().addTo(map);
    map.on("moveend zoomend resize", () => this.draw());
    map.whenReady(() => this.draw());
  }
  draw() {
    const bounds = this.map.getBounds(), span = Math.max(bounds.getEast() - bounds.getWest(), 1e-6);
    const raw = span / 8, power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
    this.lines.clearLayers();
    const options = { color: style("--line"), weight: 1, interactive: false };
    const south = Math.max(bounds.getSouth(), this.world ? -85 : -1e9), north = Math.min(bounds.getNorth(), this.world ? 85 : 1e9);
    for (let x = Math.ceil(bounds.getWest() / step) * step, n = 0; x <= bounds.getEast() && n < 40; x += step, n++) this.lines.addLayer(this.L.polyline([[south, x], [north, x]], options));
    for (let y = Math.ceil(south / step) * step, n = 0; y <= north && n < 40; y += step, n++) this.lines.addLayer(this.L.polyline([[y, bounds.getWest()], [y, bounds.getEast()]], options));
    this.map.getContainer().dataset.scale = this.world ? `grid: ${+step.toPrecision(3)}°` : `grid: ${+step.toPrecision(3)} m`;
  }
}
