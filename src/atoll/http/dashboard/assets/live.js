// The feed of a namespace, as it comes. The browser reconnects by itself, and misses nothing.

import { say } from "./api.js";
import { clock, left } from "./time.js";

const page = document.getElementById("live");
const { namespace, prefix } = page.dataset;
const rows = page.querySelector("[data-rows]");
const state = page.querySelector("[data-state]");
const pause = page.querySelector('[data-act="pause"]');
const ROWS_MAX = 200;
let held = null; // Rows that wait while the page is paused.

function tell(lamp, words) {
  state.querySelector(".lamp").className = `lamp ${lamp}`;
  say(state, "state", words);
}

function cell(row, name, ...content) {
  const made = document.createElement(name);
  made.append(...content);
  row.append(made);
  return made;
}

function rowOf(kind, change) {
  const row = document.createElement("tr");
  row.className = "fresh";
  const when = new Date(Number(BigInt(change.version) >> 10n) / 1000);
  const time = Object.assign(document.createElement("time"), { dateTime: when.toISOString(), textContent: clock.format(when), title: when.toLocaleString() });
  cell(row, "td", time);
  cell(row, "td", kind === "put" ? "written" : "deleted").className = `what-${kind}`;
  const link = document.createElement("a");
  link.href = `/dashboard/namespaces/${namespace}/key?key=${encodeURIComponent(change.key)}`;
  link.textContent = change.key;
  cell(row, "th", link).scope = "row";
  const expires = document.createElement("span");
  if (change.expiration) expires.dataset.expires = change.expiration;
  expires.textContent = change.expiration ? left(change.expiration - Date.now() / 1000) : "";
  cell(row, "td", expires).className = "wide";
  return row;
}

function add(row) {
  if (held) {
    held.push(row);
    if (held.length > ROWS_MAX) held.shift();
    pause.textContent = `Go on (${held.length} waiting)`;
    return;
  }
  rows.querySelector(".waiting")?.remove();
  rows.prepend(row);
  while (rows.children.length > ROWS_MAX) rows.lastElementChild.remove();
}

pause.addEventListener("click", () => {
  const waiting = held;
  held = waiting ? null : [];
  pause.textContent = held ? "Go on" : "Pause";
  pause.setAttribute("aria-pressed", String(Boolean(held)));
  for (const row of waiting ?? []) add(row);
});

const feed = new EventSource(`/dashboard/api/v1/namespaces/${namespace}/watch?prefix=${encodeURIComponent(prefix)}`);
let over = false;
for (const kind of ["put", "delete"]) {
  feed.addEventListener(kind, (event) => add(rowOf(kind, JSON.parse(event.data))));
}
feed.addEventListener("present", () => tell("good", "live"));
feed.addEventListener("position", () => tell("good", "live"));
feed.addEventListener("end", (event) => {
  const why = JSON.parse(event.data);
  // What will not be otherwise in a second is not asked for again.
  if (why.status >= 500) return;
  over = true;
  feed.close();
  tell("down", why.status === 401 ? "your token was revoked: sign in again" : why.message);
});
feed.addEventListener("error", () => {
  if (over) return;
  if (feed.readyState === EventSource.CLOSED) tell("down", "ended: reload the page to go on");
  else tell("warn", "connecting again…");
});
addEventListener("pagehide", () => feed.close());
