-- Prepared requests for wrk whose bodies hold any number of marks: each becomes an id of its own.
-- Arguments: the file that bench/batch.py wrote (one request a line: path, key, body; separated by tabs), and a
-- number that tells this round's ids from those of other rounds.

local MARK = "@@@@@@@@-@@@@-4@@@-8@@@-@@@@@@@@@@@@"
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local requests, count = {}, 0
local index, serial, salt = 0, 0, 0

function init(args)
  salt = tonumber(args[2])
  for line in io.lines(args[1]) do
    local path, key, body = line:match("^([^\t]*)\t([^\t]*)\t(.*)$")
    local headers = { ["Authorization"] = "Bearer " .. key, ["Content-Type"] = "application/json" }
    local whole = wrk.format("POST", path, headers, body)
    -- The parts between the marks at odd places; the ids go in between.
    local parts, from = {}, 1
    while true do
      local at, last = whole:find(MARK, from, true)
      parts[#parts + 1] = whole:sub(from, (at or 0) - 1)
      if not at then break end
      parts[#parts + 1] = MARK
      from = last + 1
    end
    count = count + 1
    requests[count] = parts
  end
end

function request()
  index = index % count + 1
  local parts = requests[index]
  for place = 2, #parts, 2 do
    serial = serial + 1
    parts[place] = string.format("%08x-%04x-4000-8000-%012x", salt, number, serial)
  end
  return table.concat(parts)
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests":%d,"seconds":%.6f,"not_2xx":%d,"no_answer":%d,"p50_s":%.6f,"p95_s":%.6f,"p99_s":%.6f,"max_s":%.6f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e6, latency:percentile(95) / 1e6, latency:percentile(99) / 1e6, latency.max / 1e6))
end
