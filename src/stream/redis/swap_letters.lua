-- Puts a copy in the place of a stream, of which it has all but what came last. Not where entries were removed meanwhile, nor
-- where a group reads the stream: the copy has none.
-- KEYS: the stream, its copy. ARGV: entries that had been removed when the copy was begun, the last id that it has, most
-- entries that may be added to it here.
-- Answers: 1 where the copy is the stream now, 0 where it was given up, -1 where more has to be copied first.
local stream, copy = KEYS[1], KEYS[2]
local removed, last, most = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

local state, flat = {}, redis.call('XINFO', 'STREAM', stream)
for i = 1, #flat, 2 do
  state[flat[i]] = flat[i + 1]
end

local rest = redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', most + 1)
if #rest > most then
  return -1
end
for _, entry in ipairs(rest) do
  redis.call('XADD', copy, entry[1], unpack(entry[2]))
end
local is_whole = redis.call('XLEN', copy) == state.length and state['entries-added'] - state.length == removed
if not is_whole or state.groups > 0 then
  redis.call('UNLINK', copy)
  return 0
end
-- A user of Redis may lack the right to one of these. What ran before it stays done, and a copy without an expiry would stay.
local steps = {
  { 'XSETID', copy, state['last-generated-id'], 'ENTRIESADDED', state['entries-added'],
    'MAXDELETEDID', state['max-deleted-entry-id'] },
  { 'PERSIST', copy },
  { 'RENAME', copy, stream },
}
for _, step in ipairs(steps) do
  local answer = redis.pcall(unpack(step))
  if type(answer) == 'table' and answer.err then
    redis.call('UNLINK', copy)
    return answer
  end
end
return 1
