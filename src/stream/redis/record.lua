-- Writes a step into the record of an entry's tries; answers failed and unfinished after it.
-- A count is raised to what the caller says, never by one: a call whose answer got lost is made again.
-- KEYS: record of attempts. ARGV: id, step (begin, failed, spared), count to reach, lifetime of the record in ms.
local record, id, step, count, lifetime = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local failed, unfinished = string.match(redis.call('HGET', record, id) or '0 0', '^(%d+) (%d+)$')
failed, unfinished = tonumber(failed) or 0, tonumber(unfinished) or 0
if step == 'begin' then
  unfinished = math.max(unfinished, count)
else
  unfinished = 0
  failed = step == 'failed' and math.max(failed, count) or failed
end
redis.call('HSET', record, id, failed .. ' ' .. unfinished)
redis.call('PEXPIRE', record, lifetime)
return { failed, unfinished }
