-- The figures of one moment, read only.
-- KEYS: stream. ARGV: our group, most entries to count where Redis does not know a lag, the newest id
-- of the report before (0-0: there was none), most entries to count above it.
-- Answers: server time in ms, length, entries ever added (nil unknown), last id,
-- groups as { name, pending, last delivered id, lag (nil unknown), first pending id, first unread id },
-- consumers of our group as { name, pending, idle ms }, where that newest id is gone how many entries stand above it (else
-- nil), and the run id of the server (nil unknown).
local stream, ours, most = KEYS[1], ARGV[1], tonumber(ARGV[2])
local newest, most_above = ARGV[3], tonumber(ARGV[4])

local function fields(flat)
  local map = {}
  for i = 1, #flat, 2 do
    map[flat[i]] = flat[i + 1]
  end
  return map
end

-- Entries after an id, in pages so that few payloads are in memory at once; stops above `enough`.
local function count_after(id, enough)
  local counted, page = 0, nil
  repeat
    page = redis.call('XRANGE', stream, '(' .. id, '+', 'COUNT', 100)
    counted = counted + #page
    id = #page > 0 and page[#page][1]
  until #page < 100 or counted > enough
  return counted
end

local function lag_after(id)
  local counted = count_after(id, most)
  return counted <= most and counted
end

local function above_newest()
  if #redis.call('XRANGE', stream, newest, newest) > 0 then
    return false
  end
  if #redis.call('XRANGE', stream, '-', newest, 'COUNT', 1) == 0 then
    return redis.call('XLEN', stream)
  end
  return count_after(newest, most_above)
end

-- A user may lack the right to ask.
local info_server = redis.pcall('INFO', 'server')
local run = type(info_server) == 'string' and string.match(info_server, 'run_id:(%x+)')

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local length = redis.call('XLEN', stream)
if redis.call('EXISTS', stream) == 0 then
  return { now, 0, 0, false, {}, {}, newest ~= '0-0' and 0, run }
end

local info = fields(redis.call('XINFO', 'STREAM', stream))
local groups, consumers = {}, {}
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local group = fields(flat)
  local last = group['last-delivered-id']
  local first_pending = group.pending > 0 and redis.call('XPENDING', stream, group.name)[2] or false
  local unread = redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)[1]
  local lag = group.lag or (unread and lag_after(last)) or (not unread and 0)
  groups[#groups + 1] = { group.name, group.pending, last, lag, first_pending, unread and unread[1] or false }
  if group.name == ours then
    for _, member in ipairs(redis.call('XINFO', 'CONSUMERS', stream, ours)) do
      local consumer = fields(member)
      consumers[#consumers + 1] = { consumer.name, consumer.pending, consumer.idle }
    end
  end
end
local above = newest ~= '0-0' and above_newest()
return { now, length, info['entries-added'] or false, info['last-generated-id'], groups, consumers, above, run }
