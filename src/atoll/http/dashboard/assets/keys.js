// The keys of a namespace: choosing and deleting several, uploading, importing, exporting.

import { ask, json, noticeThen, restPath, say, size, valuePath } from "./api.js";
import { submits } from "./forms.js";

const page = document.getElementById("keys");
const { namespace, account, prefix, title } = page.dataset;
const work = document.getElementById("work");
const BATCH_LINES = 1000;
const BATCH_CHARS = 4 * 2 ** 20;
const DELETE_KEYS = 5000;

// A line of work that is under way: what it is, how far it is, and a button that ends it.
function job(words) {
  const row = document.createElement("div");
  row.className = "work-row";
  row.innerHTML = '<span data-say="words"></span><progress></progress><span class="note" data-say="count"></span><button class="tiny">Cancel</button>';
  const progress = row.querySelector("progress");
  progress.ariaLabel = words;
  say(row, "words", words);
  work.append(row);
  work.hidden = false;
  const control = new AbortController();
  const button = row.querySelector("button");
  button.addEventListener("click", () => control.abort());
  return {
    signal: control.signal,
    tell(count, done, all) {
      say(row, "count", count);
      if (all) progress.max = all;
      if (all) progress.value = done;
    },
    end(said, extra) {
      progress.remove();
      say(row, "words", said);
      say(row, "count", "");
      button.replaceWith(...(extra ? [extra] : []));
    },
  };
}

const why = (error, half) => (error.name === "AbortError" ? `Cancelled. ${half}` : `${error.message} ${half}`);

function button(words, act) {
  const made = document.createElement("button");
  made.className = "tiny";
  made.textContent = words;
  made.addEventListener("click", act);
  return made;
}

// Choosing.

const picks = [...page.querySelectorAll("[data-pick]")];
const all = page.querySelector("[data-pick-all]");
const remove = page.querySelector('[data-act="delete-picked"]');
const picked = () => picks.filter((pick) => pick.checked).map((pick) => pick.dataset.pick);
const counted = (n) => `${n} key${n === 1 ? "" : "s"}`;

function showPicked() {
  const count = picked().length;
  remove.hidden = !count;
  remove.textContent = `Delete ${counted(count)}`;
  all.checked = count === picks.length && count > 0;
  all.indeterminate = count > 0 && count < picks.length;
}
for (const pick of picks) pick.addEventListener("change", showPicked);
all?.addEventListener("change", () => {
  for (const pick of picks) pick.checked = all.checked;
  showPicked();
});

submits["delete-keys"] = async () => {
  const keys = picked();
  for (let at = 0; at < keys.length; at += DELETE_KEYS) {
    await ask(`${restPath(account, namespace)}/bulk/delete`, json("POST", keys.slice(at, at + DELETE_KEYS)));
  }
  noticeThen(`Deleted ${counted(keys.length)}.`);
};

// Uploading: each file becomes a key.

async function uploadOne(file, condition) {
  const key = prefix + (file.webkitRelativePath || file.name);
  const one = job(`${key} (${size(file.size)})`);
  try {
    await ask(valuePath(namespace, key), {
      method: "PUT",
      body: file,
      signal: one.signal,
      headers: { "Content-Type": "application/octet-stream", ...condition },
    });
    one.end(`Uploaded ${key}.`);
    return true;
  } catch (error) {
    if (error.code === "condition_failed") {
      one.end(`${key} exists already, and was left as it is.`, button("Replace it", async (event) => {
        event.target.remove();
        if (await uploadOne(file, {})) noticeThen("Replaced.");
      }));
    } else one.end(`${key}: ${why(error, "It was not uploaded.")}`);
    return false;
  }
}

async function upload(files) {
  let stored = 0;
  for (const file of files) stored += await uploadOne(file, { "If-None-Match": "*" });
  if (stored === files.length) noticeThen(`Uploaded ${counted(stored).replace("key", "file")}.`);
  else if (stored) work.append(button("Show the new keys", () => location.reload()));
}

// Importing: a file with one pair a line, as `atoll import` reads, or an array of such pairs.

async function* linesOf(file, signal) {
  let rest = "";
  const reader = file.stream().pipeThrough(new TextDecoderStream("utf-8", { fatal: true })).getReader();
  for (;;) {
    signal.throwIfAborted();
    const { done, value } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    yield* lines;
  }
  yield rest;
}

async function* pairsOf(file, signal) {
  if ((await file.slice(0, 64).text()).trimStart().startsWith("[")) {
    yield* JSON.parse(await file.text());
    return;
  }
  let number = 0;
  for await (const line of linesOf(file, signal)) {
    number += 1;
    if (!line.trim()) continue;
    try {
      yield JSON.parse(line);
    } catch (error) {
      throw new Error(`Line ${number} is not JSON: ${error.message}.`);
    }
  }
}

async function importFile(file) {
  const one = job(`Importing ${file.name}`);
  let stored = 0;
  let read = 0;
  let pairs = [];
  let chars = 0;
  const send = async () => {
    if (!pairs.length) return;
    await ask(`${restPath(account, namespace)}/bulk`, { ...json("PUT", pairs), signal: one.signal });
    stored += pairs.length;
    read += chars;
    pairs = [];
    chars = 0;
    one.tell(counted(stored), Math.min(read, file.size), file.size);
  };
  try {
    for await (const pair of pairsOf(file, one.signal)) {
      pairs.push(pair);
      chars += JSON.stringify(pair).length;
      if (pairs.length >= BATCH_LINES || chars >= BATCH_CHARS) await send();
    }
    await send();
    noticeThen(`Imported ${counted(stored)}.`);
  } catch (error) {
    one.end(why(error, stored ? `${counted(stored)} had been imported and stay.` : "Nothing was imported."),
      stored ? button("Show the keys", () => location.reload()) : null);
  }
}

// Exporting what the page is about, in the form that an import reads.

async function lineOf(row, signal) {
  const pair = { key: row.name, value: row.value };
  if (row.base64) pair.base64 = true;
  if (row.value_omitted) {
    const raw = new Uint8Array(await (await ask(valuePath(namespace, row.name), { signal })).arrayBuffer());
    try {
      pair.value = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(raw);
    } catch {
      let bytes = "";
      for (let at = 0; at < raw.length; at += 8192) bytes += String.fromCharCode(...raw.subarray(at, at + 8192));
      Object.assign(pair, { value: btoa(bytes), base64: true });
    }
  }
  if (row.expiration) pair.expiration = row.expiration;
  if (row.metadata !== undefined) pair.metadata = row.metadata;
  return `${JSON.stringify(pair)}\n`;
}

async function exportKeys() {
  const one = job(prefix ? `Exporting what begins with ${prefix}` : `Exporting ${title}`);
  const asked = new URLSearchParams({ prefix });
  const parts = [];
  let done = 0;
  try {
    const { count } = await (await ask(`/v1/namespaces/${namespace}/count?${asked}`, { signal: one.signal })).json();
    asked.set("include", "values");
    for (;;) {
      const page = await (await ask(`/v1/namespaces/${namespace}/keys?${asked}`, { signal: one.signal })).json();
      for (const row of page.keys) {
        try {
          parts.push(await lineOf(row, one.signal));
        } catch (error) {
          if (error.code !== "key_not_found") throw error; // Deleted since it was listed.
        }
        done += 1;
      }
      if (parts.length > 500) parts.splice(0, parts.length, new Blob(parts));
      one.tell(`${done.toLocaleString()} of ${count.toLocaleString()}`, done, Math.max(count, done));
      if (!page.cursor) break;
      asked.set("cursor", page.cursor);
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(parts, { type: "application/x-ndjson" }));
    link.download = `${title.replace(/[^\p{L}\p{N}._-]+/gu, "-")}.ndjson`;
    link.click();
    one.end(`Exported ${counted(done)} to ${link.download}.`);
  } catch (error) {
    one.end(why(error, "No file was written."));
  }
}

const files = page.querySelector("[data-files]");
const importing = page.querySelector("[data-import]");
files.addEventListener("change", () => upload([...files.files]));
importing.addEventListener("change", () => importFile(importing.files[0]));

const acts = {
  upload: () => files.click(),
  import: () => importing.click(),
  export: exportKeys,
  "delete-picked"() {
    const dialog = document.getElementById("delete-keys");
    say(dialog, "count", counted(picked().length));
    dialog.showModal();
  },
};
page.addEventListener("click", (event) => acts[event.target.closest("button")?.dataset.act]?.());

if ("drop" in page.dataset) {
  let depth = 0;
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  const mark = () => page.classList.toggle("dropping", depth > 0);
  document.addEventListener("dragenter", (event) => { if (holdsFiles(event)) { depth += 1; mark(); } });
  document.addEventListener("dragleave", (event) => { if (holdsFiles(event)) { depth -= 1; mark(); } });
  document.addEventListener("dragover", (event) => { if (holdsFiles(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    depth = 0;
    mark();
    upload([...event.dataTransfer.files]);
  });
}
