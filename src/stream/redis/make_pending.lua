-- Makes entries pending again that the group has read and nobody has pending. The caller sees to it that they are read.
-- KEYS: stream. ARGV: group, consumer, idle time in ms, ids. Answers how many became pending.
local stream, group, consumer, idle = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local ids = {}
for i = 4, #ARGV do
  if #redis.call('XPENDING', stream, group, ARGV[i], ARGV[i], 1) == 0 then
    ids[#ids + 1] = ARGV[i]
  end
end
if #ids == 0 then
  return 0
end
for _, option in ipairs({ 'IDLE', idle, 'RETRYCOUNT', 0, 'FORCE', 'JUSTID' }) do
  ids[#ids + 1] = option
end
-- What is gone from the stream is left out, FORCE or not.
return #redis.call('XCLAIM', stream, group, consumer, 0, unpack(ids))
