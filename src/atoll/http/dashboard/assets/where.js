// What each location holds of a key, asked again and again; and a write that one can watch arrive.

import { ask, segment, say, showError, valuePath } from "./api.js";

const page = document.getElementById("where");
const { namespace, key } = page.dataset;
const EVERY_MS = 1000;
const WATCHED_EVERY_MS = 60;
const WATCHED_MS = 6000;
let watched = null; // The version that was written, when, and who has it.

const rows = new Map([...page.querySelectorAll("[data-where]")].map((row) => [row.dataset.where, row]));

function words(one, current) {
  if (one.journaled) return ["warn", "a write of its own, in its journal"];
  switch (one.holds) {
    case "no answer": return ["down", "no answer"];
    case "nothing": return ["none", "nothing: the next read asks central"];
    case "missing": return [one.current ? "good" : "warn", one.current ? "that there is none" : "that there is none, which is old"];
    default:
      if (one.current) return ["good", one.stale ? "current, past its bound" : "current"];
      return ["warn", current ? "an older value, marked: the next read asks" : "a value that is gone"];
  }
}

function ageOf(one) {
  if (one.age_ms === null || one.age_ms === undefined) return "";
  return one.age_ms < 1000 ? `${one.age_ms} ms` : `${(one.age_ms / 1000).toFixed(1)} s`;
}

function show(name, state, holds, version, age) {
  const row = rows.get(name);
  if (!row) return;
  const place = row.querySelector('[data-say="holds"]');
  if (place.dataset.state !== state || place.textContent !== holds) {
    place.replaceChildren(Object.assign(document.createElement("span"), { className: `key ${state}`, textContent: holds }));
    place.dataset.state = state;
  }
  say(row, "version", version ?? "");
  say(row, "age", age);
  const dot = page.querySelector(`[data-dot="${CSS.escape(name)}"]`);
  if (dot) dot.setAttribute("class", `dot ${state}`);
}

function arrived(name, version, ms) {
  if (!watched || watched.seen.has(name) || version !== watched.version) return;
  watched.seen.add(name);
  say(rows.get(name), "arrived", ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
}

async function look() {
  const asked = await ask(`/v1/namespaces/${namespace}/where/${segment(key)}`);
  const found = await asked.json();
  const ms = watched ? performance.now() - watched.at : 0;
  const { central } = found;
  show("central", "good", central.holds === "missing" ? "that there is none" : "its value", central.version, "");
  for (const one of found.locations) {
    show(one.name, ...words(one, central.version), one.version, ageOf(one));
    arrived(one.name, one.version, ms);
  }
}

async function keepLooking() {
  let pause = EVERY_MS;
  if (!document.hidden) {
    try {
      await look();
      page.querySelector(".alert").hidden = true;
    } catch (error) {
      showError(page, error);
    }
    if (watched && performance.now() - watched.at < WATCHED_MS) pause = WATCHED_EVERY_MS;
  }
  setTimeout(keepLooking, pause);
}

async function write() {
  const before = await ask(valuePath(namespace, key));
  const headers = { "If-Match": before.headers.get("ETag"), "Content-Type": "application/octet-stream" };
  const metadata = before.headers.get("Atoll-Metadata");
  if (metadata) headers["Atoll-Metadata"] = metadata;
  const expiration = before.headers.get("Atoll-Expiration");
  const body = await before.blob();
  for (const row of rows.values()) say(row, "arrived", "");
  const at = performance.now();
  const answer = await ask(valuePath(namespace, key) + (expiration ? `?expiration=${expiration}` : ""), { method: "PUT", body, headers });
  const { version } = await answer.json();
  watched = { version, at, seen: new Set(["central"]) };
  say(rows.get("central"), "arrived", `${Math.round(performance.now() - at)} ms`);
}

page.querySelector('[data-act="write"]')?.addEventListener("click", async (event) => {
  event.target.disabled = true;
  try {
    await write();
  } catch (error) {
    showError(page, error.code === "key_not_found" ? new Error("There is no such key to write again.") : error);
  }
  setTimeout(() => { event.target.disabled = false; }, 1100); // A key is written once a second.
});

keepLooking();
