-- Appends entries to one log: each id once per window, never past the cap, nothing evicted.
-- KEYS: the log, then with dedupe the hashes of ids of this generation and of the one before.
-- ARGV: cap, lifetime of a hash in ms, lifetime of a reservation in ms, owner, number of this flush, numbers of the
-- owner's flushes under way (a blank before and after each), then for each entry: id, digest, number of field arguments,
-- field arguments.
-- Answers a text an entry: a<id> accepted, u<id> accepted where the hash or its value for the id is not ours (it is left
-- alone, and the entry will not be recognized), d<id> duplicate, c<id> conflict, f full, r<error> refused, w another
-- flush has reserved the id, s<ms> the reservation of a flush that was given up is now this flush's: its entry may stand
-- in the log, from that time on.
local log, generation, before = KEYS[1], KEYS[2], KEYS[3]
local cap, hash_lifetime, lifetime = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local owner, flush, under_way = ARGV[4], ARGV[5], ARGV[6]
local length = redis.call('XLEN', log)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local has_noted = false

-- Above this Lua's unpack overflows its stack, which would fail the whole script.
local MOST_ARGUMENTS = 4000

local function is_alive(taken, by, number)
  if by == owner then
    return string.find(under_way, ' ' .. number .. ' ', 1, true)
  end
  return math.abs(now - taken) < lifetime
end

-- What is known of an id: the answer, if it is decided, and whether a value that is not ours stands in its place.
-- pcall throughout: what is wrong with one entry must not stop its neighbours.
local function look(key, digest)
  local is_foreign, is_reserved, since = false, false, nil
  for _, hash in ipairs({ generation, before }) do
    local value = redis.pcall('HGET', hash, key)
    if type(value) == 'table' then
      if string.sub(value.err, 1, 9) ~= 'WRONGTYPE' then
        return 'r' .. value.err
      end
      is_foreign = true
    elseif value then
      local id, body = string.match(value, '^(%d+%-%d+) (%x+)$')
      if id then
        return (body == digest and 'd' or 'c') .. id
      end
      local taken, by, number, from = string.match(value, '^~(%d+) (%x+)%-(%d+) ?(%d*)$')
      if not taken then
        is_foreign = true
      elseif by ~= owner or number ~= flush then
        taken, from = tonumber(taken), tonumber(from)
        if is_alive(taken, by, number) then
          is_reserved = true
        end
        since = math.min(since or now, from or taken)
      end
    end
  end
  if is_reserved then
    return 'w'
  end
  if since then
    local taken = redis.pcall('HSET', generation, key, string.format('~%.0f %s-%s %.0f', now, owner, flush, since))
    if type(taken) == 'table' then
      return 'r' .. taken.err
    end
    redis.pcall('HDEL', before, key)
    return string.format('s%.0f', since)
  end
  return nil, is_foreign
end

local function append(key, digest, first, last)
  local answer, is_foreign
  if generation then
    answer, is_foreign = look(key, digest)
    if answer then
      return answer
    end
  end
  if length >= cap then
    return 'f'
  end
  if last - first >= MOST_ARGUMENTS then
    return 'rERR too many fields'
  end
  local id = redis.pcall('XADD', log, '*', unpack(ARGV, first, last))
  if type(id) == 'table' then
    return 'r' .. id.err
  end
  length = length + 1
  if is_foreign then
    return 'u' .. id
  end
  -- After the XADD: an id that is known without its entry would turn the resend into a duplicate of nothing.
  if generation then
    redis.pcall('HSET', generation, key, id .. ' ' .. digest)
    has_noted = true
  end
  return 'a' .. id
end

local answers = {}
local at = 7
while at < #ARGV do
  local first = at + 3
  local last = at + 2 + tonumber(ARGV[at + 2])
  answers[#answers + 1] = append(ARGV[at], ARGV[at + 1], first, last)
  at = last + 1
end
if has_noted then
  redis.pcall('PEXPIRE', generation, hash_lifetime, 'NX')
end
return answers
