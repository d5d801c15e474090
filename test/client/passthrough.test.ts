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
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { mayPassThrough } from '../../src/fuse/backing.ts';
import { until } from '../cli/command.ts';
import { cannotMount, freshVolume, type Mounted, startMount } from '../mounted.ts';
import { onPath } from '../tools.ts';

const exec = promisify(execFile);
const MIB = 1024 * 1024;
const skip = cannotMount || (mayPassThrough(tmpdir()) ? false : 'passthrough needs Linux 6.9 and CAP_SYS_ADMIN');
const hash = (data: Buffer): string => createHash('sha256').update(data).digest('hex').slice(0, 16);
const client = (mounted: Mounted): number =>
  (JSON.parse(readFileSync(join(mounted.folder, '.config'), 'utf8')) as { Pid: number }).Pid;

/** A figure of `.stats`, by its name without prefix. */
function figure(mounted: Mounted, name: string): number {
  const line = readFileSync(join(mounted.folder, '.stats'), 'utf8')
    .split('\n')
    .find((each) => each.startsWith(`juicefs_${name} `));
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
    const mount = [
      '--read-only',
      '--cache-dir',
      cache,
      '--cache-size',
      '300M',
      '--cache-whole-files',
      '100M',
      '--free-space-ratio',
      '0.05',
    ];
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

  /** Has the reader keep the file whole, and waits for it; `held` files are open beside. */
  async function whole(path: string, held = 0): Promise<void> {
    const made = figure(reader, 'whole_files_made');
    // Nobody has written to it for a while.
    utimesSync(join(writer.folder, basename(path)), 1e9, 1e9);
    await until('the file is whole', () => {
      readFileSync(path);
      return figure(reader, 'whole_files_made') > made;
    });
    // Else the next open would be of an inode that still is open another way.
    await until('nothing else is open', () => figure(reader, 'fuse_open_handlers') <= held + 1);
  }

  test('a file that is read again is read past the client: by read, mapping, sendfile, and directly, and the bytes are those of the volume', async () => {
    const data = randomBytes(10 * MIB + 12_345);
    const [, there] = make(data);
    await whole(there);
    const opens = figure(reader, 'passthrough_opens');
    const reads = figure(reader, 'fuse_read_size_bytes_total');
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
    assert.ok(figure(reader, 'fuse_read_size_bytes_total') - reads < 100, 'the client served the direct reads alone');
  });

  /** Opens on the reader, and checks that the kernel reads it past the client. */
  function bound(path: string): number {
    const opens = figure(reader, 'passthrough_opens');
    const fd = openSync(path, 'r');
    assert.equal(figure(reader, 'passthrough_opens'), opens + 1, 'it is read past the client');
    return fd;
  }

  /** Writes to part of a file and closes it. */
  function patch(path: string, part: Buffer, at: number): void {
    const fd = openSync(path, 'r+');
    writeSync(fd, part, 0, part.length, at);
    closeSync(fd);
  }

  test('what another mount has closed is what is opened, though the inode is being read, and handles that are open follow', async () => {
    let data = randomBytes(70 * MIB);
    const [here, there] = make(data);
    await whole(there);
    const open = bound(there);
    assert.equal(hash(readAll(open)), hash(data));
    const check = async (what: string): Promise<void> => {
      const again = openSync(there, 'r');
      assert.equal(fstatSync(again).size, data.length, what);
      assert.equal(hash(readAll(again)), hash(data), what);
      await until(`the open handle follows: ${what}`, () => hash(readAll(open, 80 * MIB)) === hash(data));
      closeSync(again);
    };
    const part = randomBytes(300_000);
    patch(here, part, 65 * MIB);
    part.copy(data, 65 * MIB);
    await check('overwritten');
    data = Buffer.concat([data, randomBytes(5000)]);
    patch(here, data.subarray(70 * MIB), 70 * MIB);
    await check('appended');
    truncateSync(here, 6 * MIB + 7);
    data = data.subarray(0, 6 * MIB + 7);
    await check('cut');
    truncateSync(here, 9 * MIB);
    data = Buffer.concat([data, Buffer.alloc(3 * MIB - 7)]);
    await check('grown by zeros');
    const whole2 = randomBytes(data.length);
    writeFileSync(here, whole2);
    data = whole2;
    await check('written anew');
    // Without an open, too.
    patch(here, part, 1000);
    part.copy(data, 1000);
    await until('the open handle follows by itself', () => hash(readAll(open)) === hash(data));
    closeSync(open);
    assert.equal(hash(readFileSync(there)), hash(data));
  });

  test('a name that is given to another file opens that one; the old one is read to the end, also when it is removed', async () => {
    const data = randomBytes(8 * MIB);
    const [here, there] = make(data);
    await whole(there);
    const open = bound(there);
    const other = randomBytes(5 * MIB);
    const [otherHere] = make(other);
    renameSync(otherHere, here);
    await until('the name opens the new file', () => hash(readFileSync(there)) === hash(other));
    assert.equal(hash(readAll(open)), hash(data));
    unlinkSync(here);
    await until('the name is gone', () => !readdirSync(reader.folder).includes(basename(there)));
    assert.equal(hash(readAll(open)), hash(data));
    closeSync(open);
  });

  test('an inode that is open another way goes on so, and who opens it beside gets no error', async () => {
    const data = randomBytes(6 * MIB);
    const [, there] = make(data);
    const before = openSync(there, 'r');
    await whole(there, 1);
    const opens = figure(reader, 'passthrough_opens');
    const beside = Array.from({ length: 20 }, () => openSync(there, 'r'));
    for (const fd of beside) assert.equal(hash(readAll(fd)), hash(data));
    assert.equal(figure(reader, 'passthrough_opens'), opens, 'none is bound while one is not');
    for (const fd of [before, ...beside]) closeSync(fd);
    await until('nothing is open', () => figure(reader, 'fuse_open_handlers') <= 1);
    const open = bound(there);
    assert.equal(hash(readAll(open)), hash(data));
    closeSync(open);
  });

  test('a client that is killed is followed by one that goes on with what is bound, and nothing of it is left in the end', async () => {
    const data = randomBytes(12 * MIB);
    const [here, there] = make(data);
    await whole(there);
    const kept = randomBytes(7 * MIB);
    const [, unchanged] = make(kept);
    await whole(unchanged);
    const free = (): number => statfsSync(cache).bavail * statfsSync(cache).bsize;
    const open = bound(there);
    const other = bound(unchanged);
    const kill = async (): Promise<void> => {
      const pid = client(reader);
      process.kill(pid, 'SIGKILL');
      // The kernel reads on without anybody.
      assert.equal(hash(readAll(open, data.length)), hash(data));
      await until('another client serves', () => client(reader) !== pid);
    };
    await kill();
    assert.equal(figure(reader, 'passthrough_files'), 2);
    const beside = bound(there);
    assert.equal(hash(readAll(beside)), hash(data));
    const part = randomBytes(100_000);
    patch(here, part, 5 * MIB);
    part.copy(data, 5 * MIB);
    await until('the open handle follows its new client', () => hash(readAll(open)) === hash(data));
    await kill();
    const third = openSync(there, 'r');
    assert.equal(hash(readAll(third)), hash(data), 'changed in place before the client was killed');
    assert.equal(hash(readAll(other)), hash(kept));
    const before = free();
    for (const fd of [open, beside, third, other]) closeSync(fd);
    await until('nothing is bound', () => figure(reader, 'passthrough_files') === 0);
    await until('the file that was changed under its readers has left the disk', () => free() - before > 11 * MIB);
    assert.equal(hash(readFileSync(there)), hash(data));
    // What was not changed is used again once its sum was verified by the new client.
    await until('the other one is read past the client again', () => {
      const opens = figure(reader, 'passthrough_opens');
      assert.equal(hash(readFileSync(unchanged)), hash(kept));
      return figure(reader, 'passthrough_opens') > opens;
    });
  });

  test('no more is kept than was allowed; what is open stays, and is read on though the cache is emptied under it', async () => {
    const data = randomBytes(16 * MIB);
    const [, there] = make(data);
    await whole(there);
    const open = bound(there);
    for (let index = 0; index < 8; index++) {
      const [, path] = make(randomBytes(15 * MIB));
      await whole(path, 1);
      assert.ok(figure(reader, 'whole_files_bytes') <= 100 * MIB);
    }
    assert.ok(figure(reader, 'whole_files_evicts') > 0);
    const again = bound(there);
    assert.equal(hash(readAll(again)), hash(data));
    for (const name of readdirSync(cache)) rmSync(join(cache, name), { recursive: true, force: true });
    assert.equal(hash(readAll(open)), hash(data));
    closeSync(open);
    closeSync(again);
    assert.equal(hash(readFileSync(there)), hash(data));
  });

  test('a larger file than may be kept is read as ever', async () => {
    const data = randomBytes(101 * MIB);
    const [here, there] = make(data);
    utimesSync(here, 1e9, 1e9);
    const opens = figure(reader, 'passthrough_opens');
    for (let round = 0; round < 4; round++) assert.equal(hash(readFileSync(there)), hash(data));
    assert.equal(figure(reader, 'passthrough_opens'), opens);
  });
});

describe('the model: two mounts, and changes at random', { skip }, () => {
  test(
    'after any changes of the writer every open of the reader finds what was closed before it',
    { timeout: 240_000 },
    async () => {
      await using writer = await freshVolume('redis');
      const mount = ['--read-only', '--cache-dir', join(writer.work, 'own-cache'), '--cache-size', '2G'];
      await using reader = await startMount(writer.metaUrl, join(writer.work, 'reader'), writer.work, { mount });
      let seed = Number(process.env['JUICEPOD_SEED'] ?? Date.now() % 1_000_000);
      const begun = seed;
      const below = (bound: number): number => (seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648) % bound;
      const names = ['a', 'b', 'c'];
      const model = new Map<string, Buffer>();
      const open: { readonly name: string; readonly fd: number }[] = [];
      let old = 1_000_000_000;
      const shut = (): void => {
        const taken = open.splice(1 + below(open.length), 1)[0];
        if (taken) closeSync(taken.fd);
      };
      const steps: readonly ((name: string, path: string, data: Buffer) => void)[] = [
        (name, path, data) => {
          const fd = openSync(path, 'r+');
          const part = randomBytes(1 + below(600_000));
          const at = below(data.length);
          writeSync(fd, part, 0, part.length, at);
          const grown = Buffer.alloc(Math.max(data.length, at + part.length));
          data.copy(grown);
          part.copy(grown, at);
          if (below(2) === 0) {
            fsyncSync(fd);
            utimesSync(path, old, old++);
          }
          closeSync(fd);
          model.set(name, grown);
        },
        (name, path, data) => {
          const length = 4 * MIB + below(6 * MIB);
          const fd = openSync(path, 'r+');
          ftruncateSync(fd, length);
          closeSync(fd);
          const cut = Buffer.alloc(length);
          data.copy(cut);
          model.set(name, cut);
        },
        (_name, path) => utimesSync(path, old, old++),
        shut,
        shut,
      ];
      try {
        for (const name of names) {
          model.set(name, randomBytes(5 * MIB));
          writeFileSync(join(writer.folder, name), model.get(name) as Buffer);
        }
        // One is read past the client all the time, the others as it comes.
        utimesSync(join(writer.folder, 'a'), old, old++);
        await until('the first is read past the client', () => {
          const fd = openSync(join(reader.folder, 'a'), 'r');
          assert.equal(hash(readAll(fd)), hash(model.get('a') as Buffer));
          const bound = figure(reader, 'passthrough_files') === 1;
          if (bound) open.push({ name: 'a', fd });
          else closeSync(fd);
          return bound;
        });
        steps[0]?.('a', join(writer.folder, 'a'), model.get('a') as Buffer);
        for (let step = 0; step < 150; step++) {
          const name = names[below(names.length)] as string;
          const path = join(writer.folder, name);
          if (below(3) === 0) steps[below(steps.length)]?.(name, path, model.get(name) as Buffer);
          const fd = openSync(join(reader.folder, name), 'r');
          const what = `seed ${begun}, step ${step}, file ${name}`;
          assert.equal(hash(readAll(fd)), hash(model.get(name) as Buffer), what);
          if (below(3) === 0 && open.length < 6) open.push({ name, fd });
          else closeSync(fd);
          if (step % 10 === 0) utimesSync(path, old, old++);
        }
        // Then all that is open has what there is.
        for (const { name, fd } of open)
          await until(`an open handle follows (seed ${begun})`, () => hash(readAll(fd)) === hash(model.get(name) as Buffer));
      } finally {
        for (const { fd } of open) closeSync(fd);
      }
      assert.ok(figure(reader, 'passthrough_opens') > 0, `something was read past the client (seed ${begun})`);
      assert.ok(figure(reader, 'passthrough_updates') > 0, `something was changed under a reader (seed ${begun})`);
    },
  );
});
