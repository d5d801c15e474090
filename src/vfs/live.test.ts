import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import * as fc from 'fast-check';
import { libc } from '../lib/libc.ts';
import { LiveFile } from './live.ts';

const PAGE = 4096;
const never = new AbortController().signal;

describe('a local file that is changed under its readers', { skip: libc() ? false : 'leases need Linux' }, () => {
  let folder: string;
  let path: string;
  let sums: string;
  let fd: number;
  let live: LiveFile;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'juicepod-live-'));
    path = join(folder, 'file');
    sums = join(folder, 'sums');
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  function open(data: Buffer): void {
    writeFileSync(path, data);
    fd = openSync(path, 'r');
    live = new LiveFile(fd, sums);
  }
  function shut(): void {
    live.close();
    closeSync(fd);
  }
  /** As a program does through a mapping: nobody is told. */
  function store(at: number, bytes: Buffer): void {
    const other = openSync(path, 'r+');
    writeSync(other, bytes, 0, bytes.length, at);
    closeSync(other);
  }
  async function collect(volume: Buffer): Promise<Buffer> {
    let all = volume;
    await live.stores(async (offset, _end, take) => {
      const bytes = take();
      const grown = Buffer.alloc(Math.max(all.length, offset + bytes.length));
      all.copy(grown);
      bytes.copy(grown, offset);
      all = grown;
    }, never);
    return all;
  }

  test('what is copied in leaves out what was written since the copy began, before it, behind it and within it', () => {
    open(Buffer.alloc(10 * PAGE, 'o'));
    live.begin();
    for (const at of [0, PAGE + 100, 3 * PAGE, 3 * PAGE + 50, 5 * PAGE - 10]) live.write(at, Buffer.alloc(60, 'w'));
    live.write(9 * PAGE, Buffer.alloc(2 * PAGE, 'w'));
    live.apply(Buffer.alloc(4 * PAGE, 'n'), 0);
    live.resize(7 * PAGE);
    live.end();
    const wanted = Buffer.alloc(11 * PAGE, 'o').fill('n', 0, 4 * PAGE);
    for (const at of [0, PAGE + 100, 3 * PAGE, 3 * PAGE + 50, 5 * PAGE - 10]) wanted.fill('w', at, at + 60);
    wanted.fill('w', 9 * PAGE);
    assert.ok(readFileSync(path).equals(wanted));
    live.resize(7 * PAGE);
    assert.ok(readFileSync(path).equals(wanted.subarray(0, 7 * PAGE)), 'what was written before counts no more');
    shut();
  });

  test('whatever is written, stored, copied in and cut, in any order and with new clients between: volume and file are one in the end', async () => {
    const at = fc.nat(6 * PAGE);
    const bytes = fc.oneof(fc.constantFrom(1, PAGE, 2 * PAGE), fc.integer({ min: 1, max: 3 * PAGE }));
    const step = fc.oneof(
      fc.record({ what: fc.constantFrom('write', 'store', 'others'), at, bytes }),
      fc.record({ what: fc.constantFrom('cut', 'collect', 'again'), at, bytes }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        let model: Buffer = randomBytes(5 * PAGE + 77);
        rmSync(sums, { force: true });
        open(model);
        await live.watch();
        /** As far as it has been told. */
        let volume: Buffer = Buffer.from(model);
        for (const { what, at, bytes } of steps) {
          const part = randomBytes(bytes);
          const put = (into: Buffer, from: number, data: Buffer): Buffer => {
            const grown = Buffer.alloc(Math.max(into.length, from + data.length));
            into.copy(grown);
            data.copy(grown, from);
            return grown;
          };
          if (what === 'write') {
            live.write(at, part);
            model = put(model, at, part);
            volume = put(volume, at, part);
          } else if (what === 'store' && at < model.length) {
            const clipped = part.subarray(0, model.length - at);
            store(at, clipped);
            model = put(model, at, clipped);
          } else if (what === 'others') {
            // They change what is not stored to here: what both change at once may be either.
            volume = await collect(volume);
            const clipped = part.subarray(0, Math.max(0, model.length - at));
            volume = put(volume, at < model.length ? at : 0, clipped);
            model = Buffer.from(volume);
            live.begin();
            live.apply(volume, 0);
            live.end();
          } else if (what === 'cut') {
            volume = await collect(volume);
            live.resize(at);
            const cut = Buffer.alloc(at);
            model.copy(cut);
            model = cut;
            volume = Buffer.from(cut);
          } else if (what === 'collect') volume = await collect(volume);
          else if (what === 'again') {
            shut();
            fd = openSync(path, 'r');
            live = new LiveFile(fd, sums);
            assert.ok(live.watched, 'a client that follows goes on watching');
          }
          assert.equal(live.length, model.length);
          assert.ok(readFileSync(path).equals(model), `the local file, after ${what}`);
        }
        volume = await collect(volume);
        assert.ok(volume.equals(model), 'the volume has all that was stored');
        shut();
      }),
      { numRuns: 150 },
    );
  });

  test('it is seen who has the file open, and who for writing', () => {
    open(Buffer.alloc(PAGE));
    assert.ok(!live.used && !live.writable);
    live.write(0, Buffer.from('ours'));
    assert.ok(!live.used && !live.writable, 'we alone do not count');
    const reader = openSync(path, 'r');
    assert.ok(live.used && !live.writable);
    const writer = openSync(path, 'r+');
    assert.ok(live.used && live.writable);
    closeSync(reader);
    closeSync(writer);
    assert.ok(!live.used && !live.writable);
    truncateSync(path, 0);
    shut();
  });
});
