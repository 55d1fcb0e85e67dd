// Answers /redirect<path> with a redirect to what REDIRECTS has for <path>. All else goes to the origin.

const KEY_BYTES_MAX = 512

addEventListener("fetch", event => event.respondWith(answer(event.request)))

async function answer(request) {
  const url = new URL(request.url)
  if (url.pathname.startsWith("/redirect/")) {
    const path = url.pathname.slice("/redirect".length) // in ASCII, as URLs are
    const target = path.length > KEY_BYTES_MAX ? null : await REDIRECTS.get(path)
    if (target !== null) {
      // Response.redirect takes absolute URLs only; a target may be a path of this site.
      return Response.redirect(new URL(target, url).href, 302)
    }
  }
  return fetch(new Request(ORIGIN + url.pathname + url.search, request))
}
