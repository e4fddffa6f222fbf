-- Appends entries to one log: each key once per window, never past the cap, nothing evicted.
-- KEYS: the log, then one dedupe key an entry (none with window 0).
-- ARGV: cap, window in ms (0: no dedupe), then for each entry: digest, number of field arguments, field arguments.
-- Answers a text an entry: a<id> accepted, u<id> accepted where the key holds something that is not ours (it is left
-- alone, and the entry will not be recognized), d<id> duplicate, c<id> conflict, f full, r<error> refused.
local log = KEYS[1]
local cap = tonumber(ARGV[1])
local window = tonumber(ARGV[2])
local length = redis.call('XLEN', log)

-- Above this Lua's unpack overflows its stack, which would fail the whole script.
local MOST_ARGUMENTS = 4000

-- pcall throughout: what is wrong with one entry must not stop its neighbours.
local function append(key, digest, first, last)
  local foreign = false
  if key then
    local known = redis.pcall('GET', key)
    if type(known) == 'table' then
      foreign = string.sub(known.err, 1, 9) == 'WRONGTYPE'
      if not foreign then
        return 'r' .. known.err
      end
    elseif known then
      local id, body = string.match(known, '^(%d+%-%d+) (%x+)$')
      if id then
        return (body == digest and 'd' or 'c') .. id
      end
      foreign = true
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
  if foreign then
    return 'u' .. id
  end
  -- After the XADD: a key without its entry would turn the resend into a duplicate of nothing.
  if key then
    redis.pcall('SET', key, id .. ' ' .. digest, 'PX', ARGV[2])
  end
  return 'a' .. id
end

local answers = {}
local at = 3
while at < #ARGV do
  local digest = ARGV[at]
  local first = at + 2
  local last = at + 1 + tonumber(ARGV[at + 1])
  local key = window > 0 and KEYS[#answers + 2]
  answers[#answers + 1] = append(key, digest, first, last)
  at = last + 1
end
return answers
