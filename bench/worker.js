// The Worker that is measured: the key in the path, or many reads in one request.
export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    const count = Number(url.searchParams.get("count"));
    if (!count) {
      const value = await env.KV.get(url.pathname.slice(1), "arrayBuffer");
      return value === null ? new Response(null, { status: 404 }) : new Response(value);
    }
    const first = Number(url.searchParams.get("first"));
    let found = 0;
    for (let n = first; n < first + count; n++) {
      const key = `${url.pathname.slice(1)}-${String(n).padStart(8, "0")}`;
      if ((await env.KV.get(key, "arrayBuffer")) !== null) found++;
    }
    return new Response(String(found), { status: found === count ? 200 : 500 });
  },
};
