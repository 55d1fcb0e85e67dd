// A list of things to do for each visitor, who is known by a cookie.

import PAGE from "./page.html"

const YEAR_S = 365 * 24 * 60 * 60
const THINGS_MAX = 100
const TEXT_LENGTH_MAX = 200

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url)
    const visitor = visitorOf(request.headers.get("Cookie") ?? "")
    if (pathname === "/" && request.method === "GET") {
      return page(visitor ?? crypto.randomUUID())
    }
    if (pathname !== "/things") {
      return new Response("Not found", { status: 404 })
    }
    if (visitor === undefined) {
      return new Response("Open the page first", { status: 401 })
    }
    if (request.method === "GET") {
      return Response.json((await env.LISTS.get(visitor, "json")) ?? [])
    }
    if (request.method === "PUT") {
      return save(env.LISTS, visitor, await request.text())
    }
    return new Response("Use GET or PUT", { status: 405, headers: { Allow: "GET, PUT" } })
  },
}

function visitorOf(cookies) {
  return /(?:^|; )visitor=([\da-f-]{36})(?:;|$)/.exec(cookies)?.[1]
}

// Whoever has the cookie has the list, so no script can read it and no other site can send it.
function page(visitor) {
  const cookie = `visitor=${visitor}; Path=/; Max-Age=${YEAR_S}; HttpOnly; SameSite=Strict`
  return new Response(PAGE, {
    headers: { "Content-Type": "text/html; charset=utf-8", "Set-Cookie": cookie },
  })
}

async function save(lists, visitor, text) {
  if (!isList(text)) {
    return new Response("This is no list of things to do", { status: 400 })
  }
  try {
    await lists.put(visitor, text, { expirationTtl: YEAR_S })
  } catch (error) {
    if (!error.message.includes(" 429 ")) {
      throw error
    }
    return new Response("Once a second", { status: 429, headers: { "Retry-After": "1" } })
  }
  return new Response(null, { status: 204 })
}

function isList(text) {
  let things
  try {
    things = JSON.parse(text)
  } catch {
    return false
  }
  return Array.isArray(things) && things.length <= THINGS_MAX && things.every(isThing)
}

function isThing(thing) {
  return typeof thing?.text === "string" && thing.text.length <= TEXT_LENGTH_MAX &&
    typeof thing.done === "boolean" && Object.keys(thing).length === 2
}
