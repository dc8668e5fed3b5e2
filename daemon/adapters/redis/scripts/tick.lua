-- Claims and visitors of one tick, in one call.
--
-- ARGV[1]: msgpack of
--   { owner, pending_ms, prefix of claims, prefix of visitors,
--     confirms { {id, window_ms, tag}, … }, releases { id, … },
--     visits { {claim id or nil, visitor or nil, ttl_ms, learn or nil, learn_once or nil, tag}, … } }
-- Reply: msgpack of { one character per visit, { known or false per visit } }
--   n: claimed now, p: pending (somebody has not finished), c: confirmed (a duplicate),
--   x: confirmed with another tag, -: nothing asked.
--
-- A claim is a string: the owner's name while pending, "+" and the tag when confirmed.

local owner, pending_ms, claims, visitors, confirms, releases, visits = unpack(cmsgpack.unpack(ARGV[1]), 1, 7)
local call = redis.call

-- What has become of earlier events goes first: a copy in the same tick sees it.
for i = 1, #confirms do
  local confirm = confirms[i]
  call('SET', claims .. confirm[1], '+' .. confirm[3], 'PX', confirm[2])
end
for i = 1, #releases do
  local key = claims .. releases[i]
  if call('GET', key) == owner then
    call('DEL', key)
  end
end

local states, known = {}, {}
for i = 1, #visits do
  local visit = visits[i]
  local id, visitor, ttl_ms, learn, once = visit[1], visit[2], visit[3], visit[4], visit[5]
  local state = '-'
  if id then
    local held = call('SET', claims .. id, owner, 'NX', 'GET', 'PX', pending_ms)
    if not held then
      state = 'n'
    elseif held == '+' .. visit[6] then
      state = 'c'
    elseif string.byte(held) == 43 then
      state = 'x'
    else
      state = 'p'
    end
  end
  states[i] = state
  known[i] = false
  if visitor then
    local key = visitors .. visitor
    local flat = call('HGETALL', key)
    local fields = {}
    for j = 1, #flat, 2 do
      fields[flat[j]] = flat[j + 1]
    end
    -- Most events teach nothing new: then nothing is written (and nothing goes to the replicas).
    local write = {}
    if learn then
      for name, value in pairs(learn) do
        if fields[name] ~= value then
          fields[name] = value
          write[#write + 1] = name
          write[#write + 1] = value
        end
      end
    end
    if once then
      for name, value in pairs(once) do
        if not fields[name] then
          fields[name] = value
          write[#write + 1] = name
          write[#write + 1] = value
        end
      end
    end
    if #write > 0 then
      call('HSET', key, unpack(write))
    end
    -- The new life, to within a 64th (a write for every event would say little more), and never a
    -- shorter one: an event without the visitor's cookie must not cut short what is known of them.
    if next(fields) and call('PTTL', key) < ttl_ms - ttl_ms / 64 then
      call('PEXPIRE', key, ttl_ms)
    end
    if next(fields) then
      known[i] = fields
    end
  end
end

return cmsgpack.pack({ table.concat(states), known })
