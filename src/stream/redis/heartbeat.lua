#!lua flags=allow-oom
-- Writes the record of a node and answers those of all. It may run while memory is full: a record replaces the one
-- before it, and that nodes are there must be known then, too.
-- KEYS: the hash of nodes. ARGV: age in ms from which a record is removed, and, to write one, the node and its record.
-- Answers { node, record, age in ms } of each. A record stands there as "<ms of the server's clock> <text>".
local nodes, forget_after = KEYS[1], tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local writes = ARGV[2] ~= nil
if writes then
  redis.call('HSET', nodes, ARGV[2], string.format('%.0f %s', now, ARGV[3]))
  redis.call('PEXPIRE', nodes, forget_after)
end
local flat, answer = redis.call('HGETALL', nodes), {}
for i = 1, #flat, 2 do
  local written, record = string.match(flat[i + 1], '^(%d+) (.*)$')
  if written then
    local age = math.max(0, now - tonumber(written))
    if age < forget_after then
      answer[#answer + 1] = { flat[i], record, age }
    elseif writes then
      redis.call('HDEL', nodes, flat[i])
    end
  end
end
return answer
