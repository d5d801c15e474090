/**
 * `info` (1003) as clients of JuiceFS 1.0 ask for it: the answer is `u32 length` and a text. There is no progress: it has no place
 * in it. Source: JuiceFS format, control protocol (pkg/vfs/internal.go, LegacyInfo).
 */
import { toErrno } from '../../lib/errors.ts';
import { type Call, inside } from './call.ts';
import { dataOf, pathsOf, sentenceOf, usageOf } from './info.ts';

const UNITS = ['K', 'M', 'G', 'T', 'P', 'E'];

/** `1.50 KiB (1536 Bytes)` */
function sizeText(bytes: number): string {
  if (bytes < 1024) return `${bytes} Bytes`;
  let value = bytes;
  let unit = 0;
  for (; unit < UNITS.length - 1 && value >= 2 ** 20; unit++) value = Math.floor(value / 1024);
  return `${(value / 1024).toFixed(2)} ${UNITS[unit]}iB (${bytes} Bytes)`;
}

async function describe(call: Call): Promise<string> {
  const { payload } = call;
  const asked = payload.ino();
  const recursive = payload.more ? payload.u8() !== 0 : true;
  const raw = payload.more && payload.u8() !== 0;
  const ino = await inside(call, asked);
  const silent: Call = { ...call, progress: { first: 0, second: 0 } };
  const usage = await usageOf(silent, ino, recursive, true);
  const paths = await pathsOf(call, ino);
  const lines = [
    `  inode: ${asked}`,
    `  files: ${usage.files}`,
    `   dirs: ${usage.dirs}`,
    ` length: ${sizeText(usage.length)}`,
    `   size: ${sizeText(usage.size)}`,
    ...(paths.length > 1 ? ['  paths:', ...paths.map((path) => `\t${path}`)] : [`   path: ${paths[0] ?? 'unknown'}`]),
  ];
  if (usage.files === 1 && usage.dirs === 0) {
    const { slices, objects } = await dataOf(call, ino, usage.length, raw);
    lines.push(raw ? ' chunks:' : 'objects:');
    for (const { ChunkIndex, Id, Size, Off, Len } of slices) lines.push(`\t${[`${ChunkIndex}:`, Id, Size, Off, Len].join('\t')}`);
    for (const { ChunkIndex, Key, Size, Off, Len } of objects)
      lines.push(`\t${[`${ChunkIndex}:`, Key, Size, Off, Len].join('\t')}`);
  }
  return `${lines.join('\n')}\n`;
}

export async function legacyInfo(call: Call): Promise<Buffer> {
  let text: string;
  try {
    text = await describe(call);
  } catch (error) {
    call.ctx.signal.throwIfAborted();
    text = sentenceOf(toErrno(error));
  }
  const bytes = Buffer.from(text);
  const head = Buffer.alloc(4);
  head.writeUInt32BE(bytes.length);
  return Buffer.concat([head, bytes]);
}
