/** Copies by reference (copy_file_range) of each client, read, changed and checked by the other. Takes the official client from JUICEFS_BIN. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { noPython } from '../locks/locker.ts';
import { cannotInteroperate, fsck, gc } from './official.ts';
import { type ClientName, openPair, otherClient } from './pair.ts';

/** Copies a range with the system call. */
function copyRange(from: string, offset: number, to: string, toOffset: number, length: number): void {
  const script = `
import os, sys
source, target = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[3], os.O_RDWR | os.O_CREAT)
at, to, left = (int(sys.argv[n]) for n in (2, 4, 5))
while left:
    copied = os.copy_file_range(source, target, left, at, to)
    assert copied > 0
    at, to, left = at + copied, to + copied, left - copied
`;
  execFileSync('python3', ['-c', script, from, String(offset), to, String(toOffset), String(length)], { stdio: 'pipe' });
}

for (const engine of ['redis', 'sqlite', 'postgres', 'mysql'] as const)
  test(
    `ranges copied by one client over ${engine} are the other client's to read, to change and to remove`,
    { skip: cannotInteroperate || noPython, timeout: 300_000 },
    async () => {
      await using pair = await openPair({ engine });
      for (const client of ['ours', 'official'] as readonly ClientName[]) {
        const [here, there] = [pair.folder(client), pair.folder(otherClient(client))];
        const data = randomBytes(5_000_000);
        writeFileSync(join(there, `source-${client}`), data);
        const path = `copy-${client}`;
        copyRange(join(here, `source-${client}`), 1234, join(here, path), 777, 4_500_000);
        const wanted = Buffer.concat([Buffer.alloc(777), data.subarray(1234, 1234 + 4_500_000)]);
        assert.ok(readFileSync(join(there, path)).equals(wanted), `as ${otherClient(client)} reads what ${client} copied`);
        const file = await open(join(there, path), 'r+');
        await file.write(data, 0, 1000, 100_000);
        await file.truncate(3_000_000);
        await file.close();
        data.copy(wanted, 100_000, 0, 1000);
        await rm(join(there, `source-${client}`));
        assert.ok(readFileSync(join(here, path)).equals(wanted.subarray(0, 3_000_000)), 'without its source');
      }
      for (const client of ['ours', 'official'] as readonly ClientName[]) await pair.unmount(client);
      await fsck(pair.url);
      await gc(pair.url, '--delete');
      await fsck(pair.url);
      for (const client of ['ours', 'official'] as readonly ClientName[]) {
        await pair.mount(client);
        const copy = join(pair.folder(client), `copy-${otherClient(client)}`);
        assert.equal(readFileSync(copy).length, 3_000_000);
        await rm(copy);
        await pair.unmount(client);
      }
      const left = await gc(pair.url, '--delete');
      assert.deepEqual([left.valid, left.leaked], [0, 0], 'nothing is left, and nothing was lost track of');
      await fsck(pair.url);
    },
  );
