-- Claims of one tick whose events also count in a sliding window, in one call: an event that is a copy, or
-- that the window has no room for, takes no place in it.
--
-- ARGV[1]: msgpack of
--   { owner, now in µs (0: this server's clock), pending_ms, prefix of claims, prefix of windows,
--     gives { {claim id, window}, … }, rows { {claim id, tag, window, count, period in µs}, … } }
-- Reply: msgpack of { one character per row, { wait in µs per row } }
--   n, p, c, x: as in tick.lua; l: the window is full, and has room again after the wait.
--
-- A window is a sorted set: claim id -> when it was taken, µs. It holds at most `count` of the last period,
-- so never more than `count` events are let in by any period, whichever frontends they came to.

local owner, now, pending_ms, claims, windows, gives, rows = unpack(cmsgpack.unpack(ARGV[1]), 1, 7)
local call, format = redis.call, string.format
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- Not published after all: the id is free, and so is the place. What goes back goes first.
for i = 1, #gives do
  local give = gives[i]
  local held = call('GET', claims .. give[1])
  if not held or held == owner then
    call('DEL', claims .. give[1])
    call('ZREM', windows .. give[2], give[1])
  end
end

local states, waits = {}, {}
for i = 1, #rows do
  local row = rows[i]
  local claim, window, count, period = claims .. row[1], windows .. row[3], row[4], row[5]
  -- Behind the period; and what a clock that has gone back since then left far ahead.
  call('ZREMRANGEBYSCORE', window, '-inf', format('%.0f', now - period))
  call('ZREMRANGEBYSCORE', window, format('(%.0f', now + period), '+inf')
  local taken = call('ZCARD', window)
  local full = taken >= count
  local held
  if full then
    held = call('GET', claim)
  else
    held = call('SET', claim, owner, 'NX', 'GET', 'PX', pending_ms)
  end
  local state, wait = 'p', 0
  if not held then
    if full then
      -- Room is there when so many of the oldest are gone that fewer than `count` are left.
      local oldest = call('ZRANGE', window, taken - count, taken - count, 'WITHSCORES')
      state, wait = 'l', math.max(1, tonumber(oldest[2]) + period - now)
    else
      state = 'n'
      call('ZADD', window, format('%.0f', now), row[1])
      call('PEXPIRE', window, format('%.0f', math.ceil(period / 1000) + 1000))
    end
  elseif held == '+' .. row[2] then
    state = 'c'
  elseif string.byte(held) == 43 then
    state = 'x'
  end
  states[i], waits[i] = state, wait
end

return cmsgpack.pack({ table.concat(states), waits })
