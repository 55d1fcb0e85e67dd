// Runs miniflare with a Worker that reads Workers KV, and gives it keys. The settings come as JSON
// in the file that is named first; another file says when everything is there.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const told = JSON.parse(readFileSync(process.argv[2]));
const { Miniflare } = createRequire(join(told.modules, "x.js"))("miniflare");
const runtime = new Miniflare({
  modules: true,
  script: told.script,
  host: "127.0.0.1",
  port: told.port,
  compatibilityDate: "2026-04-01",
  kvNamespaces: ["KV"],
  kvPersist: join(told.folder, "kv"),
});
await runtime.ready;
const kv = await runtime.getKVNamespace("KV");
const AT_ONCE = 32;
const left = [...told.keys];
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (let key = left.pop(); key !== undefined; key = left.pop()) await kv.put(key, told.value);
  }),
);
writeFileSync(join(told.folder, "ready"), "");
process.on("SIGTERM", async () => {
  await runtime.dispose();
  process.exit(0);
});
