/**
 * Files that the kernel reads past a client that may write them, too: handles and mappings of one mount, however they were opened, all see one
 * file, as on a local disk, and another client finds what was closed or synced.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { mayPassThrough } from '../../src/fuse/backing.ts';
import { until } from '../cli/command.ts';
import { cannotMount, freshVolume, type Mounted, mountBeside } from '../mounted.ts';
import { map, type Mapping } from './mapping.ts';

const MIB = 1024 * 1024;
const skip = cannotMount || (mayPassThrough(tmpdir()) ? false : 'passthrough needs Linux 6.9 and CAP_SYS_ADMIN');
const { O_APPEND, O_DIRECT, O_RDONLY, O_RDWR, O_WRONLY } = constants;

const client = (mounted: Mounted): number =>
  (JSON.parse(readFileSync(join(mounted.folder, '.config'), 'utf8')) as { Pid: number }).Pid;

/** A figure of `.stats`, by its name without prefix. */
function figure(mounted: Mounted, name: string): number {
  const line = readFileSync(join(mounted.folder, '.stats'), 'utf8')
    .split('\n')
    .find((each) => each.startsWith(`juicefs_${name} `));
  return Number(line?.split(' ')[1] ?? Number.NaN);
}

function readPart(fd: number, at: number, length: number): Buffer {
  const data = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const bytes = readSync(fd, data, done, length - done, at + done);
    if (bytes === 0) break;
    done += bytes;
  }
  return data.subarray(0, done);
}

/** Says where two contents differ, not all of what is in them. */
function same(found: Buffer, wanted: Buffer, what: string): void {
  if (found.equals(wanted)) return;
  let at = 0;
  while (at < found.length && found[at] === wanted[at]) at++;
  let end = at;
  for (let next = at; next < Math.min(found.length, wanted.length); next++) if (found[next] !== wanted[next]) end = next + 1;
  assert.fail(`${what}: ${found.length} bytes found, ${wanted.length} wanted, different from ${at} to ${end}`);
}

describe('files that the kernel reads past a client that writes', { skip }, () => {
  let here: Mounted;
  let there: Mounted;
  let serial = 0;

  before(async () => {
    here = await freshVolume('sqlite', { mount: ['--cache-whole-files', '200M', '--free-space-ratio', '0.02'] });
    there = await mountBeside(here, 'there', { mount: ['--cache-dir', join(here.work, 'cache-there')] });
  });
  after(async () => {
    await there?.[Symbol.asyncDispose]();
    await here?.[Symbol.asyncDispose]();
  });

  /** Opens a file for reading when it has come to lie whole in the cache, and is read past the client. */
  async function bound(path: string): Promise<number> {
    await until('nothing else is open', () => figure(here, 'fuse_open_handlers') <= 1 && figure(here, 'passthrough_files') === 0);
    // Nobody has written to it for a while.
    utimesSync(path, 1e9, 1e9 + serial++);
    let fd: number | undefined;
    await until('the file is read past the client', () => {
      const opens = figure(here, 'passthrough_opens');
      fd = openSync(path, 'r');
      if (figure(here, 'passthrough_opens') > opens) return true;
      readPart(fd, 0, statSync(path).size);
      closeSync(fd);
      return false;
    });
    return fd as number;
  }

  function make(data: Buffer): { readonly name: string; readonly path: string } {
    const name = `file-${serial++}`;
    writeFileSync(join(here.folder, name), data);
    return { name, path: join(here.folder, name) };
  }

  const patch = (data: Buffer, part: Buffer, at: number): Buffer => {
    const grown = Buffer.alloc(Math.max(data.length, at + part.length));
    data.copy(grown);
    part.copy(grown, at);
    return grown;
  };

  test('what is written is read at once, by handles and mappings that were there before, and others find it when it is closed', async () => {
    let data: Buffer = randomBytes(6 * MIB + 123);
    const { name, path } = make(data);
    const reader = await bound(path);
    const mapped = map(reader, data.length, false);
    same(readPart(reader, 0, 7 * MIB), data, 'bound');
    const writer = openSync(path, O_WRONLY);
    for (const at of [0, 4095, 3 * MIB + 7, data.length - 5]) {
      const part = randomBytes(10_000);
      writeSync(writer, part, 0, part.length, at);
      data = patch(data, part, at);
      same(readPart(reader, 0, 7 * MIB), data, `written at ${at}`);
      assert.equal(fstatSync(reader).size, data.length);
    }
    same(Buffer.from(mapped.bytes), data.subarray(0, mapped.bytes.length), 'mapped');
    const opens = figure(here, 'passthrough_opens');
    same(readFileSync(path), data, 'opened meanwhile');
    assert.equal(figure(here, 'passthrough_opens'), opens + 1, 'it is read past the client still');
    closeSync(writer);
    same(readFileSync(join(there.folder, name)), data, 'another client');
    truncateSync(path, 5 * MIB + 1);
    data = data.subarray(0, 5 * MIB + 1);
    same(readPart(reader, 0, 7 * MIB), data, 'cut');
    mapped.unmap();
    closeSync(reader);
    await until('nothing is bound', () => figure(here, 'passthrough_files') === 0);
    same(readFileSync(path), data, 'opened as any file again');
    same(readFileSync(join(there.folder, name)), data, 'another client');
  });

  test('what is stored through a mapping is seen by all handles, also when its handle is closed, and gets to others', async () => {
    let data: Buffer = randomBytes(5 * MIB);
    const { name, path } = make(data);
    const reader = await bound(path);
    const both = openSync(path, O_RDWR);
    const mapped = map(both, data.length, true);
    const store = (part: Buffer, at: number): void => {
      part.copy(mapped.bytes, at);
      data = patch(data, part, at);
    };
    store(randomBytes(5000), 100);
    same(readPart(reader, 0, data.length), data, 'by a reader');
    same(readPart(both, 0, data.length), data, 'by a handle that may write');
    // In a page that was stored to.
    const part = randomBytes(100);
    writeSync(both, part, 0, part.length, 3000);
    data = patch(data, part, 3000);
    closeSync(both);
    same(readFileSync(join(there.folder, name)), data, 'another client, after close');
    store(randomBytes(1000), 2 * MIB);
    closeSync(reader);
    // Nobody has it open, but the mapping is there: who opens it sees what it holds, and it sees what is written.
    same(readFileSync(path), data, 'opened beside a mapping');
    const again = openSync(path, 'r+');
    writeSync(again, part, 0, part.length, 4 * MIB);
    data = patch(data, part, 4 * MIB);
    same(Buffer.from(mapped.bytes), data, 'mapped');
    closeSync(again);
    store(randomBytes(1000), 3 * MIB);
    mapped.unmap();
    await until('nothing is bound', () => figure(here, 'passthrough_files') === 0);
    same(readFileSync(path), data, 'here');
    same(readFileSync(join(there.folder, name)), data, 'another client, after the mapping has gone');
  });

  test('a client that is killed is followed by one that has all of it', async () => {
    let data: Buffer = randomBytes(5 * MIB);
    const { name, path } = make(data);
    const reader = await bound(path);
    const both = openSync(path, O_RDWR);
    const mapped = map(both, data.length, true);
    const only = map(reader, data.length, false);
    const write = (at: number): void => {
      const part = randomBytes(7000);
      writeSync(both, part, 0, part.length, at);
      const stored = randomBytes(7000);
      stored.copy(mapped.bytes, at + MIB);
      data = patch(patch(data, part, at), stored, at + MIB);
    };
    const kill = async (): Promise<void> => {
      const pid = client(here);
      process.kill(pid, 'SIGKILL');
      await until('another client serves', () => client(here) !== pid);
    };
    write(1000);
    await kill();
    write(MIB / 2);
    same(readPart(reader, 0, data.length), data, 'by a reader');
    closeSync(both);
    same(readFileSync(join(there.folder, name)), data, 'another client');
    closeSync(reader);
    const stored = randomBytes(100);
    stored.copy(mapped.bytes, 4 * MIB);
    data = patch(data, stored, 4 * MIB);
    // Mappings alone are left.
    await kill();
    same(readFileSync(path), data, 'opened beside mappings');
    same(Buffer.from(only.bytes), data, 'mapped for reading');
    mapped.unmap();
    only.unmap();
    await until('nothing is bound', () => figure(here, 'passthrough_files') === 0);
    same(readFileSync(join(there.folder, name)), data, 'another client, in the end');
  });

  test('the model: handles and mappings of all kinds, and another client, at random', { timeout: 300_000 }, async (t) => {
    let seed = Number(process.env['JUICEPOD_SEED'] ?? Date.now() % 1_000_000);
    t.diagnostic(`JUICEPOD_SEED=${seed}`);
    const below = (limit: number): number => (seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648) % limit;
    const rounds = Number(process.env['JUICEPOD_ROUNDS'] ?? 2);
    let data: Buffer = randomBytes(4 * MIB + below(2 * MIB));
    let { name, path } = make(data);
    interface Open {
      readonly fd: number;
      readonly flags: number;
    }
    const open: Open[] = [];
    const mappings: { readonly mapping: Mapping; readonly writable: boolean }[] = [];
    const log: string[] = [];
    const any = (wanted: (flags: number) => boolean): Open | undefined => {
      const fitting = open.filter(({ flags }) => wanted(flags));
      return fitting[below(Math.max(1, fitting.length))];
    };
    const reads = (flags: number): boolean => (flags & 3) !== O_WRONLY && (flags & O_DIRECT) === 0;
    const writes = (flags: number): boolean => (flags & 3) !== O_RDONLY && (flags & O_APPEND) === 0;
    /** What others are to find is with the volume then. */
    const settle = (): void => {
      const fd = openSync(path, O_RDWR);
      fsyncSync(fd);
      closeSync(fd);
    };
    const drop = (index: number): void => closeSync((open.splice(index, 1)[0] as Open).fd);
    const unmap = (index: number): void => mappings.splice(index, 1)[0]?.mapping.unmap();
    const steps: readonly (readonly [string, () => void])[] = [
      ...[O_RDONLY, O_RDONLY, O_WRONLY, O_RDWR, O_WRONLY | O_APPEND, O_RDONLY | O_DIRECT].map((flags) => {
        const take = (): void => {
          if (open.length < 7) open.push({ fd: openSync(path, flags), flags });
        };
        return [`open ${flags}`, take] as const;
      }),
      ['close', () => open.length > 1 && drop(below(open.length))],
      ['unmap', () => mappings.length > 0 && unmap(below(mappings.length))],
      [
        'map',
        () => {
          const file = any(reads);
          if (!file || mappings.length >= 4 || data.length === 0) return;
          const writable = (file.flags & 3) === O_RDWR;
          mappings.push({ mapping: map(file.fd, data.length, writable), writable });
          if (below(2) === 0) drop(open.indexOf(file));
        },
      ],
      ...[1, 2, 3].map((kind) => {
        const write = (): void => {
          const file = any(writes);
          if (!file) return;
          const part = randomBytes(1 + below(kind === 1 ? 100 : 300_000));
          const at = below(data.length + (kind === 3 ? 100_000 : 0));
          assert.equal(writeSync(file.fd, part, 0, part.length, at), part.length);
          data = patch(data, part, at);
        };
        return ['write', write] as const;
      }),
      [
        'append',
        () => {
          const file = any((flags) => (flags & O_APPEND) !== 0);
          const part = randomBytes(1 + below(20_000));
          if (!file || data.length > 8 * MIB) return;
          writeSync(file.fd, part);
          data = Buffer.concat([data, part]);
        },
      ],
      ...[1, 2, 3].map(() => {
        const store = (): void => {
          const fitting = mappings.filter(({ writable }) => writable);
          const bytes = fitting[below(Math.max(1, fitting.length))]?.mapping.bytes;
          const room = Math.min(bytes?.length ?? 0, data.length);
          if (!bytes || room < 2) return;
          const at = below(room - 1);
          const part = randomBytes(1 + below(Math.min(room - at, 50_000)));
          part.copy(bytes, at);
          data = patch(data, part, at);
        };
        return ['store', store] as const;
      }),
      ['sync of a mapping', () => mappings[0]?.mapping.sync()],
      [
        'cut',
        () => {
          const length = 3 * MIB + below(4 * MIB);
          const file = any(writes);
          if (file && below(2) === 0) ftruncateSync(file.fd, length);
          else truncateSync(path, length);
          const cut = Buffer.alloc(length);
          data.copy(cut);
          data = cut;
        },
      ],
      [
        'fsync',
        () => {
          const file = any(writes);
          if (file) fsyncSync(file.fd);
        },
      ],
      [
        'rename',
        () => {
          const renamed = `file-${serial++}`;
          renameSync(path, join(here.folder, renamed));
          name = renamed;
          path = join(here.folder, name);
        },
      ],
      [
        'another client writes',
        () => {
          settle();
          const fd = openSync(join(there.folder, name), 'r+');
          const part = randomBytes(1 + below(100_000));
          const at = below(data.length);
          writeSync(fd, part, 0, part.length, at);
          closeSync(fd);
          data = patch(data, part, at);
          closeSync(openSync(path, 'r'));
        },
      ],
      [
        'another client reads',
        () => {
          settle();
          same(readFileSync(join(there.folder, name)), data, `another client; ${log.join(', ')}`);
        },
      ],
    ];
    const check = (all: boolean): void => {
      const what = (kind: string): string => `${kind}; ${log.join(', ')}`;
      for (const { fd, flags } of open) {
        if (!all && below(3) > 0) continue;
        assert.equal(fstatSync(fd).size, data.length, what('length'));
        if (reads(flags)) same(readPart(fd, 0, data.length + 1000), data, what(`read of a handle with flags ${flags}`));
        else if ((flags & O_DIRECT) !== 0) same(readPart(fd, 0, data.length + 1000), data, what('read with O_DIRECT'));
      }
      for (const { mapping } of mappings) {
        const length = Math.min(mapping.bytes.length, data.length);
        if (all || below(2) === 0) same(Buffer.from(mapping.bytes.subarray(0, length)), data.subarray(0, length), what('mapped'));
      }
    };
    for (let round = 0; round < rounds; round++) {
      log.length = 0;
      while (open.length > 0) drop(0);
      while (mappings.length > 0) unmap(0);
      if (data.length < 4 * MIB) truncateSync(path, (data = Buffer.concat([data, Buffer.alloc(2 * MIB)])).length);
      open.push({ fd: await bound(path), flags: O_RDONLY });
      for (let step = 0; step < 60; step++) {
        const [what, take] = steps[below(steps.length)] as (typeof steps)[number];
        log.push(what);
        take();
        check(false);
        // The client has its turn, and its timers.
        if (below(10) === 0) await new Promise((done) => setTimeout(done, below(300)));
      }
      check(true);
      settle();
      same(readFileSync(join(there.folder, name)), data, `another client in the end; ${log.join(', ')}`);
    }
    while (open.length > 0) drop(0);
    while (mappings.length > 0) unmap(0);
    await until('nothing is bound', () => figure(here, 'passthrough_files') === 0);
    same(readFileSync(path), data, 'in the end');
    unlinkSync(path);
    assert.ok(!readdirSync(here.folder).includes(name));
  });
});
