/** /proc/self/mountinfo, as far as mounts of ours need it. Source: Documentation/filesystems/proc.rst, §3.5. */
import { readFileSync } from 'node:fs';

export interface MountEntry {
  readonly id: number;
  /** "major:minor" of the file system, as /sys/class/bdi and /sys/fs/fuse/connections (the minor) name it. */
  readonly device: string;
  readonly target: string;
  readonly type: string;
  readonly source: string;
}

const unescape = (text: string): string =>
  text.replaceAll(/\\([0-7]{3})/g, (_all, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** Reads the lines, in the order of mounting. Names are taken as Latin-1 bytes and given back as UTF-8. */
export function parseMountInfo(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const [front, back] = line.split(' - ', 2);
    const fields = front?.split(' ') ?? [];
    const [type, source] = back?.split(' ') ?? [];
    const [id, , device, , target] = fields;
    if (id === undefined || device === undefined || target === undefined || type === undefined) continue;
    const name = (escaped: string): string => Buffer.from(unescape(escaped), 'latin1').toString();
    entries.push({ id: Number(id), device, target: name(target), type, source: name(source ?? '') });
  }
  return entries;
}

/** What is mounted at exactly this (absolute, real) path, the topmost last. Asks nothing of the mounts themselves. */
export function mountsAt(target: string): MountEntry[] {
  const text = readFileSync('/proc/self/mountinfo', 'latin1');
  return parseMountInfo(text).filter((entry) => entry.target === target);
}
