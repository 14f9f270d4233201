// Requests to the server, and who has signed in.
import { Store } from "./lib.js";

/** null: not known yet; false: nobody has signed in; else what /api/session answers. */
export const session = new Store(null);

export class ApiError extends Error {
  constructor(status, code, message) { super(message); this.status = status; this.code = code; }
}

async function answered(response) {
  if (response.ok) return response.json();
  let content = {};
  try { content = await response.json(); } catch { /* not ours: a proxy's */ }
  if (response.status === 401 && !response.url.endsWith("/api/sign-in")) session.set(false);
  throw new ApiError(response.status, content.error ?? "error", content.message ?? `The server answered ${response.status}`);
}

async function sent(path, options) {
  let response;
  try { response = await fetch(path, options); } catch { throw new ApiError(0, "away", "The server does not answer"); }
  return answered(response);
}

/** GET with parameters; a list becomes a repeated parameter. */
export function get(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one != null) query.append(name, one);
  }
  const text = query.toString();
  return sent(text ? `${path}?${text}` : path);
}

export const post = (path, body) =>
  sent(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export async function readSession() {
  try { session.set(await get("/api/session")); } catch (error) { if (error.status !== 401) throw error; }
}
