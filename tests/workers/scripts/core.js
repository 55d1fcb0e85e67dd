// Does with a binding what a test asks for, and tells what came of it.
//
// A request is JSON: {binding, method, args}. What JSON has no form for is an object with one
// member whose name begins with a dollar sign.

function given(value) {
  if (Array.isArray(value)) return value.map(given)
  if (value === null || typeof value !== "object") return value
  if ("$bytes" in value) return bytesOf(value.$bytes).buffer
  if ("$view" in value) return bytesOf(value.$view).subarray(1, -1)
  if ("$known" in value) return streamed(value.$known.map(bytesOf), true)
  if ("$unknown" in value) return streamed(value.$unknown.map(bytesOf), false)
  if ("$filled" in value) return filled(value.$filled, value.known)
  if ("$failing" in value) return failing(value.$failing)
  if ("$undefined" in value) return undefined
  const made = {}
  for (const name of Object.keys(value)) made[name] = given(value[name])
  return made
}

function bytesOf(text) {
  return Uint8Array.from(atob(text), char => char.charCodeAt(0))
}

function streamed(pieces, known) {
  const size = pieces.reduce((sum, piece) => sum + piece.length, 0)
  const through = known ? new FixedLengthStream(size) : new TransformStream()
  pour(through.writable, pieces)
  return through.readable
}

async function pour(writable, pieces) {
  const writer = writable.getWriter()
  try {
    for (const piece of pieces) await writer.write(piece)
    await writer.close()
  } catch (error) {
    // Whoever reads has stopped, and tells why.
  }
}

function filled(size, known) {
  const through = known ? new FixedLengthStream(size) : new TransformStream()
  const pieces = []
  for (let left = size; left > 0; left -= 65536) pieces.push(new Uint8Array(Math.min(left, 65536)).fill(120))
  pour(through.writable, pieces)
  return through.readable
}

function failing(size) {
  const { readable, writable } = new TransformStream()
  const writer = writable.getWriter()
  writer.write(new Uint8Array(size).fill(120)).then(() => writer.abort(new Error("midway"))).catch(() => {})
  return readable
}

function base64(buffer) {
  let text = ""
  for (const byte of new Uint8Array(buffer)) text += String.fromCharCode(byte)
  return btoa(text)
}

async function shown(value) {
  if (value === undefined) return {$undefined: true}
  if (value === null || typeof value !== "object") return value
  if (value instanceof ArrayBuffer) {
    return value.byteLength > 65536 ? {$size: value.byteLength} : {$bytes: base64(value)}
  }
  if (value instanceof ReadableStream) return {$stream: base64(await new Response(value).arrayBuffer())}
  if (value instanceof Map) {
    const rows = []
    for (const [key, one] of value) rows.push([key, await shown(one)])
    return {$map: rows}
  }
  if (Array.isArray(value)) return Promise.all(value.map(shown))
  const made = {}
  for (const name of Object.keys(value)) made[name] = await shown(value[name])
  return made
}

async function answer(request, bindings) {
  const asked = await request.json()
  let told
  try {
    const target = bindings[asked.binding]
    const result = asked.method ? await target[asked.method](...given(asked.args)) : target
    told = {result: await shown(result)}
  } catch (error) {
    told = {error: error.name, message: error.message}
  }
  return new Response(JSON.stringify(told), {headers: {"content-type": "application/json"}})
}
