// Lets requests through to the origin by rules that are changed while it runs.

addEventListener("fetch", event => event.respondWith(answer(event.request)))

async function answer(request) {
  const { pathname, search } = new URL(request.url)
  const rules = await CONFIG.get("rules", "json")
  if (rules === null) {
    return new Response("There are no rules yet", { status: 503 })
  }
  const path = plain(pathname)
  if (path === null) {
    return new Response("Such paths are not passed on", { status: 400 })
  }
  const caller = request.headers.get("CF-Connecting-IP")
  if (!rules.some(rule => isUnder(rule.path, path) && admits(rule, caller))) {
    return new Response("You may not go there", { status: 403 })
  }
  return fetch(new Request(ORIGIN + pathname + search, request))
}

// The path as the origin will read it; null where that may lead elsewhere than it seems to.
function plain(pathname) {
  let path
  try {
    path = decodeURIComponent(pathname)
  } catch {
    return null
  }
  const parts = path.slice(1).split("/")
  const last = parts.pop()
  const hasDots = [...parts, last].some(part => part === "." || part === "..")
  const isOdd = hasDots || parts.includes("") || /[\\%]/.test(path)
  return isOdd ? null : path
}

// "/reports" is the path itself and what is below it; "/reports-old" is neither.
function isUnder(rulePath, path) {
  return path === rulePath || path.startsWith(rulePath.replace(/\/?$/, "/"))
}

// A rule without callers is for everybody; one with an empty list is for nobody.
function admits(rule, caller) {
  return rule.callers === undefined || rule.callers.includes(caller)
}
