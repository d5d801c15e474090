/** Credentials that change under a client whose application writes: Redis users and S3 keys, taken away for good afterwards. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { succeeds, until } from '../cli/command.ts';
import { cannotMount } from '../mounted.ts';
import { juicefs } from '../tools.ts';
import { startWorld } from './credentials-world.ts';
import { startPodProcesses } from './pod.ts';
import { startRotationWriter } from './rotation-writer.ts';

test(
  'users and keys are replaced under a writer, and the old ones taken away, without an error',
  { skip: cannotMount },
  async () => {
    await using world = await startWorld();
    await using pod = await startPodProcesses(await world.credentials('one'));
    const [target = ''] = pod.targets;
    const writer = startRotationWriter(join(target, 'work'));
    await writer.goesOn();
    assert.equal(pod.config().Credentials.Generation, 'one');

    pod.project(await world.credentials('two'));
    await until('the second generation is in use', () => pod.config().Credentials.Generation === 'two');
    assert.ok(readdirSync(join(target, 'work')).includes('lines'));
    assert.deepEqual(await world.users(), ['user-two']);
    await world.revoke('one');
    await writer.goesOn();

    // Those that nobody made: refused, said, and the ones in use stay.
    pod.project(world.configOf('nobody'));
    await until('the refusal is told', () => pod.config().Credentials.Problem !== '');
    assert.match(pod.config().Credentials.Problem, /refuses us/);
    assert.equal(pod.config().Credentials.Generation, 'two');
    assert.match(readFileSync(join(target, '.stats'), 'utf8'), /credentials_refused 1$/m);
    await writer.goesOn();
    // The user is right and the key is not: nothing of it is taken.
    pod.project({ ...(await world.credentials('half')), storage: { accessKey: 'key-half', secretKey: 'wrong' } });
    await until('the other refusal is told', () => /SignatureDoesNotMatch/.test(pod.config().Credentials.Problem));
    await world.revoke('half');
    await writer.goesOn();
    assert.match(pod.log(), /the new credentials cannot be used, the old ones stay in use/);

    pod.project(await world.credentials('three'));
    await until('the third generation is in use', () => pod.config().Credentials.Generation === 'three');
    assert.equal(pod.config().Credentials.Problem, '');
    await world.revoke('two');
    await writer.goesOn();

    const status = JSON.parse(await succeeds(['status', world.configOf('three').metaUrl, '--output', 'json'])) as {
      Sessions: readonly { CredentialsGeneration: string }[];
    };
    assert.deepEqual(
      status.Sessions.map(({ CredentialsGeneration }) => CredentialsGeneration),
      ['three'],
    );
    assert.doesNotMatch(pod.log(), /pass-(one|two|three)|secret-(one|two|three)/);
    await using reader = await startPodProcesses(world.configOf('three'), { mounts: [{ readOnly: true }] });
    await writer.end(async () => join(reader.targets[0] ?? '', 'work'));
  },
);

test('where the old ones are taken away before the new ones have come, the writer waits', { skip: cannotMount }, async () => {
  await using world = await startWorld();
  await using pod = await startPodProcesses(await world.credentials('one'));
  const [target = ''] = pod.targets;
  const writer = startRotationWriter(join(target, 'work'));
  await writer.goesOn();
  const next = await world.credentials('two');
  await world.revoke('one');
  // What is under way is refused now, whatever it is.
  await until('the client has noticed', () => /refuses|WRONGPASS/.test(pod.log()));
  const before = writer.lines;
  await new Promise((done) => setTimeout(done, 3000));
  assert.deepEqual(writer.errors, []);
  assert.ok(writer.lines <= before + 25, 'it writes with credentials that are gone');
  pod.project(next);
  await writer.goesOn();
  assert.equal(pod.config().Credentials.Generation, 'two');
  await using reader = await startPodProcesses(next, { mounts: [{ readOnly: true }] });
  await writer.end(async () => join(reader.targets[0] ?? '', 'work'));
});

test('keys that are changed in the settings of the volume are taken into use', { skip: cannotMount }, async () => {
  await using world = await startWorld();
  const config = await world.credentials('one');
  // The keys are those of the settings: the file has none.
  const { storage: _none, ...withoutKeys } = config;
  await using pod = await startPodProcesses(withoutKeys);
  const [target = ''] = pod.targets;
  const writer = startRotationWriter(join(target, 'work'));
  await writer.goesOn();
  await world.s3.createKey('other', 'other-secret');
  await succeeds([
    'format',
    config.metaUrl,
    'testvol',
    '--storage',
    's3',
    '--bucket',
    `${world.s3.endpoint}/blocks`,
    '--access-key',
    'other',
    '--secret-key',
    'other-secret',
  ]);
  await until('the other key is in use', () => pod.config().Credentials.Switches === 1);
  await writer.goesOn();
  await using reader = await startPodProcesses(withoutKeys, { mounts: [{ readOnly: true }] });
  await writer.end(async () => join(reader.targets[0] ?? '', 'work'));
});

test(
  'the official client lists a session that says which credentials it uses',
  { skip: cannotMount || (juicefs() === undefined && 'JUICEFS_BIN does not name the official client') },
  async () => {
    await using world = await startWorld();
    const config = await world.credentials('one');
    await using pod = await startPodProcesses(config);
    const { stdout } = await promisify(execFile)(juicefs() ?? '', ['status', config.metaUrl]);
    const { Sessions } = JSON.parse(stdout) as { Sessions: readonly { MountPoint: string; Version: string }[] };
    assert.deepEqual(
      Sessions.map(({ MountPoint }) => MountPoint),
      [...pod.targets],
    );
    assert.match(Sessions[0]?.Version ?? '', /juicepod/);
  },
);
