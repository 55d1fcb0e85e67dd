// What every page has: dialogs, forms, times; and the parts of single pages.

import { ask, json, notice, noticeThen, restPath, say } from "./api.js";
import { submits } from "./forms.js";
import { countDown, localise } from "./time.js";

localise();
setInterval(() => countDown(), 1000);

const carried = sessionStorage.getItem("notice");
if (carried) {
  sessionStorage.removeItem("notice");
  notice(carried);
}

function open(name, from) {
  const dialog = document.getElementById(name);
  for (const place of dialog.querySelectorAll("[data-fill]")) place.value = from.dataset[place.dataset.fill] ?? "";
  for (const [key, value] of Object.entries(from.dataset)) say(dialog, key, value);
  for (const alert of dialog.querySelectorAll(".alert")) alert.hidden = true;
  dialog.showModal();
}

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select it, and copy by hand";
  }
  setTimeout(() => { button.textContent = before; }, 2000);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.open) open(button.dataset.open, button);
  if ("close" in button.dataset) button.closest("dialog").close();
  if (button.dataset.copy) copy(button.dataset.copy, button);
  if ("copySecret" in button.dataset) copy(document.querySelector(".secret").textContent, button);
  if ("done" in button.dataset) location.reload();
});

document.querySelector("[data-account-form] select")?.addEventListener("change", (event) => event.target.form.submit());

Object.assign(submits, {
  async "create-namespace"(form, fields) {
    const answer = await ask(restPath(form.dataset.account), json("POST", { title: fields.get("title") }));
    const { result } = await answer.json();
    noticeThen(`Created ${result.title}.`, `/dashboard/namespaces/${result.id}`);
  },
  async "rename-namespace"(form, fields) {
    const title = fields.get("title");
    await ask(restPath(form.dataset.account, fields.get("id")), json("PUT", { title }));
    noticeThen(`Renamed to ${title}.`);
  },
  async "delete-namespace"(form, fields) {
    if (fields.get("title") !== fields.get("expected")) throw new Error("That is not its title. Nothing was deleted.");
    await ask(restPath(form.dataset.account, fields.get("id")), { method: "DELETE" });
    noticeThen(`Deleted ${fields.get("expected")}.`);
  },
  async "create-token"(form, fields) {
    const namespaces = fields.getAll("namespaces");
    const seconds = Number(fields.get("expires"));
    const body = { name: fields.get("name"), permission: fields.get("permission") };
    if (namespaces.length) body.namespaces = namespaces;
    if (seconds) body.expires_on = new Date(Date.now() + seconds * 1000).toISOString();
    const answer = await ask(`/client/v4/accounts/${form.dataset.account}/tokens`, json("POST", body));
    const { result } = await answer.json();
    document.getElementById("create-token").close();
    const made = document.getElementById("token-made");
    say(made, "value", result.value);
    made.addEventListener("close", () => location.reload());
    made.showModal();
  },
  async "revoke-token"(form, fields) {
    await ask(`/client/v4/accounts/${form.dataset.account}/tokens/${fields.get("id")}`, { method: "DELETE" });
    noticeThen("Revoked.");
  },
});

// A part of a page that is fetched anew while somebody looks.
function refreshing(part) {
  const state = document.querySelector("[data-refresh-state]");
  const tell = (lamp, words) => {
    state.querySelector(".lamp").className = `lamp ${lamp}`;
    say(state, "state", words);
  };
  setInterval(async () => {
    if (document.hidden) return;
    try {
      const response = await fetch(location.href, { cache: "no-store" });
      if (response.redirected) {
        tell("down", "you were signed out: reload to sign in");
        return;
      }
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById(part.id);
      if (!response.ok || !fresh) throw new Error("no page");
      localise(fresh);
      part.replaceChildren(...fresh.childNodes);
      tell("good", `refreshed every ${part.dataset.refresh} seconds`);
    } catch {
      tell("down", "central cannot be reached: this is what it said last");
    }
  }, Number(part.dataset.refresh) * 1000);
}

const part = document.querySelector("[data-refresh]");
if (part) refreshing(part);
if (document.getElementById("keys")) await import("./keys.js");
if (document.getElementById("key-page") || document.querySelector('[data-submit="create-key"]')) await import("./key.js");
if (document.getElementById("where")) await import("./where.js");
if (document.getElementById("live")) await import("./live.js");
document.documentElement.dataset.ready = "";
