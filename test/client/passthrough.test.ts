/**
 * Files that the kernel reads past the client: one mount that is read-only and keeps whole files, another that writes. Whatever the writer
 * does, the reader finds what close-to-open promises, and no error.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statfsSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { mayPassThrough } from '../../src/fuse/backing.ts';
import { until } from '../cli/command.ts';
import { cannotMount, freshVolume, juicepod, type Mounted, startMount } from '../mounted.ts';
import { onPath } from '../tools.ts';

const exec = promisify(execFile);
const MIB = 1024 * 1024;
const skip = cannotMount || (mayPassThrough() ? false : 'passthrough needs Linux 6.9 and CAP_SYS_ADMIN');
const hash = (data: Buffer): string => createHash('sha256').update(data).digest('hex').slice(0, 16);
const client = (mounted: Mounted): number =>
  (JSON.parse(readFileSync(join(mounted.folder, '.config'), 'utf8')) as { Pid: number }).Pid;

/** A figure of `.stats`, by its name without prefix. */
function figure(mounted: Mounted, name: string): number {
  const line = readFileSync(join(mounted.folder, '.stats'), 'utf8').split('\n').find((each) => each.startsWith(`juicefs_${name} `));
  return Number(line?.split(' ')[1] ?? Number.NaN);
}

/** All of an open file, from its beginning. */
function readAll(fd: number, length = fstatSync(fd).size): Buffer {
  const data = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const bytes = readSync(fd, data, done, length - done, done);
    if (bytes === 0) break;
    done += bytes;
  }
  return data.subarray(0, done);
}

describe('files that the kernel reads past the client', { skip }, () => {
  let writer: Mounted;
  let reader: Mounted;
  let cache: string;
  let serial = 0;

  before(async () => {
    writer = await freshVolume('sqlite');
    cache = join(writer.work, 'whole-cache');
    mkdirSync(cache);
    await exec('mount', ['-t', 'tmpfs', '-o', 'size=512m', 'none', cache]);
    const mount = ['--read-only', '--cache-dir', cache, '--cache-size', '300M', '--cache-whole-files', '100M', '--free-space-ratio', '0.05'];
    reader = await startMount(writer.metaUrl, join(writer.work, 'reader'), writer.work, { mount });
  });
  after(async () => {
    await reader?.[Symbol.asyncDispose]();
    if (cache) await exec('umount', ['-l', cache]).catch(() => {});
    await writer?.[Symbol.asyncDispose]();
  });

  /** A new file, made by the writer; answers both paths of it. */
  function make(data: Buffer): readonly [string, string] {
    const name = `file-${serial++}`;
    writeFileSync(join(writer.folder, name), data);
    return [join(writer.folder, name), join(reader.folder, name)];
  }

  /** Has the reader keep the file whole, and waits for it. */
  async function whole(path: string): Promise<void> {
    const made = figure(reader, 'whole_files_made');
    // Nobody has written to it for a while.
    utimesSync(join(writer.folder, basename(path)), 1e9, 1e9);
    await until('the file is whole', () => {
      readFileSync(path);
      return figure(reader, 'whole_files_made') > made;
    });
    // Else the next open would be of an inode that still is open another way.
    await until('nothing is open', () => figure(reader, 'fuse_open_handlers') <= 1);
  }

  test('a file that is read again is read past the client: by read, mapping, sendfile, and directly, and the bytes are those of the volume', async () => {
    const data = randomBytes(10 * MIB + 12_345);
    const [, there] = make(data);
    await whole(there);
    const opens = figure(reader, 'passthrough_opens');
    const reads = figure(reader, 'fuse_read_size_bytes_count');
    const fd = openSync(there, 'r');
    assert.equal(hash(readAll(fd)), hash(data));
    assert.equal(figure(reader, 'passthrough_opens'), opens + 1);
    assert.equal(figure(reader, 'passthrough_files'), 1);
    const direct = openSync(there, constants.O_RDONLY | constants.O_DIRECT);
    assert.equal(hash(readAll(direct)), hash(data), 'O_DIRECT, and no alignment asked for');
    closeSync(direct);
    closeSync(fd);
    await until('nothing is open', () => figure(reader, 'passthrough_files') === 0);
    const python = onPath('python3');
    if (python) {
      const script = `
import hashlib, mmap, os, socket, sys
f = open(sys.argv[1], 'rb')
m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
f.close()
print(hashlib.sha256(m).hexdigest()[:16])
f = open(sys.argv[1], 'rb')
out = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
done = 0
while True:
    n = os.sendfile(out, f.fileno(), done, 1 << 20)
    if n == 0: break
    done += n
`;
      const copy = join(writer.work, 'copy');
      const { stdout } = await exec(python, ['-c', script, there, copy]);
      assert.equal(stdout.trim(), hash(data));
      assert.equal(hash(readFileSync(copy)), hash(data));
    }
    assert.ok(figure(reader, 'fuse_read_size_bytes_count') - reads < 100, 'the client served the direct reads alone');
  });
});
