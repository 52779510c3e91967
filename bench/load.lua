-- What wrk sends: wrk -t1 ... -- <healthz|create|replay|mixed> <prefix> <fixed keys>
-- create takes a fresh UUID per request, replay goes round a fixed set, mixed creates with every fourth request.

local mode, prefix, fixed_keys
local sent = 0

function init(args)
  mode, prefix, fixed_keys = args[1], args[2], tonumber(args[3])
  local seed = io.open("/dev/urandom", "rb")
  local a, b, c = seed:read(3):byte(1, 3)
  seed:close()
  math.randomseed(a * 65536 + b * 256 + c)
end

local function uuid()
  local random = math.random
  return string.format("%04x%04x-%04x-4%03x-8%03x-%04x%04x%04x", random(0, 65535), random(0, 65535), random(0, 65535),
    random(0, 4095), random(0, 4095), random(0, 65535), random(0, 65535), random(0, 65535))
end

function request()
  if mode == "healthz" then
    return wrk.format("GET", "/healthz")
  end
  sent = sent + 1
  local replay = mode == "replay" or (mode == "mixed" and sent % 4 ~= 0)
  local number = replay and sent % fixed_keys or math.random(0, 9999)
  local headers = {
    ["Content-Type"] = "application/json",
    ["Idempotency-Key"] = replay and prefix .. number or uuid(),
  }
  local body = string.format('{"customerId":"c-%d","currency":"RUB","items":[{"sku":"BOOK-1","quantity":2,' ..
    '"unitAmount":59900},{"sku":"PEN-7","quantity":1,"unitAmount":9900}],"comment":"leave at the door"}', number)
  return wrk.format("POST", "/orders", headers, body)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('{"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f,"errors":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    latency.max / 1000, errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
