/**
 * Names and paths of sync mode. Names are bytes (they need not be UTF-8); a path is names joined by `/`, relative to the
 * tree, empty for the tree itself.
 */

/** What neither side shows the other, at any depth: where uploads lie until they are whole. */
export const OWN_NAME = '.juicepod-sync';
const ownName = Buffer.from(OWN_NAME);
const MAX_NAME = 255;
const SLASH = Buffer.from('/');

export const isOwnName = (name: Buffer): boolean => name.equals(ownName);

/** `name` below `path`. */
export function below(path: Buffer, name: Buffer): Buffer {
  return path.length === 0 ? name : Buffer.concat([path, SLASH, name]);
}

/** A path as people read it: UTF-8, other bytes as `\xNN`. */
export function shown(path: Buffer): string {
  const text = path.toString('utf8');
  if (Buffer.from(text, 'utf8').equals(path)) return text === '' ? '.' : text;
  return path
    .toString('latin1')
    .replace(/[^\x20-\x7e]/g, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

/** Cuts bytes without splitting a character of UTF-8. */
function cut(name: Buffer, length: number): Buffer {
  if (name.length <= length) return name;
  let end = length;
  while (end > 0 && ((name[end] ?? 0) & 0xc0) === 0x80 && length - end < 4) end--;
  return name.subarray(0, end);
}

/**
 * The name that the pod's version of a file gets where the volume has another: `NAME.juicepod-conflict-POD-TIME`. The time is the
 * file's own (its mtime in UTC), so that a repeated attempt gives the same name; `serial` (from 2) tells several apart.
 */
export function conflictName(name: Buffer, pod: string, mtimeNs: bigint, serial = 1): Buffer {
  const time = new Date(Number(mtimeNs / 1_000_000n)).toISOString().replace(/[-:]|\.\d+/g, '');
  const suffix = Buffer.from(`.juicepod-conflict-${pod.slice(0, 63)}-${time}${serial > 1 ? `-${serial}` : ''}`);
  return Buffer.concat([cut(name, MAX_NAME - suffix.length), suffix]);
}
