// How times, numbers and names are written. Times are in the viewer's zone; UTC stands in the tooltip.
import { html, useNow } from "./lib.js";

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const numbers = [0, 1, 2, 3].map((digits) => new Intl.NumberFormat(undefined, { maximumFractionDigits: digits }));
const UNITS = { Cel: "°C", "dB[mW]": "dBm", 1: "", deg: "°", "m/s": "m/s", "rad/s": "rad/s", "[ppm]": "ppm", MBy: "MB" };

export const utc = (at) => new Date(at).toISOString().replace("T", " ").replace("Z", " UTC");
export const unitText = (unit) => (unit == null ? "" : UNITS[unit] ?? unit);

export function dateTime(at) {
  const date = new Date(at), today = new Date();
  return date.toDateString() === today.toDateString() ? clock.format(date) : `${day.format(date)}, ${clock.format(date)}`;
}

export function number(value) {
  if (value == null || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  return numbers[size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 3].format(value);
}
export const count = (value) => numbers[0].format(value);

export function duration(milliseconds) {
  const s = Math.max(0, Math.round(milliseconds / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function valueText(value, unit) {
  if (value === true) return "yes";
  if (value === false) return "no";
  if (typeof value === "number") {
    if (unit === "s" && Math.abs(value) >= 120) return duration(value * 1000);
    const text = unitText(unit);
    return text ? `${number(value)} ${text}` : number(value);
  }
  return value == null ? "–" : String(value);
}

/** An age that ticks. */
export function Age({ at, never = "never" }) {
  const now = useNow();
  if (!at) return html`<span class="muted">${never}</span>`;
  const age = Math.max(0, now - at);
  const text = age < 2000 ? "now" : `${duration(age)} ago`;
  return html`<time class="age" datetime=${new Date(at).toISOString()} title=${utc(at)}>${text}</time>`;
}

export function Moment({ at }) {
  return at == null ? html`<span class="muted">–</span>`
    : html`<time datetime=${new Date(at).toISOString()} title=${utc(at)}>${dateTime(at)}</time>`;
}

export const VENDORS = { karcher: "Kärcher", ogmen: "Ogmen", wayscloud: "WAYSCloud", climasense: "ClimaSense" };
export const vendorName = (vendor) => VENDORS[vendor] ?? vendor;
export const nativeId = (id) => id.slice(id.indexOf(":") + 1);
export const SEVERITIES = ["critical", "major", "minor", "warning", "info"];
export const severityRank = (severity) => { const rank = SEVERITIES.indexOf(severity); return rank < 0 ? 9 : rank; };
