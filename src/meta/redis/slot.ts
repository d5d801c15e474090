/**
 * The hash slot of a key in a Redis Cluster: CRC-16 (XMODEM) of the key, or of what stands between its first braces, of which
 * the lower 14 bits count. Source: the Redis Cluster specification, "Key distribution model".
 */

/** 0 … 16383. */
export function slotOf(key: string): number {
  const open = key.indexOf('{');
  const end = open < 0 ? -1 : key.indexOf('}', open + 1);
  const bytes = Buffer.from(end > open + 1 ? key.slice(open + 1, end) : key);
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff;
  }
  return crc & 0x3fff;
}
