// Charts of time: uPlot in the page's colours, which the colour-blind can tell apart, with alarms drawn in.
import uPlot from "../vendor/uplot.js";
import { html, useEffect, useRef } from "./lib.js";
import { number, unitText } from "./format.js";

const LIGHT = ["#0b62c4", "#b4480b", "#00765a", "#8a3d8f", "#7a5c00", "#b0255b", "#3b5566"];
const DARK = ["#7cb7ff", "#ff9d5c", "#4fd0a8", "#e19be6", "#e3c04a", "#ff8fb5", "#b5c7d6"];
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const isDark = () => style("--dark") === "1";
export const colour = (index) => (isDark() ? DARK : LIGHT)[index % LIGHT.length];

/** A series with a gap where it was silent for long: a line across would say what nobody measured. */
function broken({ at, mean }, range) {
  const steps = at.slice(1).map((time, index) => time - at[index]).sort((a, b) => a - b);
  const most = Math.max((steps[Math.floor(steps.length * 0.9)] ?? 0) * 6, (range[1] - range[0]) / 60);
  const result = { at: [], mean: [] };
  at.forEach((time, index) => {
    if (index && time - at[index - 1] > most) { result.at.push(at[index - 1] + 1); result.mean.push(null); }
    result.at.push(time);
    result.mean.push(mean[index]);
  });
  return result;
}

/** The series, each with times of its own, on one axis of time. */
export function joined(every, range) {
  const series = every.map((one) => broken(one, range));
  if (series.length === 1) return [series[0].at.map((at) => at / 1000), series[0].mean];
  const times = [...new Set(series.flatMap((one) => one.at))].sort((a, b) => a - b);
  const place = new Map(times.map((at, index) => [at, index]));
  return [times.map((at) => at / 1000), ...series.map((one) => {
    const values = new Array(times.length).fill(undefined);
    one.at.forEach((at, index) => { values[place.get(at)] = one.mean[index]; });
    return values;
  })];
}

function marks(alarms) {
  return { hooks: { draw: [(plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    for (const alarm of alarms) {
      const from = plot.valToPos(alarm.triggered_at / 1000, "x", true);
      const to = alarm.resolved_at ? plot.valToPos(alarm.resolved_at / 1000, "x", true) : bbox.left + bbox.width;
      if (to < bbox.left || from > bbox.left + bbox.width) continue;
      const left = Math.max(bbox.left, from), right = Math.min(bbox.left + bbox.width, to);
      ctx.fillStyle = style(`--mark-${alarm.severity}`) || style("--mark-info");
      ctx.globalAlpha = 0.07;
      ctx.fillRect(left, bbox.top, Math.max(1, right - left), bbox.height);
      ctx.globalAlpha = 1;
      if (from >= bbox.left) ctx.fillRect(from - devicePixelRatio, bbox.top, 2 * devicePixelRatio, bbox.height);
    }
    ctx.restore();
  }] } };
}

const minutes = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const days = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

/** The label of a tick: the time, and the day where a new one begins. */
function tickText(tick, step, before) {
  const date = new Date(tick * 1000);
  if (step >= 86400) return days.format(date);
  const text = (step < 60 ? clock : minutes).format(date);
  return before != null && new Date(before * 1000).getDate() !== date.getDate() ? `${text}\n${days.format(date)}` : text;
}

function options(series, { width, height, range, alarms, onZoom, first }) {
  const axis = { stroke: style("--muted"), grid: { stroke: style("--line"), width: 1 }, ticks: { stroke: style("--line"), width: 1 }, font: "12px system-ui, sans-serif" };
  const unit = unitText(series[0]?.unit);
  return {
    width, height,
    scales: { x: { time: true, range: () => [range[0] / 1000, range[1] / 1000] }, y: { range: (_, low, high) => {
      if (low == null) return [0, 1];
      const spare = (high - low || Math.abs(high) || 1) * 0.1;
      return [low >= 0 && low - spare < 0 ? 0 : low - spare, high + spare];
    } } },
    axes: [{ ...axis, space: 80, values: (_, ticks, __, ___, step) => ticks.map((tick, index) => tickText(tick, step, ticks[index - 1])) }, { ...axis, size: 62, values: (_, ticks) => ticks.map((tick) => `${number(tick)}${unit ? ` ${unit}` : ""}`) }],
    series: [{}, ...series.map((one, index) => ({
      label: one.metric, stroke: colour(first + index), width: 2, dash: DASHES[Math.floor((first + index) / LIGHT.length)] ?? [],
      spanGaps: false, points: { show: one.at.length < 3 }, value: (_, value) => (value == null ? "–" : `${number(value)}${unit ? ` ${unit}` : ""}`),
    }))],
    cursor: { drag: { x: true, y: false, setScale: false }, sync: { key: "device" }, points: { size: 7 } },
    legend: { show: false },
    hooks: { setSelect: [(plot) => {
      if (plot.select.width < 6) return;
      const from = plot.posToVal(plot.select.left, "x") * 1000, to = plot.posToVal(plot.select.left + plot.select.width, "x") * 1000;
      plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
      onZoom?.(Math.round(from), Math.round(to));
    }], setCursor: [] },
    plugins: [marks(alarms)],
  };
}

/** A chart of series of one unit. `series`: [{metric, unit, at, mean}], `range`: [from, to] in milliseconds. */
export function Chart({ series, range, alarms = [], onZoom, height = 190, first = 0, label }) {
  const box = useRef(null), plot = useRef(null), latest = useRef({});
  latest.current = { onZoom, range };
  const points = series.reduce((sum, one) => sum + one.at.length, 0);
  const last = Math.max(0, ...series.map((one) => one.at[one.at.length - 1] ?? 0));
  useEffect(() => {
    const draw = () => {
      plot.current?.destroy();
      const width = box.current.clientWidth;
      if (!width) return;
      plot.current = new uPlot(options(series, { width, height, range, alarms, first, onZoom: (...zoom) => latest.current.onZoom?.(...zoom) }), joined(series, range), box.current);
    };
    draw();
    let width = box.current.clientWidth;
    const watcher = new ResizeObserver(() => { if (box.current && box.current.clientWidth !== width) { width = box.current.clientWidth; draw(); } });
    watcher.observe(box.current);
    const schemes = matchMedia("(prefers-color-scheme: dark)");
    schemes.addEventListener("change", draw);
    addEventListener("fleetlake-theme", draw);
    return () => { watcher.disconnect(); schemes.removeEventListener("change", draw); removeEventListener("fleetlake-theme", draw); plot.current?.destroy(); plot.current = null; };
  }, [series.map((one) => one.metric).join(), range[0], range[1], points, last, alarms.length]);
  const summary = series.map((one) => {
    const numbers = one.mean.filter((value) => value != null);
    return numbers.length ? `${one.metric}: ${number(Math.min(...numbers.slice(-5000)))} to ${number(Math.max(...numbers.slice(-5000)))} ${unitText(one.unit)}` : `${one.metric}: nothing`;
  }).join("; ");
  return html`<div class="chart" role="img" aria-label=${`${label ?? "Chart"}. ${summary}`} ref=${box} style=${{ minHeight: `${height}px` }}></div>`;
}
