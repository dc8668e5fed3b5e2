-- Prepared requests for wrk: every thread goes through the same list, each time with a messageId of its own.
-- Arguments: the file that bench/generators.py wrote (one request a line: path, key, origin, user agent,
-- cookies, body with a mark where the id goes; separated by tabs), and a number that tells this round's ids
-- from those of other rounds.

local MARK = "@@@@@@@@-@@@@-4@@@-8@@@-@@@@@@@@@@@@"
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local heads, tails, count = {}, {}, 0
local index, serial, salt = 0, 0, 0

function init(args)
  salt = tonumber(args[2])
  for line in io.lines(args[1]) do
    local path, key, origin, agent, cookies, body = line:match("^([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)\t(.*)$")
    local headers = {
      ["Authorization"] = "Bearer " .. key,
      ["Content-Type"] = "application/json",
      ["Origin"] = origin,
      ["User-Agent"] = agent,
      ["Cookie"] = cookies,
    }
    local whole = wrk.format("POST", path, headers, body)
    local from, to = whole:find(MARK, 1, true)
    count = count + 1
    heads[count], tails[count] = whole:sub(1, from - 1), whole:sub(to + 1)
  end
end

function request()
  index = index % count + 1
  serial = serial + 1
  return heads[index] .. string.format("%08x-%04x-4000-8000-%012x", salt, number, serial) .. tails[index]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests":%d,"seconds":%.6f,"not_2xx":%d,"no_answer":%d,"p50_s":%.6f,"p95_s":%.6f,"p99_s":%.6f,"max_s":%.6f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e6, latency:percentile(95) / 1e6, latency:percentile(99) / 1e6, latency.max / 1e6))
end
