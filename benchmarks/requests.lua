-- Sends the request in a file (wrk ... -- FILE PREFIX). Each request has a new name in place of the
-- placeholder: PREFIX and a number, 16 characters together.
local PLACE = "@@@@@@@@@@@@@@@@"
local parts, prefix, count = {}, "", 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local text = file:read("*a")
  file:close()
  prefix = args[2]
  local from = 1
  while true do
    local first, last = text:find(PLACE, from, true)
    parts[#parts + 1] = text:sub(from, (first or 0) - 1)
    if not first then break end
    from = last + 1
  end
end

function request()
  if #parts == 1 then return parts[1] end
  count = count + 1
  return table.concat(parts, string.format("%s%08x", prefix, count))
end

-- One line of JSON; times in seconds.
function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '{"rate": %f, "p50": %f, "p99": %f, "requests": %d, "errors": %d}\n',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
    summary.requests, e.connect + e.read + e.write + e.status + e.timeout))
end
