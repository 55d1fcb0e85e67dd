// One key: creating it, saving it under the version that was read, and what happens if that changed.

import { ask, ascii, noticeThen, say, showError, valuePath } from "./api.js";
import { clock, localField } from "./time.js";
import { submits } from "./forms.js";

const page = document.getElementById("key-page");
const pageOf = (namespace, key) => `/dashboard/namespaces/${namespace}/key?key=${encodeURIComponent(key)}`;

const form = document.querySelector('[data-submit="save-key"], [data-submit="create-key"]');
if (form) {
  const expiration = Number(form.elements.expires.dataset.expiration);
  form.elements.at.value = localField(expiration || Date.now() / 1000 + 3600);
}

function request(fields, newline) {
  const headers = { "Content-Type": "application/octet-stream" };
  const metadata = fields.get("metadata").trim();
  if (metadata) {
    try {
      headers["Atoll-Metadata"] = ascii(JSON.stringify(JSON.parse(metadata)));
    } catch (error) {
      throw new Error(`The metadata is not JSON: ${error.message}.`);
    }
  }
  const choice = fields.get("expires");
  let query = "";
  if (choice === "keep") query = `?expiration=${form.elements.expires.dataset.expiration}`;
  else if (choice === "at") {
    const at = Date.parse(fields.get("at"));
    if (Number.isNaN(at)) throw new Error("Choose the time at which the key expires.");
    query = `?expiration=${Math.floor(at / 1000)}`;
  } else if (choice !== "never") query = `?expiration_ttl=${choice}`;
  const text = fields.get("value").replace(/\r\n/g, "\n");
  return { query, headers, body: newline ? text.replace(/\n/g, newline) : text };
}

async function put(namespace, key, made, condition) {
  return ask(valuePath(namespace, key) + made.query, {
    method: "PUT",
    body: made.body,
    headers: { ...made.headers, ...condition },
  });
}

submits["create-key"] = async (from, fields) => {
  const { namespace } = from.dataset;
  const key = fields.get("key");
  try {
    await put(namespace, key, request(fields), { "If-None-Match": "*" });
  } catch (error) {
    if (error.code !== "condition_failed") throw error;
    throw new Error("A key of this name exists already. Nothing was changed; open it to edit it.");
  }
  noticeThen("Created.", pageOf(namespace, key));
};

if (page) {
  const { namespace, key } = page.dataset;
  let version = page.dataset.version;
  const conflict = document.getElementById("conflict");
  const files = page.querySelector("[data-files]");
  const made = () => request(new FormData(form), "crlf" in form.dataset ? "\r\n" : "");

  const save = async () => {
    await put(namespace, key, made(), version ? { "If-Match": `"${version}"` } : { "If-None-Match": "*" });
    noticeThen("Saved.", pageOf(namespace, key));
  };

  // Shows both, and notes what is there now: saving over it means over that, and nothing later.
  const showBoth = async () => {
    let theirs = "";
    try {
      const answer = await ask(valuePath(namespace, key));
      version = answer.headers.get("ETag").replaceAll('"', "");
      theirs = await answer.text();
      say(conflict, "what", "This key was saved while you were editing.");
      say(conflict, "when", `at ${clock.format(new Date(Number(BigInt(version) >> 10n) / 1000))}`);
    } catch (error) {
      if (error.code !== "key_not_found") throw error;
      version = "";
      say(conflict, "what", "This key was deleted, or expired, while you were editing.");
      say(conflict, "when", "");
    }
    say(conflict, "theirs", version ? theirs : "(there is no such key now)");
    say(conflict, "mine", form.elements.value.value);
    conflict.hidden = false;
    conflict.focus();
  };

  submits["save-key"] = async () => {
    try {
      await save();
    } catch (error) {
      if (error.code !== "condition_failed") throw error;
      await showBoth();
    }
  };

  submits["delete-key"] = async () => {
    try {
      await ask(valuePath(namespace, key), { method: "DELETE", headers: { "If-Match": `"${version}"` } });
    } catch (error) {
      if (error.code !== "condition_failed") throw error;
      throw new Error("The key was changed since you opened this page. Reload it, look, and delete it then.");
    }
    const folder = key.slice(0, key.lastIndexOf("/") + 1);
    noticeThen("Deleted.", `/dashboard/namespaces/${namespace}${folder ? `?prefix=${encodeURIComponent(folder)}` : ""}`);
  };

  const acts = {
    replace: () => files.click(),
    format() {
      try {
        form.elements.value.value = JSON.stringify(JSON.parse(form.elements.value.value), null, 2);
      } catch (error) {
        showError(form, new Error(`This is not JSON: ${error.message}.`));
      }
    },
    "go-on"() {
      conflict.hidden = true;
      form.elements.value.focus();
    },
    overwrite: () => submits["save-key"](),
  };
  page.addEventListener("click", async (event) => {
    const act = acts[event.target.closest("button")?.dataset.act];
    if (!act) return;
    try {
      await act();
    } catch (error) {
      showError(page, error);
    }
  });

  // A file takes the value's place; metadata and expiration stay.
  files.addEventListener("change", async () => {
    try {
      const before = await ask(valuePath(namespace, key), { method: "HEAD" });
      const expiration = before.headers.get("Atoll-Expiration");
      const metadata = before.headers.get("Atoll-Metadata");
      await ask(valuePath(namespace, key) + (expiration ? `?expiration=${expiration}` : ""), {
        method: "PUT",
        body: files.files[0],
        headers: { "If-Match": `"${version}"`, "Content-Type": "application/octet-stream", ...(metadata ? { "Atoll-Metadata": metadata } : {}) },
      });
      noticeThen("Replaced.");
    } catch (error) {
      const changed = new Error("The key was changed since you opened this page. Reload it, look, and replace it then.");
      showError(page, error.code === "condition_failed" ? changed : error);
    }
  });
}
