-- Makes one page of pending entries the consumer's.
-- KEYS: stream. ARGV: group, consumer, 'own' or the least idle time in ms, start id, count, bytes of
-- values at which the page ends, then for 'own' the ids that the consumer has in flight, which are left alone.
-- Answers: id of the last one looked at (nil on the last page), the entries, how often each was handed out,
-- and the ids that were pending but no longer exist.
local stream = KEYS[1]
local group, consumer, which, start, count = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local room = tonumber(ARGV[6])
-- Entries of one XCLAIM: their sizes show only then, and a few of the largest fit into the response timeout.
local step = 4

local in_hand = {}
for i = 7, #ARGV do
  in_hand[ARGV[i]] = true
end

local page
if which == 'own' then
  page = redis.call('XPENDING', stream, group, start, '+', count, consumer)
else
  page = redis.call('XPENDING', stream, group, 'IDLE', which, start, '+', count)
end

local ids, handed_out = {}, {}
for _, pending in ipairs(page) do
  local id, owner, deliveries = pending[1], pending[2], pending[4]
  if which == 'own' and not in_hand[id] or which ~= 'own' and owner ~= consumer then
    ids[#ids + 1] = id
    handed_out[id] = deliveries + 1
  end
end
local last = #page == count and page[count][1] or false
if #ids == 0 then
  return { last, {}, {}, {} }
end

-- XCLAIM itself takes ids whose entry is gone off the pending list, and leaves them out of its answer.
local entries, taken = {}, 0
while taken < #ids and room > 0 do
  local upto = math.min(taken + step, #ids)
  for _, entry in ipairs(redis.call('XCLAIM', stream, group, consumer, 0, unpack(ids, taken + 1, upto))) do
    entries[#entries + 1] = entry
    for i = 2, #entry[2], 2 do
      room = room - #entry[2][i]
    end
  end
  taken = upto
end
if taken < #ids then
  last = ids[taken]
end
local deliveries = {}
for i, entry in ipairs(entries) do
  deliveries[i] = handed_out[entry[1]]
  handed_out[entry[1]] = nil
end
local deleted = {}
for i = 1, taken do
  if handed_out[ids[i]] then
    deleted[#deleted + 1] = ids[i]
  end
end
return { last, entries, deliveries, deleted }
