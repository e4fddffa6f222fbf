-- Whether the caller is the first to see to something that happened after its look before.
-- KEYS: mark. ARGV: time of that look in ms, token of the caller, lifetime of the mark in ms. Answers 1 or 0.
-- A mark is `time owner`: an older one is of something that happened earlier, and the caller's own of a try that failed.
local now = redis.call('TIME')
local at, owner = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)$')
if at and tonumber(at) >= tonumber(ARGV[1]) and owner ~= ARGV[2] then
  return 0
end
local ms = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
redis.call('SET', KEYS[1], ms .. ' ' .. ARGV[2], 'PX', ARGV[3])
return 1
