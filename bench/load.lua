-- The requests that wrk sends: wrk -t1 ... -- <healthz|create|replay|mixed> <prefix> <fixed keys>
-- create takes a fresh UUID per request, replay cycles through a fixed set, in mixed every fourth request is a create.

local mode, prefix, fixed_keys
local sent = 0
-- Requests are prepared in advance as far as possible: wrk shares the processors with the service.
local bodies, replays = {}, {}
local health

local function order(key, number)
  local headers = { ["Content-Type"] = "application/json", ["Idempotency-Key"] = key }
  local body = string.format('{"customerId":"c-%d","currency":"RUB","items":[{"sku":"BOOK-1","quantity":2,' ..
    '"unitAmount":59900},{"sku":"PEN-7","quantity":1,"unitAmount":9900}],"comment":"leave at the door"}', number)
  return wrk.format("POST", "/orders", headers, body)
end

function init(args)
  mode, prefix, fixed_keys = args[1], args[2], tonumber(args[3])
  local seed = io.open("/dev/urandom", "rb")
  local a, b, c = seed:read(3):byte(1, 3)
  seed:close()
  math.randomseed(a * 65536 + b * 256 + c)
  health = wrk.format("GET", "/healthz")
  for number = 0, fixed_keys - 1 do
    replays[number] = order(prefix .. number, number)
  end
  for number = 0, 9999 do
    local before, after = order("@", number):match("^(.-)@(.*)$")
    bodies[number] = { before, after }
  end
end

local function uuid()
  local random = math.random
  return string.format("%08x-%04x-4%03x-8%03x-%06x%06x", random(0, 4294967295), random(0, 65535), random(0, 4095),
    random(0, 4095), random(0, 16777215), random(0, 16777215))
end

function request()
  if mode == "healthz" then
    return health
  end
  sent = sent + 1
  if mode == "replay" or (mode == "mixed" and sent % 4 ~= 0) then
    return replays[sent % fixed_keys]
  end
  local body = bodies[math.random(0, 9999)]
  return body[1] .. uuid() .. body[2]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('{"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f,"errors":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    latency.max / 1000, errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
