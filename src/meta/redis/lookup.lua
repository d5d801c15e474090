--[[
A directory entry and the node it names, in one round trip.

KEYS[1]  d<parent>
ARGV[1]  name, ARGV[2] prefix of the key names
Result:  nil where there is no such entry, else {entry, node}; node is nil where it is missing

An inode of the trash does not fit a Lua number. Those are 0x7FFFFFFF00000000 (9223372032559808512) and 32 bits more, so only
the last twelve decimal digits change.
]]
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry then
  return nil
end
local a, b, c, d, e, f, g, h = string.byte(entry, 2, 9)
if not h then
  return {entry, false}
end
local high, low = ((a * 256 + b) * 256 + c) * 256 + d, ((e * 256 + f) * 256 + g) * 256 + h
local ino
if high == 2147483647 then
  ino = string.format('9223372%012.0f', 32559808512 + low)
else
  ino = string.format('%.0f', high * 4294967296 + low)
end
return {entry, redis.call('GET', ARGV[2] .. 'i' .. ino)}
