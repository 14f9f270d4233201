// What several pages are made of.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./lib.js";
import { number, vendorName } from "./format.js";

const SHAPES = {
  critical: html`<path d="M5.2 1.5h5.6l3.7 3.7v5.6l-3.7 3.7H5.2L1.5 10.8V5.2z"/>`,
  major: html`<path d="M8 1.5 15 14H1z"/>`,
  minor: html`<path d="M8 1 15 8 8 15 1 8z"/>`,
  warning: html`<rect x="2" y="2" width="12" height="12" rx="2"/>`,
  info: html`<circle cx="8" cy="8" r="6.5"/>`,
};

/** A severity by shape, colour and word: no one of them carries the meaning alone. */
export function Severity({ severity, short = false }) {
  const known = SHAPES[severity] ? severity : "info";
  return html`<span class=${`severity ${known}`}>
    <svg viewBox="0 0 16 16" aria-hidden="true">${SHAPES[known]}</svg>
    <span class=${short ? "visually-hidden" : ""}>${severity}</span></span>`;
}

export function Presence({ state }) {
  return html`<span class=${`presence ${state}`}><i aria-hidden="true"></i>${state}</span>`;
}

export function Vendor({ vendor }) {
  return html`<span class=${`vendor v-${vendor}`}>${vendorName(vendor)}</span>`;
}

export function Battery({ level }) {
  if (typeof level !== "number") return html`<span class="muted">–</span>`;
  const kind = level < 20 ? "low" : level < 50 ? "half" : "full";
  return html`<span class=${`battery ${kind}`}>
    <svg viewBox="0 0 26 12" aria-hidden="true"><rect class="shell" x=".5" y=".5" width="22" height="11" rx="2.5"/>
      <rect class="charge" x="2" y="2" width=${Math.max(1, (19 * Math.min(100, level)) / 100)} height="8" rx="1"/>
      <rect class="tip" x="23.5" y="4" width="2" height="4" rx="1"/></svg>
    <span class="num">${number(Math.round(level))} %</span></span>`;
}

export function Empty({ title, children }) {
  return html`<div class="empty"><h2>${title}</h2><p>${children}</p></div>`;
}

export function Problem({ error, retry }) {
  return html`<div class="problem" role="alert"><p>${error.message}</p>
    ${retry && html`<button type="button" onClick=${retry}>Try again</button>`}</div>`;
}

export function Loading({ what = "Loading…", lines = 6 }) {
  return html`<div class="skeleton" role="status" aria-label=${what}>${Array.from({ length: lines }, () => html`<i></i>`)}</div>`;
}

export function Select({ label, value, options, onChange, all = "All" }) {
  return html`<label class="select"><span>${label}</span>
    <select aria-label=${label} value=${value} onChange=${(event) => onChange(event.target.value)}>
      ${all && html`<option value="">${all}</option>`}
      ${options.map((one) => { const [key, text] = Array.isArray(one) ? one : [one, one]; return html`<option value=${key} selected=${key === value}>${text}</option>`; })}
    </select></label>`;
}

export function Segments({ label, value, options, onChange }) {
  return html`<div class="segments" role="group" aria-label=${label}>${options.map(([key, text]) => html`
    <button type="button" aria-pressed=${key === value ? "true" : "false"} onClick=${() => onChange(key)}>${text}</button>`)}</div>`;
}

/** A list of any length of which only the rows in sight exist. `columns`: {key, label, width, align, cell, sort}. */
export function Rows({ label, columns, rows, rowKey, height = 44, card, sort, onSort, selected, rowClass, onOpen }) {
  const box = useRef(null);
  const [view, setView] = useState({ top: 0, size: 600 });
  useLayoutEffect(() => {
    const element = box.current;
    const look = () => setView({ top: element.scrollTop, size: element.clientHeight });
    look();
    const watcher = new ResizeObserver(look);
    watcher.observe(element);
    let frame = 0;
    const scrolled = () => { cancelAnimationFrame(frame); frame = requestAnimationFrame(look); };
    element.addEventListener("scroll", scrolled, { passive: true });
    return () => { watcher.disconnect(); element.removeEventListener("scroll", scrolled); };
  }, []);
  useEffect(() => {
    const at = selected == null ? -1 : rows.findIndex((row) => rowKey(row) === selected);
    const element = box.current;
    if (at < 0 || !element) return;
    const head = columns && !card ? 40 : 0, top = at * height;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + height + head > element.scrollTop + element.clientHeight) element.scrollTop = top + height + head - element.clientHeight;
  }, [selected]);
  const first = Math.max(0, Math.floor(view.top / height) - 6);
  const last = Math.min(rows.length, Math.ceil((view.top + view.size) / height) + 6);
  // While scrolling, rows that leave become those that come: changing an element's text costs half of making a new one. Where the
  // focus is in a row, elements stay with their row instead.
  const pool = 32 * Math.ceil((last - first + 1) / 32);
  const recycle = !document.activeElement?.closest(".rows-body .row");
  const template = columns.map((column) => column.width).join(" ");
  // Head and rows share one least width, so that their columns stand below each other when the list scrolls sideways.
  const least = card ? 0 : columns.reduce((sum, column) => sum + Number(/(\d+(?:\.\d+)?)px/.exec(column.width)?.[1] ?? 0) + 14, 14);
  const head = card ? null : html`<div role="rowgroup" class="rows-head" style=${{ minWidth: `${least}px` }}><div role="row" aria-rowindex="1" class="row" style=${{ gridTemplateColumns: template }}>
    ${columns.map((column) => html`<div role="columnheader" class=${column.align ?? ""}
      aria-sort=${sort?.key === column.key ? (sort.down ? "descending" : "ascending") : undefined}>
      ${column.sort ? html`<button type="button" class="sort" onClick=${() => onSort(column.key)}>${column.label}<span aria-hidden="true">${sort?.key === column.key ? (sort.down ? " ↓" : " ↑") : ""}</span></button>` : column.label}</div>`)}
  </div></div>`;
  return html`<div class="rows" ref=${box} role="table" aria-label=${label} aria-rowcount=${rows.length + (card ? 0 : 1)} tabindex="0">
    ${head}
    <div role="rowgroup" class="rows-body" style=${{ height: `${rows.length * height}px`, minWidth: `${least}px` }}>
      ${rows.slice(first, last).map((row, index) => {
        const at = first + index, key = rowKey(row);
        return html`<div role="row" key=${recycle ? at % pool : key} aria-rowindex=${at + (card ? 1 : 2)}
          class=${`row ${card ? "card-row" : ""} ${rowClass?.(row) ?? ""} ${selected === key ? "selected" : ""}`}
          onClick=${onOpen && ((event) => event.target.closest("a,button,input,label") || onOpen(row))}
          style=${{ top: `${at * height}px`, height: `${height}px`, ...(card ? {} : { gridTemplateColumns: template }) }}>
          ${card ? html`<div role="cell" class="card-cell">${card(row)}</div>` : columns.map((column) => html`<div role="cell" class=${column.align ?? ""}>${column.cell(row)}</div>`)}
        </div>`;
      })}
    </div></div>`;
}

/** A dialog of the browser's own: it keeps the focus inside, and Escape closes it. */
export function Dialog({ title, onClose, children }) {
  const box = useRef(null);
  useEffect(() => { box.current.showModal(); }, []);
  return html`<dialog ref=${box} aria-label=${title} onClose=${onClose} onClick=${(event) => event.target === box.current && box.current.close()}>
    <div class="dialog"><h2>${title}</h2>${children}</div></dialog>`;
}

/** Rows sorted by the column that the address names. */
export function useSorted(rows, columns, key, down) {
  return useMemo(() => {
    const by = columns.find((column) => column.key === key)?.sort;
    if (!by) return rows;
    const sign = down ? -1 : 1;
    return [...rows].sort((a, b) => {
      const x = by(a), y = by(b);
      if (x == null || y == null) return x == null ? (y == null ? 0 : 1) : -1;
      return (x < y ? -1 : x > y ? 1 : 0) * sign;
    });
  }, [rows, key, down]);
}
