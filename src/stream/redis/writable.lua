-- Tries whether writes are taken, by one key of ours and by an XADD that must be refused for its id.
-- KEYS: probe, stream. ARGV: lifetime of the probe in ms, the id that no entry may have.
-- Answers length of the stream, its newest id ever (nil where it is missing), and what a write was refused with.
local written = redis.pcall('SET', KEYS[1], '', 'PX', ARGV[1])
if written.err then
  return { 0, false, written.err }
end
local length = redis.pcall('XLEN', KEYS[2])
if type(length) == 'table' then
  return { 0, false, length.err }
end
local newest = false
local info = redis.pcall('XINFO', 'STREAM', KEYS[2])
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then
    newest = info[i + 1]
  end
end
local added = redis.pcall('XADD', KEYS[2], ARGV[2], '', '')
return { length, newest, type(added) == 'table' and added.err or false }
