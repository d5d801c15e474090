import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { formatMountConfig, type MountConfig } from '../api/mount.ts';
import { systemClock } from '../lib/clock.ts';
import type { Logger } from '../lib/log.ts';
import { systemRandom } from '../lib/random.ts';
import { WatchedConfig } from './credentials.ts';

const config = (generation: string): MountConfig => ({
  name: 'testvol',
  uuid: 'an-uuid',
  metaUrl: `redis://:secret-${generation}@host/1`,
  generation,
});

/** A folder as the kubelet makes it, and what was accepted and said. */
function createWorld(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-credentials-'));
  const accepted: string[] = [];
  const said: string[] = [];
  let refusal: string | undefined;
  let number = 0;
  const write = (text: string): void => {
    const version = `..${number++}.json`;
    writeFileSync(join(folder, version), text);
    symlinkSync(version, join(folder, '..data_tmp'));
    renameSync(join(folder, '..data_tmp'), join(folder, '..data'));
  };
  write(formatMountConfig(config('one')));
  symlinkSync('..data', join(folder, 'volume.json'));
  const log = (message: string): void => void said.push(message);
  const logger: Logger = { debug() {}, info: log, warn: log, error: log, child: () => logger };
  const watched = new WatchedConfig({
    path: join(folder, 'volume.json'),
    async accept({ generation = '' }) {
      if (refusal !== undefined) throw new Error(refusal);
      accepted.push(generation);
    },
    clock: systemClock,
    random: systemRandom,
    logger,
  });
  t.after(async () => {
    await watched.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const until = async (holds: () => boolean): Promise<void> => {
    for (let attempt = 0; !holds(); attempt++) {
      assert.ok(attempt < 500, `waited in vain: accepted ${accepted.join()}, said ${said.join()}`);
      await new Promise((done) => setTimeout(done, 10));
    }
  };
  return { folder, watched, accepted, said, write, until, refuse: (reason: string | undefined) => (refusal = reason) };
}

test('a new content is taken without being asked for, and once', async (t) => {
  const { watched, accepted, write, until } = createWorld(t);
  write(formatMountConfig(config('two')));
  await until(() => accepted.length > 0);
  await watched.check();
  assert.deepEqual(accepted, ['two']);
});

test('a content that is not accepted is tried again, and said once', async (t) => {
  const { watched, accepted, said, write, refuse } = createWorld(t);
  refuse('the server refuses us');
  write(formatMountConfig(config('two')));
  await watched.check();
  await watched.check();
  assert.equal(watched.problem, 'the server refuses us');
  assert.equal(said.filter((message) => /cannot be used/.test(message)).length, 1);
  refuse(undefined);
  await watched.check();
  assert.deepEqual(accepted, ['two']);
  assert.equal(watched.problem, undefined);
});

test('a content that is no configuration names what is wrong and no value, and going back to the old one ends the problem', async (t) => {
  const { watched, accepted, write } = createWorld(t);
  write('{"name":"testvol","metaUrl":"redis://:secret@host/1"}');
  await watched.check();
  assert.match(watched.problem ?? '', /lacks uuid/);
  assert.doesNotMatch(watched.problem ?? '', /secret/);
  write(formatMountConfig(config('one')));
  await watched.check();
  assert.equal(watched.problem, undefined);
  assert.deepEqual(accepted, []);
});

test('a changed certificate beside the file is a new content', async (t) => {
  const { folder, watched, accepted } = createWorld(t);
  writeFileSync(join(folder, 'ca.crt'), 'another authority');
  await watched.check();
  assert.deepEqual(accepted, ['one']);
  writeFileSync(join(folder, 'tls.crt'), 'another certificate');
  await watched.check();
  assert.deepEqual(accepted, ['one', 'one']);
});

test('a file that is gone for a moment is a problem, and no more', async (t) => {
  const { folder, watched, accepted, write } = createWorld(t);
  rmSync(join(folder, '..data'));
  await watched.check();
  assert.match(watched.problem ?? '', /ENOENT/);
  write(formatMountConfig(config('two')));
  await watched.check();
  assert.deepEqual(accepted, ['two']);
});
