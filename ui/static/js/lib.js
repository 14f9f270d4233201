// The library of the page, and small stores that components can watch.
export * from "../vendor/preact-htm.js";
import { useEffect, useLayoutEffect, useReducer, useRef, useState } from "../vendor/preact-htm.js";

/** A value with a version that rises with each change; watchers hear of changes once per animation frame. */
export class Store {
  constructor(value) { this.value = value; this.version = 0; this.watchers = new Set(); this.waiting = false; }
  set(value) { this.value = value; this.changed(); }
  changed() {
    this.version++;
    if (this.waiting) return;
    this.waiting = true;
    // A hidden page gets no animation frames; a timer keeps its title right.
    const tell = () => { this.waiting = false; for (const watch of [...this.watchers]) watch(); };
    if (document.hidden) setTimeout(tell, 50); else requestAnimationFrame(tell);
  }
  watch(watcher) { this.watchers.add(watcher); return () => this.watchers.delete(watcher); }
}

/** The store's value; the component is drawn anew when it changes. */
export function useStore(store) {
  const [, redraw] = useReducer((count) => count + 1, 0);
  const drawn = store.version;
  useLayoutEffect(() => {
    if (store.version !== drawn) redraw(); // it changed between drawing and watching
    return store.watch(redraw);
  }, [store]);
  return store.value;
}

const seconds = new Store(Date.now());
setInterval(() => seconds.set(Date.now()), 1000);
/** The time in milliseconds, once per second: relative ages tick with it. */
export const useNow = () => useStore(seconds);

/** Whether a media query holds. */
export function useMedia(query) {
  const list = useRef(null);
  list.current ??= matchMedia(query);
  const [holds, set] = useState(list.current.matches);
  useEffect(() => {
    const heard = () => set(list.current.matches);
    list.current.addEventListener("change", heard);
    return () => list.current.removeEventListener("change", heard);
  }, []);
  return holds;
}
export const PHONE = "(max-width: 760px)";

/** Reads something: {data, error, loading, reload}. What was read before stays while it is read anew. */
export function useLoaded(read, keys) {
  const [state, set] = useState({ data: null, error: null, loading: true });
  const turn = useRef(0);
  const load = () => {
    const mine = ++turn.current;
    set((before) => ({ ...before, loading: true }));
    read().then(
      (data) => mine === turn.current && set({ data, error: null, loading: false }),
      (error) => mine === turn.current && set((before) => ({ data: before.data, error, loading: false })),
    );
  };
  useEffect(() => { set({ data: null, error: null, loading: true }); load(); return () => { turn.current++; }; }, keys);
  return { ...state, reload: load };
}

/** Calls a function every so often while the page can be seen. */
export function useInterval(work, milliseconds) {
  const latest = useRef(work);
  latest.current = work;
  useEffect(() => {
    const timer = setInterval(() => document.hidden || latest.current(), milliseconds);
    return () => clearInterval(timer);
  }, [milliseconds]);
}

/** A setting that this browser remembers. */
export function remembered(name, otherwise) {
  try { return JSON.parse(localStorage.getItem(`fleetlake.${name}`)) ?? otherwise; } catch { return otherwise; }
}
export function remember(name, value) {
  try { localStorage.setItem(`fleetlake.${name}`, JSON.stringify(value)); } catch { /* then it is forgotten */ }
}
