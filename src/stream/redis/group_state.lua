-- Where our group stands, to be compared with the look before; read only.
-- KEYS: stream. ARGV: our group.
-- Answers: server time in ms, run id of the server, groups ever made by XGROUP CREATE and successful calls of XGROUP SETID since it runs (nil
-- where it does not tell), newest id ever, last delivered id, and consumers as { name, oldest pending id }. Nothing where
-- stream or group is missing.
local stream, ours = KEYS[1], ARGV[1]

local function fields(flat)
  local map = {}
  for i = 1, #flat, 2 do
    map[flat[i]] = flat[i + 1]
  end
  return map
end

-- A user may lack the right to ask.
local info = redis.pcall('INFO', 'server', 'commandstats')
local tells = type(info) == 'string' and string.find(info, 'cmdstat_', 1, true)
local function calls(name)
  if not tells then
    return false
  end
  local all, failed = string.match(info, 'cmdstat_xgroup|' .. name .. ':calls=(%d+)[^\r\n]*failed_calls=(%d+)')
  return all and all - failed or 0
end

if redis.call('EXISTS', stream) == 0 then
  return false
end
local group
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local one = fields(flat)
  group = one.name == ours and one or group
end
if not group then
  return false
end
local consumers = {}
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, ours)) do
  local consumer = fields(flat)
  local oldest = consumer.pending > 0 and redis.call('XPENDING', stream, ours, '-', '+', 1, consumer.name)[1]
  consumers[#consumers + 1] = { consumer.name, oldest and oldest[1] or false }
end
local newest = fields(redis.call('XINFO', 'STREAM', stream))['last-generated-id']
local run = tells and string.match(info, 'run_id:(%x+)')
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
return { now, run or false, calls('create'), calls('setid'), newest, group['last-delivered-id'], consumers }
