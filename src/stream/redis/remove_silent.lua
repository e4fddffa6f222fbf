-- Removes consumers that were silent for long and have nothing pending (DELCONSUMER drops what is pending). Each leaves a
-- mark, so that its absence is not taken for a loss (`group_monitor.rs`); without memory for one it stays.
-- KEYS: stream. ARGV: group, silence in ms, beginning of the names of marks, lifetime of a mark in ms, and, where only
-- these are meant, names. Answers the names of those removed.
local stream, group, silence = KEYS[1], ARGV[1], tonumber(ARGV[2])
local marks, lifetime = ARGV[3], ARGV[4]
local removed, meant = {}, {}
for i = 5, #ARGV do
  meant[ARGV[i]] = true
end
if redis.call('EXISTS', stream) == 0 then
  return removed
end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local consumer = {}
  for i = 1, #flat, 2 do
    consumer[flat[i]] = flat[i + 1]
  end
  local is_meant = #ARGV < 5 or meant[consumer.name]
  if is_meant and consumer.pending == 0 and consumer.idle >= silence then
    local marked = redis.pcall('SET', marks .. 'consumer:' .. consumer.name, now .. ' 0', 'PX', lifetime)
    if not marked.err then
      redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer.name)
      removed[#removed + 1] = consumer.name
    end
  end
end
return removed
