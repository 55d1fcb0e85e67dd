// Requests to REST and /v1, in the name of this session. What fails is an error in words.

const csrf = document.querySelector('meta[name="csrf-token"]')?.content ?? "";

export class Refused extends Error {
  constructor(message, status, code, facts = {}) {
    super(message);
    Object.assign(this, { status, code, facts });
  }
}

const WAYS_ON = {
  unauthenticated: "Your token was revoked or has expired, or you were signed out. Sign in again.",
  forbidden: "Your token does not allow this.",
  rewrite_too_soon: "A key can be written once a second. Try again in a moment.",
};

async function refusal(response) {
  let said = {};
  try {
    said = await response.json();
  } catch {
    // Whatever stands between us and central does not answer in JSON.
  }
  const error = said.error ?? said.errors?.[0] ?? {};
  let code = error.code;
  if (response.status === 401) code = "unauthenticated";
  if (response.status === 403 && !error.message) code = "forbidden";
  const message = WAYS_ON[code] ?? error.message ?? `Central answered with status ${response.status}.`;
  return new Refused(message, response.status, code, error);
}

async function attempt(path, options) {
  const headers = { "Atoll-CSRF": csrf, ...options.headers };
  try {
    return await fetch(`/dashboard/api${path}`, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("Central cannot be reached. Nothing is known to have changed; try again.", 0, "offline");
  }
}

// Who saves a key twice in a second is not told so: the second time waits, once and not for long.
const WAIT_MS_MAX = 1500;

export async function ask(path, options = {}) {
  let response = await attempt(path, options);
  const wait = Number(response.headers.get("Retry-After-Ms"));
  if (response.status === 429 && wait > 0 && wait <= WAIT_MS_MAX) {
    await new Promise((go) => { setTimeout(go, wait); });
    options.signal?.throwIfAborted();
    response = await attempt(path, options);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

export const json = (method, body) => ({
  method,
  body: JSON.stringify(body),
  headers: { "Content-Type": "application/json" },
});

export const segment = (key) => encodeURIComponent(key).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16)}`);
export const valuePath = (namespace, key) => `/v1/namespaces/${namespace}/values/${segment(key)}`;
export const restPath = (account, namespace) =>
  `/client/v4/accounts/${account}/storage/kv/namespaces${namespace ? `/${namespace}` : ""}`;

// Headers carry ASCII only.
export const ascii = (text) => text.replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

export function notice(text) {
  const shown = document.createElement("p");
  shown.className = "notice";
  shown.textContent = text;
  document.getElementById("notices").append(shown);
  setTimeout(() => shown.remove(), 8000);
}

// Says it on the next page, too.
export function noticeThen(text, address) {
  sessionStorage.setItem("notice", text);
  if (address) location.assign(address);
  else location.reload();
}

export function showError(container, error) {
  const place = container.querySelector(".alert[role=alert]");
  if (!place) return notice(error.message);
  place.textContent = error.message;
  if (error.code === "unauthenticated") {
    const link = document.createElement("a");
    link.href = `/dashboard/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`;
    link.textContent = "Sign in";
    place.append(" ", link);
  }
  place.hidden = false;
  place.scrollIntoView({ block: "nearest" });
}

export function say(container, name, text) {
  for (const place of container.querySelectorAll(`[data-say="${name}"]`)) place.textContent = text;
}

export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const units = ["KB", "MB", "GB", "TB"];
  let at = -1;
  do { bytes /= 1000; at += 1; } while (bytes >= 1000 && at < units.length - 1);
  return `${Number(bytes.toPrecision(3))} ${units[at]}`;
}
