-- Removes acked entries: beyond those retained, and beyond 90 % of the cap. Never one that any group still needs, and
-- nothing as long as our own group is missing: it is going to be created at 0, so it needs everything.
-- KEYS: stream. ARGV: our group, acked entries to retain, cap, cursor of the walk, most entries walked over in one call.
-- Answers: entries removed from the old end, entries removed behind an old pending one, cursor for the next call.
local stream = KEYS[1]
local ours, retain, cap, cursor, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])

-- Ids are compared as text: their halves are 64 bits wide, and Lua's numbers hold 53.
local function below(a, b)
  if #a ~= #b then
    return #a < #b
  end
  return a < b
end

local function before(a, b)
  local a_ms, a_seq = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_seq = string.match(b, '(%d+)-(%d+)')
  if a_ms ~= b_ms then
    return below(a_ms, b_ms)
  end
  return below(a_seq, b_seq)
end

-- The id right after; a sequence too wide to count up stays as it is, which keeps one entry more.
local function after(id)
  local ms, seq = string.match(id, '(%d+)-(%d+)')
  if #seq > 15 then
    return id
  end
  return ms .. '-' .. string.format('%.0f', tonumber(seq) + 1)
end

local function fields(flat)
  local map = {}
  for i = 1, #flat, 2 do
    map[flat[i]] = flat[i + 1]
  end
  return map
end

local length = redis.call('XLEN', stream)
local groups = length > 0 and redis.call('XINFO', 'GROUPS', stream) or {}
-- floor: the oldest id that any group needs. delivered: up to here every group was handed out everything.
-- A group that XGROUP SETID moved back needs entries below its pending ones: hence the smaller of the two.
local floor, delivered, lag, pending, has_ours
lag, pending = 0, 0
for _, flat in ipairs(groups) do
  local group = fields(flat)
  has_ours = has_ours or group.name == ours
  local last = group['last-delivered-id']
  local needs = after(last)
  if group.pending > 0 then
    local oldest = redis.call('XPENDING', stream, group.name)[2]
    if before(oldest, needs) then
      needs = oldest
    end
  end
  if not floor or before(needs, floor) then
    floor = needs
  end
  if not delivered or before(last, delivered) then
    delivered = last
  end
  pending = pending + group.pending
  -- An unknown lag counts as the whole stream: nothing is then beyond what is retained, only the cap still trims.
  lag = math.max(lag, group.lag or length)
end

if not has_ours then
  return { 0, 0, '0-0' }
end

local acked = math.max(0, length - lag - pending)
local excess = math.max(acked - retain, length - math.floor(cap * 0.9))
if excess <= 0 then
  return { 0, 0, '0-0' }
end
-- One call must not block the server for long; the next one goes on.
excess = math.min(excess, 10000)

-- Whole nodes first: no payload is copied. What is left below the floor is less than a node, unless there is much of it.
local prefix = redis.call('XTRIM', stream, 'MINID', '~', floor, 'LIMIT', excess)
local left = excess - prefix
if left > 0 then
  local count = math.min(left, most)
  local page = redis.call('XRANGE', stream, '-', '(' .. floor, 'COUNT', count)
  if #page > 0 then
    local edge = #page < count and floor or after(page[#page][1])
    local removed = redis.call('XTRIM', stream, 'MINID', '=', edge)
    prefix = prefix + removed
    left = left - removed
    -- The rest below the floor is for the next call.
    if #page == count then
      return { prefix, 0, cursor }
    end
  end
end
if left <= 0 then
  return { prefix, 0, cursor }
end

-- Pinned: what is acked stands behind an old pending entry. Strictly below `delivered`, so that no group has yet to read
-- it (and so that Redis still knows every lag: it forgets it after a deletion at or above the last delivered id).
local function is_pending(id)
  for _, flat in ipairs(groups) do
    if #redis.call('XPENDING', stream, fields(flat).name, id, id, 1) > 0 then
      return true
    end
  end
  return false
end

local start = before(cursor, floor) and floor or cursor
local page = {}
if before(start, delivered) then
  page = redis.call('XRANGE', stream, start, '(' .. delivered, 'COUNT', most)
end
local pinned = 0
for _, entry in ipairs(page) do
  if pinned >= left then
    break
  end
  cursor = after(entry[1])
  if not is_pending(entry[1]) then
    pinned = pinned + redis.call('XDEL', stream, entry[1])
  end
end
-- The walk starts over once it has reached the end: entries it passed may have been acked since.
if #page < most then
  cursor = '0-0'
end
return { prefix, pinned, cursor }
