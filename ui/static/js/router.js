// The address: which page, with which filters. Everything that a person has chosen stands there, so that it can be sent.
import { Store, html } from "./lib.js";

const read = () => ({ path: location.pathname === "/" ? "/fleet" : location.pathname, params: new URLSearchParams(location.search) });
export const route = new Store(read());
addEventListener("popstate", () => route.set(read()));

export function address(path, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value != null && value !== "") query.set(name, value);
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

export function go(path, params) {
  history.pushState(null, "", address(path, params));
  route.set(read());
  scrollTo(0, 0);
}

/** Changes parameters of the present page; an empty value removes one. */
export function change(params, { keep = false } = {}) {
  const all = { ...Object.fromEntries(route.value.params), ...params };
  history[keep ? "pushState" : "replaceState"](null, "", address(location.pathname, all));
  route.set(read());
}

export function Link({ href, children, ...rest }) {
  const click = (event) => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    history.pushState(null, "", href);
    route.set(read());
    scrollTo(0, 0);
  };
  return html`<a href=${href} onClick=${click} ...${rest}>${children}</a>`;
}

export const deviceAddress = (id, params = {}) => address("/device", { id, ...params });
