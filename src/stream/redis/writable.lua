-- Tries whether a stream takes writes, by an XADD that must be refused for its id.
-- KEYS: stream. ARGV: the id that no entry may have.
-- Answers length of the stream, its newest id ever (nil where it is missing), and what a write was refused with.
local stream = KEYS[1]
local length = redis.pcall('XLEN', stream)
if type(length) == 'table' then
  return { 0, false, length.err }
end
local newest = false
local info = redis.pcall('XINFO', 'STREAM', stream)
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then
    newest = info[i + 1]
  end
end
local added = redis.pcall('XADD', stream, ARGV[1], '', '')
return { length, newest, type(added) == 'table' and added.err or false }
