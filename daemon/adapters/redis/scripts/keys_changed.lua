-- Keys changed: what is cached of them no longer counts, and every frontend hears of it.
--
-- ARGV[1]: msgpack of { prefix, ttl in ms, { {digest in hex, number of the change}, … } }
-- ARGV[2], ARGV[3]: channel and message
-- Returns how many frontends were told.

local prefix, ttl_ms, rows = unpack(cmsgpack.unpack(ARGV[1]), 1, 3)
for i = 1, #rows do
  local key, seq = prefix .. rows[i][1], rows[i][2]
  local held = redis.call('GET', key)
  if not held or tonumber(string.match(held, '^%d+')) < seq then
    -- The mark outlives every load that began before the change.
    redis.call('SET', key, string.format('%.0f:', seq), 'PX', ttl_ms)
  end
end
return redis.call('PUBLISH', ARGV[2], ARGV[3])
