-- What wrk sends. Knows nothing of the servers: the arguments after "--" say it all.
--
--   METHOD PATH BODY KEY_PREFIX [HEADER: VALUE]...
--
-- In PATH and BODY, {key} stands for a key that no request before used. A PATH of the form
-- @FILE takes the paths from a file instead, one a line, over and over.

local method, body_before, body_after, key_prefix
local paths = {}
local path_before, path_after
local headers = {}
local count = 0

-- Multiplying by an odd number modulo a power of two permutes the numbers below it: keys are
-- scattered and none comes twice. The product fits the 53 bits of a double while count < 2^22.
local SPREAD = 1597334677
local MODULUS = 4294967296
local COUNT_MAX = 4194304

local function halves(template)
  local from, to = template:find("{key}", 1, true)
  if not from then
    return nil, template
  end
  return template:sub(1, from - 1), template:sub(to + 1)
end

function init(args)
  method = args[1]
  if args[2]:sub(1, 1) == "@" then
    for line in io.lines(args[2]:sub(2)) do
      paths[#paths + 1] = line
    end
  else
    path_before, path_after = halves(args[2])
  end
  body_before, body_after = halves(args[3])
  key_prefix = args[4]
  for i = 5, #args do
    local name, value = args[i]:match("^([^:]+): (.*)$")
    headers[name] = value
  end
end

function request()
  count = count + 1
  assert(count < COUNT_MAX, "more requests than there are keys")
  local key = string.format("%s%010d", key_prefix, (count * SPREAD) % MODULUS)
  local path = path_after
  if #paths > 0 then
    path = paths[(count - 1) % #paths + 1]
  elseif path_before then
    path = path_before .. key .. path_after
  end
  local body = body_after
  if body_before then
    body = body_before .. key .. body_after
  end
  return wrk.format(method, path, headers, body)
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "duration_us": %d, "p50_us": %d, "p90_us": %d, "p99_us": %d,' ..
    ' "max_us": %d, "errors": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90),
    latency:percentile(99), latency.max,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
