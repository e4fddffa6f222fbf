-- Resets the idle time of entries that are still the consumer's.
-- KEYS: stream. ARGV: group, consumer, ids.
-- Answers two lists: ids to be worked on (the consumer's, or pending with nobody and no longer in the stream), and ids
-- that were the consumer's but no longer exist.
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local mine, held, gone = {}, {}, {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local pending = redis.call('XPENDING', stream, group, id, id, 1)[1]
  if pending and pending[2] == consumer then
    mine[#mine + 1] = id
  elseif not pending and #redis.call('XRANGE', stream, id, id) == 0 then
    held[#held + 1] = id
  end
end
if #mine == 0 then
  return { held, gone }
end
-- JUSTID leaves the delivery count as it is; XCLAIM itself takes ids whose entry is gone off the pending list, and leaves
-- them out of its answer. (unpack expands only as the last argument.)
local is_there = {}
mine[#mine + 1] = 'JUSTID'
for _, id in ipairs(redis.call('XCLAIM', stream, group, consumer, 0, unpack(mine))) do
  is_there[id] = true
end
for i = 1, #mine - 1 do
  local list = is_there[mine[i]] and held or gone
  list[#list + 1] = mine[i]
end
return { held, gone }
