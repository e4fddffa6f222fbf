-- Removes consumers that were silent for long and have nothing pending (DELCONSUMER drops what is pending).
-- KEYS: stream. ARGV: group, silence in ms, and, where only these are meant, names. Answers the names of those removed.
local stream, group, silence = KEYS[1], ARGV[1], tonumber(ARGV[2])
local removed, meant = {}, {}
for i = 3, #ARGV do
  meant[ARGV[i]] = true
end
if redis.call('EXISTS', stream) == 0 then
  return removed
end
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local consumer = {}
  for i = 1, #flat, 2 do
    consumer[flat[i]] = flat[i + 1]
  end
  local is_meant = #ARGV < 3 or meant[consumer.name]
  if is_meant and consumer.pending == 0 and consumer.idle >= silence then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer.name)
    removed[#removed + 1] = consumer.name
  end
end
return removed
