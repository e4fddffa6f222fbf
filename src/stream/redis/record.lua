-- Writes a step into the record of an entry's tries; answers failed and unfinished after it.
-- KEYS: record of attempts. ARGV: id, step (begin, failed, spared), lifetime of the record in ms.
local record, id, step, lifetime = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local failed, unfinished = string.match(redis.call('HGET', record, id) or '0 0', '^(%d+) (%d+)$')
failed, unfinished = tonumber(failed) or 0, tonumber(unfinished) or 0
if step == 'begin' then
  unfinished = unfinished + 1
else
  unfinished = 0
  failed = failed + (step == 'failed' and 1 or 0)
end
redis.call('HSET', record, id, failed .. ' ' .. unfinished)
redis.call('PEXPIRE', record, lifetime)
return { failed, unfinished }
