-- Resets the idle time of entries that are still the consumer's; answers their ids.
-- KEYS: stream. ARGV: group, consumer, ids.
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local mine = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  if #redis.call('XPENDING', stream, group, id, id, 1, consumer) > 0 then
    mine[#mine + 1] = id
  end
end
if #mine == 0 then
  return mine
end
-- JUSTID leaves the delivery count as it is. (unpack expands only as the last argument.)
mine[#mine + 1] = 'JUSTID'
return redis.call('XCLAIM', stream, group, consumer, 0, unpack(mine))
