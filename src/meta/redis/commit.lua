--[[
Compares, then writes: all or nothing, exactly once.

KEYS[1]   hash of this client's marks (see below)
KEYS[2…]  one key per check, then one key per write
ARGV[1]   slot of the mark, ARGV[2] number of the transaction
ARGV[3]   '1' where the transaction may have been applied already (sent before, answer lost)
ARGV[4]   seconds after which the marks may go, '' to leave that alone
ARGV[5]   number of checks
then per check a code and its arguments:
  n value        the string is exactly this; '' = there is none
  a value        as n, but only flags, mode, owner and what follows from the parent on (see records.ts)
  x              the key exists (a string)
  h field value  the hash field is exactly this; '' = there is none
  p field 0|1    the hash field is absent | present
  e              the hash is empty
  l records 0|1  the list begins with these 24-byte records; 1 = and holds nothing else
  c number       the counter (0 where there is none) is at most this
  w n (field value)…  the hash holds these n fields with these values, and no other
then per write a command, the number of its arguments, and these:
  any Redis command on the key, or
  TOUCH times delta     a node's mtime and ctime (24 bytes) and link count; nothing where the node is gone; 1 or 0
  HINCRBYX field delta  HINCRBY where the field exists; 1 or 0
  ANNOUNCE channel      PUBLISH to who waits, if this user may; 0

Result:
  {1, n…}                 written; per write the number Redis answered, 0 where it was none
  {0, {i…}, {value…}}     nothing written: indexes (from 0) of the checks that failed, and per check what is there now
                          (for n, a, x and h; else nil)
  {2, 'n,n,…'}            was applied before; the numbers it answered then

The mark: a client numbers its transactions and keeps each in one of a bounded set of slots until it is answered, so that
after a lost connection it can send the same transaction again and learn that it was applied.
]]
if ARGV[3] == '1' then
  local mark = redis.call('HGET', KEYS[1], ARGV[1])
  if mark then
    local number, results = string.match(mark, '^(%d+):(.*)$')
    if number == ARGV[2] then
      return {2, results}
    end
  end
end

local checks = tonumber(ARGV[5])
local at = 6
local failed, current = {}, {}
for i = 1, checks do
  local key, code = KEYS[i + 1], ARGV[at]
  local holds, now = false, false
  if code == 'n' then
    local expected = ARGV[at + 1]
    now = redis.call('GET', key)
    holds = (now or '') == expected
    at = at + 2
  elseif code == 'a' then
    local expected = ARGV[at + 1]
    now = redis.call('GET', key)
    if now then
      holds = string.sub(now, 1, 11) == string.sub(expected, 1, 11) and string.sub(now, 64) == string.sub(expected, 64)
    else
      holds = expected == ''
    end
    at = at + 2
  elseif code == 'x' then
    now = redis.call('GET', key)
    holds = now and true or false
    at = at + 1
  elseif code == 'h' then
    now = redis.call('HGET', key, ARGV[at + 1])
    holds = (now or '') == ARGV[at + 2]
    at = at + 3
  elseif code == 'p' then
    holds = redis.call('HEXISTS', key, ARGV[at + 1]) == tonumber(ARGV[at + 2])
    at = at + 3
  elseif code == 'e' then
    holds = redis.call('HLEN', key) == 0
    at = at + 1
  elseif code == 'l' then
    local expected = ARGV[at + 1]
    local count = #expected / 24
    holds = count == 0 or table.concat(redis.call('LRANGE', key, 0, count - 1)) == expected
    if holds and ARGV[at + 2] == '1' then
      holds = redis.call('LLEN', key) == count
    end
    at = at + 3
  elseif code == 'c' then
    holds = tonumber(redis.call('GET', key) or '0') <= tonumber(ARGV[at + 1])
    at = at + 2
  elseif code == 'w' then
    local count = tonumber(ARGV[at + 1])
    holds = redis.call('HLEN', key) == count
    for field = at + 2, at + 2 * count, 2 do
      holds = holds and redis.call('HGET', key, ARGV[field]) == ARGV[field + 1]
    end
    at = at + 2 + 2 * count
  else
    return redis.error_reply('ERR commit: unknown check ' .. tostring(code))
  end
  current[i] = now
  if not holds then
    failed[#failed + 1] = i - 1
  end
end
if #failed > 0 then
  return {0, failed, current}
end

local results = {1}
for i = checks + 2, #KEYS do
  local key, command, count = KEYS[i], ARGV[at], tonumber(ARGV[at + 1])
  local result = 0
  if command == 'TOUCH' then
    if redis.call('STRLEN', key) >= 63 then
      redis.call('SETRANGE', key, 23, ARGV[at + 2])
      local delta = tonumber(ARGV[at + 3])
      if delta ~= 0 then
        local a, b, c, d = string.byte(redis.call('GETRANGE', key, 47, 50), 1, 4)
        local links = math.max(0, ((a * 256 + b) * 256 + c) * 256 + d + delta)
        local byte = function(shift)
          return math.floor(links / shift) % 256
        end
        redis.call('SETRANGE', key, 47, string.char(byte(16777216), byte(65536), byte(256), byte(1)))
      end
      result = 1
    end
  elseif command == 'HINCRBYX' then
    if redis.call('HEXISTS', key, ARGV[at + 2]) == 1 then
      redis.call('HINCRBY', key, ARGV[at + 2], ARGV[at + 3])
      result = 1
    end
  elseif command == 'ANNOUNCE' then
    -- Who waits looks by itself, too: a user without the right to publish is no reason to fail.
    redis.pcall('PUBLISH', ARGV[at + 2], '')
  else
    result = redis.call(command, key, unpack(ARGV, at + 2, at + 1 + count))
    if type(result) ~= 'number' then
      result = 0
    end
  end
  results[#results + 1] = result
  at = at + 2 + count
end

redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ':' .. table.concat(results, ',', 2))
if ARGV[4] ~= '' then
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
return results
