-- Appends entries and replaces the record of their producer, where that is of the expected version.
-- KEYS: checkpoint, stream, dead letters (where no entry is for them, they may be left out). ARGV: expected version, record, cap of the stream, cap of the dead letters,
-- then for each entry: 2 for the stream or 3 for the dead letters, number of field arguments, field arguments.
-- Answers `stored`, `moved`, or `full2` or `full3` after the log that has no room; nothing is written then.
local checkpoint, expected, record = KEYS[1], ARGV[1], ARGV[2]
if (redis.call('HGET', checkpoint, 'version') or '0') ~= expected then
  return 'moved'
end
local counts, at = {[2] = 0, [3] = 0}, 5
while at <= #ARGV do
  local log = tonumber(ARGV[at])
  counts[log] = counts[log] + 1
  at = at + 2 + tonumber(ARGV[at + 1])
end
for log = 2, 3 do
  if counts[log] > 0 and redis.call('XLEN', KEYS[log]) + counts[log] > tonumber(ARGV[log + 1]) then
    return 'full' .. log
  end
end
-- First what may be refused for want of memory, so that nothing is written then.
redis.call('HSET', checkpoint, 'version', string.format('%.0f', tonumber(expected) + 1), 'record', record)
at = 5
while at <= #ARGV do
  local last = at + 1 + tonumber(ARGV[at + 1])
  redis.call('XADD', KEYS[tonumber(ARGV[at])], '*', unpack(ARGV, at + 2, last))
  at = last + 1
end
return 'stored'
