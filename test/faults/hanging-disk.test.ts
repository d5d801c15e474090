/**
 * Mounts whose cache directory lies on a disk that hangs: it neither answers nor fails. Here it is a FUSE file system whose server is
 * stopped (SIGSTOP), as in test/chunk/hang.test.ts.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { answers, onAnsweringDisks } from '../../src/client/answering.ts';
import type { CacheOptions } from '../../src/client/cache-options.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { inScratch, run, succeeds, until } from '../cli/command.ts';
import { serve } from '../fuse/mounted.ts';
import { cannotMount, fuseMounts } from '../mounted.ts';

const skip = cannotMount;
/** Longer than a disk that answers takes on a busy machine. */
const WAIT_MS = 2000;

/** A disk that can be stopped, and goes on at the end. */
async function onDisk(
  body: (world: {
    readonly work: string;
    readonly disk: string;
    readonly stop: () => void;
    readonly resume: () => void;
  }) => Promise<void>,
): Promise<void> {
  await inScratch(async (work) => {
    const disk = join(work, 'disk');
    mkdirSync(disk);
    await using server = await serve({ target: disk });
    const resume = (): void => void server.child.kill('SIGCONT');
    try {
      await body({ work, disk, stop: () => void server.child.kill('SIGSTOP'), resume });
    } finally {
      resume();
    }
  });
}

test('a volume is mounted without the cache directory whose disk hangs, and unmounted', { skip }, async () => {
  await onDisk(async ({ work, disk, stop, resume }) => {
    const url = `sqlite3://${join(work, 'meta.db')}`;
    const target = join(work, 'mnt');
    await succeeds(['format', url, 'vol-a', '--bucket', join(work, 'objects')]);
    stop();
    const good = join(work, 'cache');
    const options = ['--cache-dir', `${join(disk, 'cache')}:${good}`, '--log', join(work, 'log'), '-d', '--output', 'json'];
    const { code, stdout, stderr } = await run(['mount', url, target, ...options]);
    assert.equal(code, 0, stderr);
    assert.match(stderr, /--cache-dir: the disk of .*disk\/cache has not answered for 10 s; the volume is mounted without it/);
    const { pid } = JSON.parse(stdout) as { pid: number };
    writeFileSync(join(target, 'file'), 'content');
    assert.equal(readFileSync(join(target, 'file'), 'utf8'), 'content');
    assert.ok(existsSync(good));
    await succeeds(['umount', target]);
    await until('the process of the mount has ended', () => !existsSync(`/proc/${pid}`));
    assert.deepEqual(
      fuseMounts(work).map((mount) => mount.target),
      [disk],
    );
    resume();
    assert.ok(!existsSync(join(disk, 'cache', 'raw')));
  });
});

test('a client leaves out what hangs, but not the journal of the client that it follows', { skip }, async () => {
  await onDisk(async ({ work, disk, stop, resume }) => {
    const cache = { folder: [disk, join(work, 'good')], bytes: 1, freeRatio: 0 } satisfies CacheOptions;
    const options = { cache, journalFolder: join(disk, 'journal-1'), readOnly: false };
    assert.equal(await onAnsweringDisks(options, nullLogger, WAIT_MS), options);
    stop();
    const left = await onAnsweringDisks(options, nullLogger, WAIT_MS);
    assert.equal(left.cache?.folder, join(work, 'good'));
    assert.equal(left.journalFolder, undefined);
    await assert.rejects(onAnsweringDisks({ ...options, resume: 7 }, nullLogger, WAIT_MS), {
      code: 'JournalSilent',
      retryable: true,
    });
    // Its journal lies elsewhere.
    const other = { ...options, resume: 7, journalFolder: join(work, 'good/journal-1') };
    assert.equal((await onAnsweringDisks(other, nullLogger, WAIT_MS)).journalFolder, other.journalFolder);
    assert.equal(
      (await onAnsweringDisks({ ...options, cache: { ...cache, folder: disk } }, nullLogger, WAIT_MS)).cache,
      undefined,
    );
    resume();
    await until('the disk answers', () => answers(disk, WAIT_MS));
    const following = { ...options, resume: 7 };
    assert.equal(await onAnsweringDisks(following, nullLogger, WAIT_MS), following);
  });
});
