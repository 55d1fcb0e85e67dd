// Keeps one GIF for each user: fetched from a link, stored as bytes, shown to everybody.

const SIZE_BYTES_MAX = 25 * 1024 * 1024 // of a value

addEventListener("fetch", event => event.respondWith(answer(event.request)))

async function answer(request) {
  const url = new URL(request.url)
  if (url.pathname.startsWith("/api/upload_gif/")) {
    return upload(url.pathname.slice("/api/upload_gif/".length), url.searchParams.get("user") || "")
  }
  if (url.pathname.startsWith("/api/view_gif/")) {
    return view(url.pathname.slice("/api/view_gif/".length))
  }
  if (url.pathname === "/") {
    return new Response(PAGE, { headers: { "Content-Type": "text/html; charset=utf-8" } })
  }
  return new Response("Not found", { status: 404 })
}

async function upload(encodedLink, user) {
  let link
  try {
    link = new URL(decodeURIComponent(encodedLink)) // throws where it is no absolute URL
  } catch {
    return new Response("This is no link", { status: 400 })
  }
  // Or whoever asks could have us fetch what only we can reach.
  if (!/^https?:$/.test(link.protocol) || !HOSTS.split(",").includes(link.host)) {
    return new Response(`Pictures come from ${HOSTS} only`, { status: 403 })
  }
  if (!isName(user)) {
    return new Response("A name has up to 64 letters, digits, _ and -", { status: 400 })
  }
  let fetched
  try {
    fetched = await fetch(link.href, { redirect: "manual" })
  } catch {
    return new Response("The link leads nowhere", { status: 502 })
  }
  if (!fetched.ok || fetched.headers.get("Content-Type") !== "image/gif") {
    return new Response("There is no GIF at this link", { status: 502 })
  }
  const gif = await fetched.arrayBuffer()
  if (gif.byteLength > SIZE_BYTES_MAX) {
    return new Response("This GIF is too large", { status: 413 })
  }
  await GIFS.put(user, gif)
  return new Response("Kept", { status: 201 })
}

async function view(user) {
  const gif = isName(user) ? await GIFS.get(user, "arrayBuffer") : null
  if (gif === null) {
    return new Response("No GIF of this user", { status: 404 })
  }
  return new Response(gif, {
    headers: { "Content-Type": "image/gif", "X-Content-Type-Options": "nosniff" },
  })
}

function isName(text) {
  return /^[A-Za-z0-9_-]{1,64}$/.test(text)
}
