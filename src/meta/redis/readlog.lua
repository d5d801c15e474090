--[[
A piece of the change log.

KEYS[1]  txnLog, KEYS[2] txnLastLog: the number of its last entry
ARGV[1]  the first number that is asked for, ARGV[2] how many entries at most
Result:  {number of the oldest entry kept, number of the newest, number of the first one here, entries…}
]]
local newest = tonumber(redis.call('GET', KEYS[2]) or '0')
local oldest = newest - redis.call('LLEN', KEYS[1]) + 1
local first = math.max(tonumber(ARGV[1]), oldest)
local result = {oldest, newest, first}
if first <= newest then
  local at = first - oldest
  for _, entry in ipairs(redis.call('LRANGE', KEYS[1], at, at + tonumber(ARGV[2]) - 1)) do
    result[#result + 1] = entry
  end
end
return result
