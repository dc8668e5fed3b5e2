-- Cache what PostgreSQL said of some keys, unless Redis has heard of a later change.
--
-- ARGV[1]: msgpack of { prefix, ttl in ms, { {digest in hex, number of the last change that was seen, value}, … } }
-- A cached key is "<number>:<value>"; without a value it only says that the key changed then.

local prefix, ttl_ms, rows = unpack(cmsgpack.unpack(ARGV[1]), 1, 3)
for i = 1, #rows do
  local key, seq = prefix .. rows[i][1], rows[i][2]
  local held = redis.call('GET', key)
  if not held or tonumber(string.match(held, '^%d+')) <= seq then
    redis.call('SET', key, string.format('%.0f:', seq) .. rows[i][3], 'PX', ttl_ms)
  end
end
return #rows
