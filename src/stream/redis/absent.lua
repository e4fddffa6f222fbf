-- Counts the ids that are not in the stream.
-- KEYS: stream. ARGV: ids.
local absent = 0
for _, id in ipairs(ARGV) do
  if #redis.call('XRANGE', KEYS[1], id, id) == 0 then
    absent = absent + 1
  end
end
return absent
