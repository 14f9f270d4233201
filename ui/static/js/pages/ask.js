// Ask: SQL on the published tables, with completion; the answer as a table or a chart. Read-only, and limited.
import { html, remember, remembered, useEffect, useLoaded, useMemo, useRef, useState, useStore } from "../lib.js";
import { get, post, session } from "../api.js";
import { change, route } from "../router.js";
import { count, number } from "../format.js";
import { Empty, Problem, Rows, Segments } from "../components.js";
import { Chart } from "../chart.js";
import { toast } from "../toast.js";

const CLIENT = Math.random().toString(36).slice(2);
const FIRST = "SELECT device_id, name, health, silent_for, battery_level, worst_severity\nFROM fleet_health WHERE health <> 'ok' ORDER BY health, device_id";
const KEYWORDS = ["SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "LIMIT", "JOIN", "LEFT JOIN", "USING", "ON", "AND", "OR", "NOT", "AS", "DESC", "HAVING", "QUALIFY", "OVER", "PARTITION BY", "INTERVAL", "DISTINCT", "count(*)", "avg(", "min(", "max(", "CASE WHEN", "THEN", "ELSE", "END", "WITH", "UNION ALL", "BETWEEN", "IN", "IS NULL"];

export function Ask() {
  const { params } = useStore(route);
  const limits = useStore(session);
  const [sql, setSql] = useState(params.get("sql") ?? remembered("sql", FIRST));
  const [saved, setSaved] = useState(remembered("questions", []));
  const [answer, setAnswer] = useState(null);
  const [error, setError] = useState(null);
  const [running, setRunning] = useState(false);
  const [view, setView] = useState("table");
  const schema = useLoaded(() => get("/api/schema"), []);
  const examples = useLoaded(() => get("/static/questions.json"), []);
  const run = async (text = sql) => {
    setRunning(true);
    setError(null);
    remember("sql", text);
    change({ sql: text });
    try {
      const got = await post("/api/ask", { sql: text, client: CLIENT });
      if (got.error) setError(got.error); else setAnswer(got);
    } catch (problem) { setError(problem.message); }
    setRunning(false);
  };
  useEffect(() => { if (params.get("sql")) run(params.get("sql")); }, []);
  const choose = (text) => { setSql(text); run(text); };
  const keep = () => {
    const name = sql.trim().split("\n")[0].slice(0, 60);
    const next = [{ name, sql }, ...saved.filter((one) => one.sql !== sql)].slice(0, 50);
    setSaved(next);
    remember("questions", next);
    toast("Saved in this browser.", "good");
  };
  const forget = (one) => { const next = saved.filter((other) => other !== one); setSaved(next); remember("questions", next); };
  return html`<div class="page ask"><h1>Ask</h1>
    <div class="ask-columns">
      <div class="ask-main">
        <${Editor} sql=${sql} setSql=${setSql} run=${run} schema=${schema.data} />
        <div class="ask-bar"><button type="button" class="primary" disabled=${running} onClick=${() => run()}>${running ? "Running…" : "Run"} <kbd>Ctrl ↵</kbd></button>
          ${running ? html`<button type="button" onClick=${() => post("/api/ask/cancel", { sql: "", client: CLIENT })}>Cancel</button>` : html`<button type="button" onClick=${keep}>Save question</button>`}
          <span class="muted hint">Queries only. At most ${count(limits?.query_rows ?? 0)} rows and ${limits?.query_seconds} s.</span></div>
        ${error ? html`<pre class="sql-error" role="alert">${error}</pre>` : null}
        ${answer ? html`<${Answer} answer=${answer} view=${view} setView=${setView} />` : !error && html`<${Empty} title="Ask the fleet">Write a query, or choose a question. Press Tab to complete a table or a column.<//>`}
      </div>
      <aside class="ask-side" aria-label="Questions and tables">
        ${saved.length ? html`<h2>Saved</h2><ul class="questions">${saved.map((one) => html`<li><button type="button" class="link" onClick=${() => choose(one.sql)}>${one.name}</button><button type="button" class="forget" aria-label=${`Forget ${one.name}`} onClick=${() => forget(one)}>×</button></li>`)}</ul>` : null}
        <h2>Twenty questions</h2>${examples.data ? html`<ul class="questions">${examples.data.map((one) => html`<li><button type="button" class="link" onClick=${() => choose(one.sql)}>${one.question}</button></li>`)}</ul>` : null}
        <h2>Tables</h2>${schema.error ? html`<${Problem} error=${schema.error} retry=${schema.reload} />` : null}
        ${schema.data ? schema.data.tables.map((table) => html`<details class="table-info" key=${table.name}><summary><code>${table.name}</code></summary><p class="muted">${table.comment}</p><ul>${table.columns.map((column) => html`<li title=${column.comment}><code>${column.name}</code> <span class="muted">${column.type.toLowerCase()}</span></li>`)}</ul></details>`) : null}
      </aside>
    </div></div>`;
}

function Editor({ sql, setSql, run, schema }) {
  const box = useRef(null);
  const [offer, setOffer] = useState(null);
  const words = useMemo(() => {
    if (!schema) return KEYWORDS.map((word) => [word, "keyword"]);
    const columns = new Map();
    for (const table of schema.tables) for (const column of table.columns) columns.set(column.name, column.type.toLowerCase());
    return [...schema.tables.map((table) => [table.name, "table"]), ...schema.macros.map((macro) => [`${macro.name}(`, "macro"]), ...columns, ...KEYWORDS.map((word) => [word, "keyword"])];
  }, [schema]);
  const suggest = () => {
    const { selectionStart: at, value } = box.current;
    const [part] = /[A-Za-z_][\w.]*$/.exec(value.slice(0, at)) ?? [""];
    if (part.length < 2) { setOffer(null); return; }
    const lower = part.toLowerCase();
    const matching = words.filter(([word]) => word.toLowerCase().startsWith(lower) && word !== part).slice(0, 8);
    setOffer(matching.length ? { part, matching, at: 0 } : null);
  };
  const accept = ([word]) => {
    const { selectionStart: at, value } = box.current;
    const start = at - offer.part.length;
    const next = value.slice(0, start) + word + value.slice(at);
    setSql(next);
    setOffer(null);
    requestAnimationFrame(() => { box.current.focus(); box.current.setSelectionRange(start + word.length, start + word.length); });
  };
  const key = (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter") { event.preventDefault(); setOffer(null); run(box.current.value); return; }
    if (!offer) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) { event.preventDefault(); setOffer({ ...offer, at: (offer.at + step + offer.matching.length) % offer.matching.length }); }
    else if (event.key === "Tab") { event.preventDefault(); accept(offer.matching[offer.at]); }
    else if (event.key === "Escape") { event.preventDefault(); setOffer(null); }
  };
  return html`<div class="editor"><label class="visually-hidden" for="sql">SQL query</label>
    <textarea id="sql" ref=${box} rows=${Math.min(16, Math.max(4, sql.split("\n").length + 1))} spellcheck=${false} autocapitalize="off" autocomplete="off" aria-haspopup="listbox" aria-controls="completions" aria-autocomplete="list" aria-activedescendant=${offer ? `word-${offer.at}` : undefined}
      value=${sql} onInput=${(event) => { setSql(event.target.value); suggest(); }} onKeyDown=${key} onBlur=${() => setTimeout(() => setOffer(null), 150)}></textarea>
    <ul id="completions" role="listbox" aria-label="Completions" hidden=${!offer}>${offer?.matching.map((one, index) => html`<li id=${`word-${index}`} role="option" aria-selected=${index === offer.at ? "true" : "false"} onMouseDown=${(event) => { event.preventDefault(); accept(one); }}><code>${one[0]}</code><span>${one[1]}</span></li>`)}</ul></div>`;
}

const isNumber = (type) => /INT|DOUBLE|FLOAT|DECIMAL/i.test(type), isTime = (type) => /^TIMESTAMP|^DATE/i.test(type);

function Answer({ answer, view, setView }) {
  const { names, types, rows, truncated, seconds } = answer;
  const charted = useMemo(() => chartOf(answer), [answer]);
  const numbered = useMemo(() => rows.map((row, index) => ({ row, index })), [rows]);
  const columns = names.map((name, index) => ({
    key: String(index), label: name, width: `minmax(${Math.max(90, Math.min(280, 12 + 8.2 * Math.max(name.length, ...rows.slice(0, 50).map((row) => String(row[index] ?? "").length))))}px, 1fr)`,
    align: isNumber(types[index]) ? "end" : "", cell: ({ row }) => cell(row[index], types[index]),
  }));
  const save = () => {
    const quote = (value) => (value == null ? "" : /[",\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
    const blob = new Blob([[names, ...rows].map((row) => row.map(quote).join(",")).join("\r\n")], { type: "text/csv" });
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: "answer.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  return html`<section class="panel answer" aria-label="Answer"><div class="panel-head"><span role="status">${truncated ? `the first ${count(rows.length)} rows` : `${count(rows.length)} ${rows.length === 1 ? "row" : "rows"}`} <span class="muted">in ${number(seconds)} s</span></span>
      ${charted ? html`<${Segments} label="Show as" value=${view} options=${[["table", "Table"], ["chart", "Chart"]]} onChange=${setView} />` : null}
      ${rows.length ? html`<button type="button" onClick=${save}>CSV</button>` : null}</div>
    ${!rows.length ? html`<p class="muted pad">The query ran; it has no rows.</p>` : view === "chart" && charted ? html`<figure><figcaption>${charted.series.map((one) => html`<span class="key">${one.metric}</span>`)}</figcaption><${Chart} series=${charted.series} range=${charted.range} height=${320} label="Answer" /></figure>`
      : html`<div class="answer-rows" style=${{ height: `${Math.min(560, rows.length * 34 + 58)}px` }}><${Rows} label="Rows of the answer" columns=${columns} rows=${numbered} rowKey=${(one) => one.index} height=${34} /></div>`}
  </section>`;
}

function cell(value, type) {
  if (value == null) return html`<span class="muted">null</span>`;
  if (typeof value === "number") return html`<span class="num">${/INT/i.test(type) ? value : number(value)}</span>`;
  const text = isTime(type) ? String(value).replace("T", " ").replace(/(\.\d{3})\d*Z?$|Z$/, "$1") : String(value);
  return html`<span title=${isTime(type) ? `${text} UTC` : text}>${text}</span>`;
}

/** A chart needs a time and numbers; a text column makes one line per value. */
function chartOf({ names, types, rows }) {
  const time = types.findIndex(isTime), numeric = types.map((type, index) => index).filter((index) => isNumber(types[index]));
  if (time < 0 || !numeric.length || rows.length < 2) return null;
  const by = types.findIndex((type) => type === "VARCHAR");
  const lines = new Map();
  for (const row of rows) for (const index of by >= 0 ? numeric.slice(0, 1) : numeric.slice(0, 6)) {
    const at = Date.parse(String(row[time]));
    const name = by >= 0 ? String(row[by]) : names[index];
    if (row[index] == null || Number.isNaN(at)) continue;
    if (!lines.has(name)) { if (lines.size >= 12) continue; lines.set(name, []); }
    lines.get(name).push([at, row[index]]);
  }
  const series = [...lines].map(([metric, points]) => { points.sort((a, b) => a[0] - b[0]); return { metric, unit: "1", at: points.map(([at]) => at), mean: points.map(([, value]) => value) }; });
  const all = series.flatMap((one) => [one.at[0], one.at[one.at.length - 1]]);
  return series.length ? { series, range: [Math.min(...all), Math.max(...all) + 1] } : null;
}
