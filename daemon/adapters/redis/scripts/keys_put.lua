-- Cache what PostgreSQL said of some keys, unless Redis has heard of a later change.
--
-- ARGV: prefix, ttl in ms, number of the last change that was seen, then for each key its digest in hex
-- and its value (plain arguments: Lua's cmsgpack knows no binary strings).
-- A cached key is "<number>:<value>"; without a value it only says that the key changed then.

local prefix, ttl_ms, seq = ARGV[1], ARGV[2], tonumber(ARGV[3])
for i = 4, #ARGV, 2 do
  local key = prefix .. ARGV[i]
  local held = redis.call('GET', key)
  if not held or tonumber(string.match(held, '^%d+')) <= seq then
    redis.call('SET', key, ARGV[3] .. ':' .. ARGV[i + 1], 'PX', ttl_ms)
  end
end
