-- Prepared requests for wrk, byte for byte as bench/cost/requests.py wrote them: a line with the length, the request,
-- a line break. Marks in them are filled in: an id gets one of its own each time, a key one of `keys`.
-- Arguments: the file, a number that tells this turn's ids from those of others, keys (0: none), the mean pause
-- between a connection's requests in milliseconds (0: none).

local ID = "@@@@@@@@-@@@@-4@@@-8@@@-@@@@@@@@@@@@"
local KEY = string.rep("#", 32)
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local requests, count = {}, 0
local index, serial, salt, keys, pause_ms = 0, 0, 0, 0, 0
-- Prime, so that every key comes before one comes again, and neighbours are far from each other.
local key, STEP = 0, 7919

local function cut(whole)
  -- Text at odd places, what goes in between at even ones.
  local parts, from = {}, 1
  while true do
    local id, id_last = whole:find(ID, from, true)
    local key, key_last = whole:find(KEY, from, true)
    local at, last, mark = id, id_last, ID
    if key and (not id or key < id) then at, last, mark = key, key_last, KEY end
    parts[#parts + 1] = whole:sub(from, (at or 0) - 1)
    if not at then break end
    parts[#parts + 1] = mark
    from = last + 1
  end
  local kinds = {}
  for place = 2, #parts, 2 do kinds[place] = parts[place] == KEY end
  return { parts = parts, keyed = kinds }
end

function init(args)
  salt, keys, pause_ms = tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  local file = assert(io.open(args[1], "rb"))
  while true do
    local length = file:read("*n")
    if not length then break end
    file:read(1)
    count = count + 1
    requests[count] = cut(file:read(length))
    file:read(1)
  end
  file:close()
  -- Connections of several threads begin at different places, and so do turns.
  math.randomseed(salt * 1000 + number)
  index = math.random(count)
  if keys > 0 then key = math.random(keys) end
  if pause_ms <= 0 then delay = nil end
end

function delay()
  return math.random() * 2 * pause_ms
end

function request()
  index = index % count + 1
  local found = requests[index]
  local parts, keyed = found.parts, found.keyed
  for place = 2, #parts, 2 do
    if keyed[place] then
      key = (key + STEP) % keys
      parts[place] = string.format("%032d", key + 1)
    else
      serial = serial + 1
      parts[place] = string.format("%08x-%04x-4000-8000-%012x", salt, number, serial)
    end
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
