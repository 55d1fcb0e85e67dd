// Runs the steps of jobs. Each step takes the state that the one before it left, and leaves its own.
// However often a step runs, and wherever, it counts once: its state is written only if there is none.

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url)
    const [, job, step] = /^\/([\w-]{1,64})\/([1-9]\d{0,3})$/.exec(pathname) ?? []
    if (job === undefined) {
      return new Response("Not found", { status: 404 })
    }
    if (request.method !== "POST") {
      return new Response("Steps are run with POST", { status: 405, headers: { Allow: "POST" } })
    }
    const text = await request.text()
    if (!/^-?\d{1,12}$/.test(text)) { // Number("") would be 0
      return new Response("The body is a whole number", { status: 400 })
    }
    try {
      return await run(new Values(env), job, Number(step), Number(text))
    } catch (error) {
      if (error.status < 500) {
        throw error
      }
      // Perhaps it was written, perhaps not. Whoever asks again learns it, and nothing counts twice.
      return new Response("Ask again", { status: 503, headers: { "Retry-After": "1" } })
    }
  },
}

async function run(values, job, step, amount) {
  const before = step === 1 ? { total: 0 } : await values.get(`${job}/${step - 1}`)
  if (before === null) {
    return new Response(`Step ${step - 1} comes first`, { status: 409 })
  }
  const after = { step, total: before.total + amount }
  if (await values.create(`${job}/${step}`, after)) {
    return Response.json(after, { status: 201 })
  }
  return Response.json(await values.get(`${job}/${step}`)) // It ran before: this is what counts.
}

// The binding has no conditions, so this speaks /v1 with a token.
class Values {
  constructor({ ATOLL_URL, ATOLL_TOKEN, JOBS }) {
    this.url = `${ATOLL_URL}/v1/namespaces/${JOBS}/values/`
    this.headers = { Authorization: `Bearer ${ATOLL_TOKEN}` }
  }

  // As central has it now: it may have been left elsewhere a moment ago. null where there is none.
  async get(key) {
    const headers = { ...this.headers, "Cache-Control": "no-cache" }
    const answer = await fetch(this.url + encodeURIComponent(key), { headers })
    if (answer.ok) {
      return answer.json()
    }
    if (answer.status === 404) {
      return null
    }
    throw refusal("reading", key, answer.status)
  }

  // Stores a value if there is none; tells whether it did.
  async create(key, value) {
    const answer = await fetch(this.url + encodeURIComponent(key), {
      method: "PUT",
      headers: { ...this.headers, "If-None-Match": "*" },
      body: JSON.stringify(value),
    })
    if (answer.ok) {
      return true
    }
    if (answer.status === 412) {
      return false
    }
    throw refusal("writing", key, answer.status)
  }
}

function refusal(verb, key, status) {
  return Object.assign(new Error(`${verb} ${key}: ${status}`), { status })
}
