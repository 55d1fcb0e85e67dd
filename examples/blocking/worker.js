// Answers 403 to visitors whose address is stored. /block/<ip> stores one, for a week.

const WEEK_S = 7 * 24 * 60 * 60

addEventListener("fetch", event => event.respondWith(answer(event.request)))

async function answer(request) {
  const visitor = addressOf(request.headers.get("CF-Connecting-IP") ?? "")
  // What is stored is empty, and "" is false: `if (await BLOCKED.get(visitor))` would never block.
  if (visitor !== null && (await BLOCKED.get(visitor)) !== null) {
    return new Response("You are blocked!", { status: 403 })
  }
  const { pathname, search } = new URL(request.url)
  if (pathname.startsWith("/block/")) {
    const address = addressOf(pathname.slice("/block/".length).replace(/%3A/gi, ":"))
    if (address === null) {
      return new Response("This is no IP address", { status: 400 })
    }
    await BLOCKED.put(address, "", { expirationTtl: WEEK_S })
    return new Response(`${address} is blocked for a week`)
  }
  return fetch(new Request(ORIGIN + pathname + search, request))
}

// An address as CF-Connecting-IP has it, or null where the text is none.
function addressOf(text) {
  const isOld = /^\d{1,3}(\.\d{1,3}){3}$/.test(text) && text.split(".").every(part => part < 256)
  const isNew = /^(?=.*:.*:)[\da-f:.]{2,45}$/i.test(text)
  return isOld || isNew ? text.toLowerCase() : null
}
