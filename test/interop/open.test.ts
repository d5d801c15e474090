/**
 * What one client sees of the other while files are open and names are cached: the lifetimes of a default mount, files removed or
 * replaced under a reader, and contents that change while their times do not. Takes the official client from JUICEFS_BIN.
 */
import assert from 'node:assert/strict';
import { lstat, open, readdir, readFile, rename, stat, unlink, utimes, writeFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { cannotInteroperate, fsck, gc } from './official.ts';
import { type ClientName, openPair, otherClient } from './pair.ts';
import { compressible } from './scenarios.ts';
import { until } from '../until.ts';

const clients: readonly ClientName[] = ['official', 'ours'];

const exists = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  );

describe('what one client sees while the other works', { skip: cannotInteroperate }, () => {
  test('with the lifetimes of a default mount, names, sizes and contents follow', async () => {
    await using pair = await openPair({ engine: 'redis', defaultLifetimes: true });
    for (const by of clients) {
      const [writer, reader] = [pair.folder(by), pair.folder(otherClient(by))];
      // What was never looked at is seen at once.
      await writeFile(`${writer}/${by}`, 'first');
      assert.equal(await readFile(`${reader}/${by}`, 'utf8'), 'first');
      await writeFile(`${writer}/${by}`, 'second, longer');
      await until('new contents', async () => (await readFile(`${reader}/${by}`, 'utf8')) === 'second, longer');
      await rename(`${writer}/${by}`, `${writer}/renamed`);
      await until('the old name goes', async () => !(await exists(`${reader}/${by}`)));
      assert.equal(await readFile(`${reader}/renamed`, 'utf8'), 'second, longer');
      assert.ok((await readdir(reader)).includes('renamed'));
      await unlink(`${writer}/renamed`);
      await until('the removed name goes', async () => !(await exists(`${reader}/renamed`)));
    }
  });

  // The official client tells by the time of modification alone whether the kernel's pages still hold, and reads the old bytes here.
  test('contents replaced in place, of the same length and with the old times, are read anew by us', async () => {
    await using pair = await openPair({ engine: 'redis' });
    const [path, other] = [`${pair.official}/file`, `${pair.ours}/file`];
    await writeFile(path, compressible(10_000, 1));
    await utimes(path, 1_700_000_000, 1_700_000_000);
    assert.ok((await readFile(other)).equals(compressible(10_000, 1)));
    const file = await open(path, 'r+');
    await file.write(compressible(10_000, 2), 0, 10_000, 0);
    await file.sync();
    await file.utimes(1_700_000_000, 1_700_000_000);
    await file.close();
    assert.equal((await stat(other)).mtimeMs, 1_700_000_000_000);
    assert.ok((await readFile(other)).equals(compressible(10_000, 2)));
  });

  for (const by of clients) {
    test(`a file removed by ${by} under a reader stays readable from the trash`, async () => {
      await using pair = await openPair({ engine: 'redis', trashDays: 1 });
      const contents = compressible(9 << 20, 3);
      await writeFile(`${pair.folder(by)}/file`, contents);
      const file = await open(`${pair.folder(otherClient(by))}/file`, 'r');
      try {
        const begin = await file.read(Buffer.alloc(1000), 0, 1000, 0);
        assert.ok(begin.buffer.equals(contents.subarray(0, 1000)));
        await unlink(`${pair.folder(by)}/file`);
        const { buffer } = await file.read(Buffer.alloc(1 << 20), 0, 1 << 20, 7 << 20);
        assert.ok(buffer.equals(contents.subarray(7 << 20, 8 << 20)));
      } finally {
        await file.close();
      }
    });

    test(`a file removed by ${by} without trash gives a reader the right bytes or an error`, async () => {
      await using pair = await openPair({ engine: 'redis' });
      const contents = compressible(9 << 20, 3);
      await writeFile(`${pair.folder(by)}/file`, contents);
      const file = await open(`${pair.folder(otherClient(by))}/file`, 'r');
      try {
        await file.read(Buffer.alloc(1000), 0, 1000, 0);
        await unlink(`${pair.folder(by)}/file`);
        const found = await file.read(Buffer.alloc(1 << 20), 0, 1 << 20, 7 << 20).then(
          ({ buffer, bytesRead }) => buffer.subarray(0, bytesRead),
          (error: { code?: string }) => error.code,
        );
        if (typeof found === 'string') assert.match(found, /^(ENOENT|EIO|ESTALE|EBADF)$/);
        else assert.ok(found?.equals(contents.subarray(7 << 20, (7 << 20) + found.length)));
      } finally {
        await file.close().catch(() => {});
      }
      for (const client of clients) await pair.unmount(client);
      await fsck(pair.url);
      const { leaked } = await gc(pair.url);
      assert.equal(leaked, 0);
    });

    test(`a file removed by ${by} while the other writes it leaves nothing behind`, async () => {
      await using pair = await openPair({ engine: 'redis' });
      const writer = pair.folder(otherClient(by));
      const file = await open(`${writer}/file`, 'w');
      await file.write(compressible(5 << 20, 1));
      await file.sync();
      await unlink(`${pair.folder(by)}/file`);
      await file.write(compressible(5 << 20, 2)).catch(() => {});
      await file.close().catch(() => {});
      assert.equal(await exists(`${writer}/file`), false);
      for (const client of clients) await pair.unmount(client);
      await fsck(pair.url);
      // Blocks that were uploaded for a file that is gone are found as leaked, and go.
      await gc(pair.url, '--delete');
      const { scanned } = await gc(pair.url);
      assert.equal(scanned, 0);
    });
  }
});
