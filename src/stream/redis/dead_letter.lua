-- Moves an entry to the dead letters: letter first, then ack and end of its record. Answers 0 at the cap, else 1.
-- KEYS: stream, dead letters, record of attempts. ARGV: group, id, cap, fields of the letter.
local stream, letters, record = KEYS[1], KEYS[2], KEYS[3]
local group, id, cap = ARGV[1], ARGV[2], tonumber(ARGV[3])

-- An entry that stands in the stream and is not pending was settled: by this call before its answer got lost, or by
-- another consumer. One that is gone from the stream too was lost by the store, and the letter is all that is left.
local pending = redis.pcall('XPENDING', stream, group, id, id, 1)
local is_pending = not pending.err and #pending > 0
if not is_pending and #redis.call('XRANGE', stream, id, id) > 0 then
  return 1
end
if redis.call('XLEN', letters) >= cap then
  return 0
end
redis.call('XADD', letters, '*', unpack(ARGV, 4))
redis.call('XACK', stream, group, id)
redis.call('HDEL', record, id)
return 1
