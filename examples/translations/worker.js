// A page in the visitor's language. /translate fetches all texts from a service and stores them.

const LANGUAGES = ["en", "de"] // the first is for whoever reads none of them
const TEXTS = ["title", "intro", "outro"]

addEventListener("fetch", event => event.respondWith(answer(event.request)))

async function answer(request) {
  const url = new URL(request.url)
  if (url.pathname === "/translate") {
    return translate()
  }
  return page(url.searchParams.get("lang") || "")
}

async function translate() {
  const fetched = await fetch(`${SERVICE}/projects/${PROJECT}/strings.json`)
  if (!fetched.ok) {
    return new Response(`The translation service answered ${fetched.status}`, { status: 502 })
  }
  const pairs = []
  for (const [language, texts] of Object.entries(await fetched.json())) {
    for (const [name, value] of Object.entries(texts)) {
      pairs.push({ key: `${name}.${language}`, value })
    }
  }
  const stored = await fetch(BULK_URL, {
    method: "PUT",
    headers: { "Content-Type": "application/json", "X-Auth-Email": EMAIL, "X-Auth-Key": KEY },
    body: JSON.stringify(pairs),
  })
  if (!stored.ok) {
    return new Response(`The texts could not be stored: ${stored.status}`, { status: 502 })
  }
  return new Response(`${pairs.length} texts stored`)
}

async function page(wanted) {
  const [other] = LANGUAGES
  const language = LANGUAGES.includes(wanted) ? wanted : other
  // One read for all, each text in both languages.
  const keys = TEXTS.flatMap(name => [`${name}.${language}`, `${name}.${other}`])
  const found = await TRANSLATIONS.get(keys)
  // A text may be empty on purpose, so only null is missing: `??`, and not `||`.
  const text = name => found.get(`${name}.${language}`) ?? found.get(`${name}.${other}`) ?? name
  const [title, intro, outro] = TEXTS.map(name => escaped(text(name)))
  return new Response(
    `<!doctype html><html lang="${language}"><meta charset="utf-8"><title>${title}</title>` +
      `<h1>${title}</h1><p id="intro">${intro}</p><p id="outro">${outro}</p></html>\n`,
    { headers: { "Content-Type": "text/html; charset=utf-8" } }
  )
}

function escaped(text) {
  return text.replace(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`)
}
