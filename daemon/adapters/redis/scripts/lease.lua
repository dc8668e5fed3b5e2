-- Slices of token buckets for one frontend: what it used, what it gives back, what it gets.
--
-- ARGV[1]: msgpack of
--   { frontend, now in µs (0: this server's clock), prefix, life of a lease in µs, rows
--     { {name, tokens per s, burst, keep, back, need, slice, owed, idle}, … } }
--   keep: tokens it still holds unused and keeps; back: tokens it gives back; need: requests that wait;
--   slice: tokens it would like beyond that; owed: what it granted by itself while Redis was away;
--   idle: µs since it last used a token, so that the bucket has filled since then and not since now.
-- Reply: msgpack of { granted, wait in µs, … } two per row; wait is 0 while a token is left.
--
-- A bucket is msgpack of { tokens, µs of the last refill, frontend, held, expiry in µs, frontend, … }.
-- No bucket means a full one. The law (docs/stores.md): tokens + all that is held <= burst after every
-- refill, and a token counts as held from the grant until its frontend says otherwise or it expires.
-- So over all frontends no window of t seconds sees more than rate * t + burst.

local me, now, prefix, life, rows = unpack(cmsgpack.unpack(ARGV[1]), 1, 5)
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local floor, min, max = math.floor, math.min, math.max
local reply = {}

for i = 1, #rows do
  local name, rate, burst, keep, back, need, slice, owed, idle = unpack(rows[i], 1, 9)
  local key = prefix .. name
  local per_us = rate / 1000000
  local tokens, last, mine = burst, now, 0
  local others, others_held, latest = {}, 0, now
  local packed = redis.call('GET', key)
  if packed then
    local bucket = cmsgpack.unpack(packed)
    -- A clock that went back refills nothing, and prolongs no lease.
    tokens, last = bucket[1], min(bucket[2], now)
    local held, gone, gone_until = 0, 0, last
    for j = 3, #bucket, 3 do
      local count, expiry = bucket[j + 1], min(bucket[j + 2], now + life)
      held = held + count
      if expiry <= now then
        -- Its frontend said nothing more: used, as far as anybody can know.
        gone, gone_until = gone + count, max(gone_until, expiry)
      elseif bucket[j] == me then
        mine = count
      else
        others_held, latest = others_held + count, max(latest, expiry)
        local n = #others
        others[n + 1], others[n + 2], others[n + 3] = bucket[j], count, expiry
      end
    end
    -- Refill under the cap of what was held at the time. It rose when leases expired, and when this
    -- frontend used its last token: known from the report, but true since `idle` ago.
    local used = max(0, mine - keep - back)
    local first, rise, second, second_rise = gone_until, gone, max(last, now - idle), used
    if second < first then
      first, rise, second, second_rise = second, second_rise, first, rise
    end
    tokens = min(burst - held, tokens + (first - last) * per_us)
    tokens = min(burst - held + rise, tokens + (second - first) * per_us)
    tokens = min(burst - held + rise + second_rise, tokens + (now - second) * per_us)
  end

  if keep > mine then
    -- The bucket is younger than the lease (Redis was emptied): what is held counts in the new one too.
    tokens = tokens - (keep - mine)
  else
    tokens = tokens + min(back, mine - keep)
  end
  if owed > 0 and tokens > 0 then
    tokens = max(0, tokens - owed)
  end

  local granted = min(need + slice, max(0, floor(tokens + 0.000001)))
  tokens = tokens - granted
  mine = keep + granted
  local wait = 0
  if tokens < 1 then
    wait = math.ceil((1 - tokens) / per_us)
  end
  reply[2 * i - 1], reply[2 * i] = granted, wait

  if mine == 0 and others_held == 0 and tokens >= burst then
    redis.call('DEL', key)
  else
    if mine > 0 then
      local n = #others
      others[n + 1], others[n + 2], others[n + 3] = me, mine, now + life
      latest = now + life
    end
    -- Kept until it would be full anyhow: then its absence says the same.
    local full_ms = max((burst - tokens) / per_us, latest - now) / 1000 + 1000
    redis.call('SET', key, cmsgpack.pack({ tokens, now, unpack(others) }), 'PX',
      string.format('%.0f', min(full_ms, 31536000000)))
  end
end

return cmsgpack.pack(reply)
