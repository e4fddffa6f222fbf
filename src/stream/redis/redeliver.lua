-- Makes a page of entries pending that our group has behind it and that are pending with nobody.
-- KEYS: stream. ARGV: group, consumer, idle time in ms, first and last id, entries of the page.
-- Answers how many became pending, and the id of the last one looked at (nil on the last page).
local stream, group, consumer, idle = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local count = tonumber(ARGV[6])
local page = redis.call('XRANGE', stream, ARGV[4], ARGV[5], 'COUNT', count)
local last = #page == count and page[count][1] or false
local ids = {}
for _, entry in ipairs(page) do
  if #redis.call('XPENDING', stream, group, entry[1], entry[1], 1) == 0 then
    ids[#ids + 1] = entry[1]
  end
end
if #ids == 0 then
  return { 0, last }
end
for _, option in ipairs({ 'IDLE', idle, 'RETRYCOUNT', 0, 'FORCE', 'JUSTID' }) do
  ids[#ids + 1] = option
end
return { #redis.call('XCLAIM', stream, group, consumer, 0, unpack(ids)), last }
