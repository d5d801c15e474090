/** `juicepod bench`, `mdtest` and `objbench`: what they tell, and that they leave nothing behind, also when they are told to end. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { openMeta } from '../../src/meta/open.ts';
import { SYSTEM } from '../../src/meta/types.ts';
import { inScratch, refuses, run, succeeds, until } from '../cli/command.ts';
import { cannotMount, freshVolume } from '../mounted.ts';
import { startS3 } from '../servers.ts';

interface Told {
  readonly settings: Readonly<Record<string, unknown>>;
  readonly results: readonly { readonly item: string; readonly value: number; readonly unit: string; readonly cost: number }[];
}

const told = (text: string): Told => JSON.parse(text) as Told;
const FEW = ['--big-file-size', '3M', '--small-file-count', '5', '--output', 'json'];

/** Runs it until `begun`, tells it to end, and answers what it said. */
async function interrupted(args: readonly string[], begun: () => boolean | Promise<boolean>): Promise<string> {
  const { code, stderr } = await run(args, {
    onStart: (child) =>
      void until('it has begun', async () => (await begun()) || child.exitCode !== null)
        .then(() => child.kill('SIGINT'))
        .catch(() => child.kill('SIGKILL')),
  });
  assert.equal(code, 130, stderr);
  return stderr;
}

const names = async (url: string): Promise<readonly string[]> => {
  const meta = await openMeta(url, { readOnly: true, existing: true });
  try {
    const found: string[] = [];
    for await (const batch of meta.readdir(SYSTEM, ROOT_INO, false)) found.push(...batch.map(({ name }) => name.toString()));
    return found;
  } finally {
    await meta.close();
  }
};

test('bench tells how fast files are, and what the mount did for them', { skip: cannotMount }, async () => {
  await using mounted = await freshVolume('sqlite', { format: ['--trash-days', '0'] });
  const { results, settings } = told(await succeeds(['bench', mounted.folder, '-p', '2', ...FEW]));
  assert.equal(settings['threads'], 2);
  assert.deepEqual(
    results.map(({ item, unit }) => `${item}: ${unit}`),
    [
      'Write big file: MiB/s',
      'Read big file: MiB/s',
      'Write small file: files/s',
      'Read small file: files/s',
      'Stat file: files/s',
      'FUSE operation: operations',
      'Update meta: operations',
      'Put object: operations',
      'Get object: operations',
      'Delete object: operations',
      'Write into cache: operations',
      'Read from cache: operations',
    ],
  );
  for (const { item, value } of results.slice(0, 5)) assert.ok(value > 0, item);
  const of = (name: string): number => results.find(({ item }) => item === name)?.value ?? -1;
  // Two threads: a big file of one block and five small ones each.
  assert.equal(of('Put object'), 12);
  assert.ok(of('FUSE operation') > 30);
  assert.deepEqual(
    readdirSync(mounted.folder).filter((name) => !name.startsWith('.')),
    [],
  );
});

test('bench measures any folder, and is told in one sentence what it cannot', async () => {
  await inScratch(async (folder) => {
    const { results } = told(await succeeds(['bench', folder, '--small-file-size', '0', ...FEW]));
    assert.deepEqual(
      results.map(({ item }) => item),
      ['Write big file', 'Read big file'],
    );
    writeFileSync(join(folder, 'file'), '');
    await refuses(['bench', join(folder, 'file')], /is no directory/);
    await refuses(['bench', folder, '--big-file-size', '0', '--small-file-count', '0'], /neither big nor small files/);
    await refuses(['bench', folder, '--block-size', 'x'], /--block-size: wanted a size/);
    const said = await interrupted(['bench', folder, '--big-file-size', '100G', '-p', '2'], () => readdirSync(folder).length > 1);
    assert.match(said, /told to end/);
    assert.deepEqual(readdirSync(folder), ['file']);
  });
});

test('mdtest makes its tree, measures it and takes it away, the trash of the volume left out of it', async () => {
  await inScratch(async (folder) => {
    const url = `sqlite3://${join(folder, 'meta.db')}`;
    await succeeds(['format', url, 'vol-a', '--bucket', join(folder, 'objects')]);
    const args = ['mdtest', url, '/test1', '--threads', '3', '--write', '100M', '--output', 'json'];
    const { results, settings } = told(await succeeds(args));
    assert.equal(settings['directories'], 13);
    assert.deepEqual(
      results.map(({ item }) => item),
      ['Create directory', 'Create file', 'Look up file', 'List directory', 'Remove file', 'Remove directory'],
    );
    for (const { item, value, cost } of results) assert.ok(value > 0 && cost > 0, item);
    assert.deepEqual(await names(url), []);
    const status = JSON.parse(await succeeds(['status', url, '--output', 'json'])) as {
      Stat: { UsedSpace: number; UsedInodes: number };
      Sessions: unknown[];
    };
    // The folder of the hour in the trash is there, and nothing in it.
    assert.ok(status.Stat.UsedInodes <= 1 && status.Stat.UsedSpace <= 4096, JSON.stringify(status.Stat));
    assert.deepEqual(status.Sessions, []);

    const begun = async (): Promise<boolean> => (await names(url)).includes('test2');
    assert.match(await interrupted(['mdtest', url, '/test2', '--files', '100000'], begun), /told to end/);
    assert.deepEqual(await names(url), []);

    await refuses(['mdtest', url, '/'], /wanted the path of a directory to be made/);
    await refuses(['mdtest', url, '/no/such'], /the volume has no directory \/no\/such/);
    await refuses(['mdtest', url, '/t', '--dirs', '1000', '--depth', '5'], /at most 1000000 are possible/);
    await refuses(['mdtest', `sqlite3://${join(folder, 'other.db')}`, '/t'], /other\.db/);
  });
});

test('objbench tries a store and measures it, in a folder and in S3, and leaves nothing', async () => {
  await inScratch(async (folder) => {
    const store = join(folder, 'store');
    mkdirSync(store);
    const few = ['--block-size', '256K', '--big-object-size', '1M', '--small-objects', '10', '--output', 'json'];
    const check = (text: string): void => {
      const { results, settings } = told(text);
      const tests = settings['tests'] as { test: string; result: string }[];
      assert.ok(tests.length > 8);
      for (const { test: name, result } of tests) assert.equal(result, 'pass', name);
      assert.deepEqual(
        results.map(({ item }) => item),
        [
          'upload objects',
          'download objects',
          'put small objects',
          'get small objects',
          'list objects',
          'head objects',
          'delete objects',
        ],
      );
      for (const { item, value } of results) assert.ok(value > 0, item);
    };
    check(await succeeds(['objbench', store, ...few]));
    assert.deepEqual(readdirSync(store), []);
    await using s3 = await startS3();
    const env = { ACCESS_KEY: s3.accessKey, SECRET_KEY: s3.secretKey };
    check(await succeeds(['objbench', '--storage', 's3', `${s3.endpoint}/bench`, ...few], { env }));
    // The server has a folder of its own there.
    assert.deepEqual(
      readdirSync(join(s3.folder, 'bench')).filter((name) => !name.startsWith('.')),
      [],
    );

    const wrong = { env: { ...env, SECRET_KEY: 'pw-4711' } };
    const { code, stderr } = await run(['objbench', '--storage', 's3', `${s3.endpoint}/bench`, ...few], wrong);
    assert.equal(code, 1);
    assert.doesNotMatch(stderr, /pw-4711/);
    await refuses(['objbench', 'https://somewhere/bucket'], /does not look like the path of a folder/);
    await refuses(['objbench', store, '--small-objects', '0'], /--small-objects: wanted a number from 1/);
    const large = ['objbench', store, '--skip-functional-tests', '--small-objects', '10000000'];
    assert.match(await interrupted(large, () => readdirSync(store).length > 0), /told to end/);
    assert.deepEqual(readdirSync(store), []);
  });
});
