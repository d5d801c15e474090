--[[
Removes the oldest entries of the change log.

KEYS[1]  txnLog, KEYS[2] txnLastLog: the number of its last entry
ARGV[1]  entries before this number go, ARGV[2] all but the last so many go (-1: none for that), ARGV[3] at most so many at once
Result:  how many went
]]
local length = redis.call('LLEN', KEYS[1])
local oldest = tonumber(redis.call('GET', KEYS[2]) or '0') - length + 1
local count = tonumber(ARGV[1]) - oldest
if tonumber(ARGV[2]) >= 0 then
  count = math.max(count, length - tonumber(ARGV[2]))
end
count = math.min(count, length, tonumber(ARGV[3]))
if count <= 0 then
  return 0
end
redis.call('LTRIM', KEYS[1], count, -1)
return count
