// Lets requests through to the origin whose API key is known, and tells it whose key it was.

export default {
  async fetch(request, env) {
    const [, key] = /^Bearer (\S+)$/.exec(request.headers.get("Authorization") ?? "") ?? []
    let user = null
    try {
      user = key === undefined ? null : await env.API_KEYS.get(await sha256(key))
    } catch {
      // Past the bound, and central cannot be asked: the key may have been revoked meanwhile.
      return new Response("Ask again later", { status: 503, headers: { "Retry-After": "1" } })
    }
    // The name may be empty; only null is a key that is not known.
    if (user === null) {
      return new Response("An API key is needed", {
        status: 401,
        headers: { "WWW-Authenticate": "Bearer" },
      })
    }
    const { pathname, search } = new URL(request.url)
    const passedOn = new Request(env.ORIGIN + pathname + search, request)
    passedOn.headers.delete("Authorization")
    passedOn.headers.set("X-User", encodeURIComponent(user)) // whatever the caller had there
    return fetch(passedOn)
  },
}

// Keys are stored by their digests, so who can list the namespace learns none.
async function sha256(text) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))
  return [...new Uint8Array(digest)].map(byte => byte.toString(16).padStart(2, "0")).join("")
}
