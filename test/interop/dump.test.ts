/**
 * Dumps between the two clients, over every database and in both formats: the official client loads ours and dumps it again as it was,
 * and we do so with theirs. The volume has one of everything. Takes the client from JUICEFS_BIN and is skipped where that names none.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { type Ino, ROOT_INO } from '../../src/lib/int64.ts';
import { openMeta } from '../../src/meta/open.ts';
import { SYSTEM } from '../../src/meta/types.ts';
import { contentOf, dumpOf, type Form, forms, goldenDump, load } from '../dump/engines.ts';
import { openUrl } from '../meta/engines.ts';
import { startDatabase } from '../servers.ts';
import { juicefs } from '../tools.ts';
import { run } from './official.ts';

const binary = juicefs();
const options = { skip: binary ? false : 'JUICEFS_BIN names no official client' };

/** The file of the golden volume that has an extended attribute without a value. */
const NO_VALUE = 61 as Ino;

/** Names, link targets and values that have to be escaped. */
async function addOddNames(url: string): Promise<void> {
  const meta = await openMeta(url);
  try {
    await meta.newSession('/mnt/odd');
    const odd = await meta.mkdir(SYSTEM, ROOT_INO, Buffer.from('odd'), 0o755, 0);
    const names = ['a\nb', '100%', '%41', '"quoted" \\', '<tag>&amp;', ' ', '\u2028', 'ä€\u{1f600}'].map((name) =>
      Buffer.from(name),
    );
    for (const name of [...names, Buffer.from('ff61fe80', 'hex'), Buffer.from('eda080', 'hex')]) {
      const { ino } = await meta.create(SYSTEM, odd.ino, name, 0o644, 0, true);
      await meta.setxattr(SYSTEM, ino, 'user.value', Buffer.concat([name, Buffer.of(0, 255)]), {});
      await meta.release(ino);
    }
    // One without a value makes the official client lose all attributes of a batch that it loads into an SQL database (1.4.1).
    await meta.removexattr(SYSTEM, NO_VALUE, 'user.empty');
    await meta.symlink(SYSTEM, odd.ino, Buffer.from('link'), Buffer.from('2e2e2fff0a', 'hex'));
  } finally {
    await meta.close();
  }
}

async function ours(url: string, form: Form, dump?: Buffer): Promise<Buffer> {
  const engine = await openUrl(url);
  try {
    if (dump) await load(engine, form, dump);
    return await dumpOf(engine, form, { keepSecrets: true });
  } finally {
    await engine.close();
  }
}

async function theirs(url: string, form: Form, folder: string, dump?: Buffer): Promise<Buffer> {
  const path = join(folder, 'official.dump');
  const flags = form === 'binary' ? ['--binary'] : [];
  if (dump) {
    writeFileSync(path, dump);
    await run(['load', url, path, ...flags]);
  }
  await run(['dump', url, path, '--keep-secret-key', ...flags]);
  return readFileSync(path);
}

/** What the official client makes of a JSON dump in another way: it begins to number sessions and unused inodes anew. */
function withoutNumbers(content: unknown): unknown {
  const { Counters, ...rest } = content as { readonly Counters?: Record<string, number> };
  if (!Counters) return content;
  const { usedSpace, usedInodes, nextTrash } = Counters;
  return { ...rest, Counters: { usedSpace, usedInodes, nextTrash } };
}

async function empty(url: string): Promise<void> {
  const engine = await openUrl(url);
  await engine.reset();
  await engine.close();
}

for (const name of ['sqlite', 'redis', 'postgres', 'mysql'] as const)
  describe(`dumps beside the official client, ${name}`, () => {
    test('ours are loaded by it, theirs by us, and dumped again as they were', options, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'juicepod-dump-'));
      try {
        await using database = await startDatabase(name, folder);
        await ours(database.url, 'binary', goldenDump('redis-full', 'binary'));
        await addOddNames(database.url);
        for (const form of forms) {
          const dump = await ours(database.url, form);
          const content = await contentOf(form, dump);
          assert.deepEqual(
            await contentOf(form, await theirs(database.url, form, folder)),
            content,
            `both dump the same volume as the same ${form}`,
          );
          const copy = await theirs(database.spareUrl, form, folder, dump);
          assert.deepEqual(
            withoutNumbers(await contentOf(form, copy)),
            withoutNumbers(content),
            `${form}, loaded by the official client`,
          );
          await empty(database.spareUrl);
          assert.deepEqual(
            await contentOf(form, await ours(database.spareUrl, form, copy)),
            await contentOf(form, copy),
            `${form}, loaded by us`,
          );
          await empty(database.spareUrl);
        }
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });
  });
