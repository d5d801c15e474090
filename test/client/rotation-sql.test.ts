/** Credentials of SQL servers that change under a client whose application writes, the old ones taken away for good afterwards. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { MountConfig } from '../../src/api/mount.ts';
import { openEngine, readFormat } from '../../src/meta/open.ts';
import { succeeds, until } from '../cli/command.ts';
import { cannotMount } from '../mounted.ts';
import { asAdministrator, disconnect, makeUser, setPassword, type SqlKind, sqlKinds, startSecure } from '../sql-servers.ts';
import { startPodProcesses } from './pod.ts';
import { startRotationWriter } from './rotation-writer.ts';
import { removeFolder } from '../remove-folder.ts';

async function startWorld(kind: SqlKind) {
  await using cleanup = new AsyncDisposableStack();
  const server = cleanup.use(await startSecure(kind));
  const blocks = mkdtempSync(join(tmpdir(), 'juicepod-blocks-'));
  cleanup.defer(() => removeFolder(blocks));
  await succeeds(['format', server.url(), 'testvol', '--bucket', blocks]);
  if (kind === 'postgres')
    await asAdministrator(
      kind,
      server.port,
      'GRANT ALL ON ALL TABLES IN SCHEMA public TO clients',
      'GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO clients',
    );
  const engine = await openEngine(server.url(), { environment: {} });
  const uuid = (await readFormat(engine))?.uuid ?? '';
  await engine.close();
  const options = kind === 'postgres' ? 'sslmode=require' : 'tls=skip-verify';
  const configOf = (user: string, password: string, generation: string): MountConfig => ({
    name: 'testvol',
    uuid,
    metaUrl: server.urlFor(user, password, '127.0.0.1', options),
    generation,
  });
  const held = cleanup.move();
  return { server, configOf, [Symbol.asyncDispose]: () => held.disposeAsync() };
}

for (const [name, kind] of sqlKinds)
  describe(name, { skip: cannotMount }, () => {
    test('a user is replaced by another, and a password by another, without an error of the writer', async () => {
      await using world = await startWorld(kind);
      const { port } = world.server;
      await makeUser(kind, port, 'one', 'pass-one');
      await using pod = await startPodProcesses(world.configOf('one', 'pass-one', '1'));
      const writer = startRotationWriter(join(pod.targets[0] ?? '', 'work'));
      await writer.goesOn();

      await makeUser(kind, port, 'two', 'pass-two');
      pod.project(world.configOf('two', 'pass-two', '2'));
      await until('the second user is in use', () => pod.config().Credentials.Generation === '2');
      await writer.goesOn();
      assert.equal(await disconnect(kind, port, 'one'), 0);
      await setPassword(kind, port, 'one', 'nobody knows it');

      // A password that is wrong: refused, said, and the one in use stays.
      pod.project(world.configOf('two', 'pass-wrong', '3'));
      await until('the refusal is told', () => pod.config().Credentials.Problem !== '');
      assert.match(pod.config().Credentials.Problem, /refuses us/);
      assert.equal(pod.config().Credentials.Generation, '2');
      await writer.goesOn();

      // The server is told first: connections that are there go on, and the next ones are made with the new one.
      await setPassword(kind, port, 'two', 'pass-four');
      pod.project(world.configOf('two', 'pass-four', '4'));
      await until('the new password is in use', () => pod.config().Credentials.Generation === '4');
      // Between two commits there may be no connection.
      await until('connections were ended', async () => (await disconnect(kind, port, 'two')) > 0);
      await writer.goesOn();
      assert.doesNotMatch(pod.log(), /pass-(one|two|wrong|four)/);
      await using reader = await startPodProcesses(world.configOf('two', 'pass-four', '4'), { mounts: [{ readOnly: true }] });
      await writer.end(async () => join(reader.targets[0] ?? '', 'work'));
    });

    test('where the old password is taken away before the new one has come, the writer waits', async () => {
      await using world = await startWorld(kind);
      const { port } = world.server;
      await makeUser(kind, port, 'one', 'pass-one');
      await using pod = await startPodProcesses(world.configOf('one', 'pass-one', '1'));
      const writer = startRotationWriter(join(pod.targets[0] ?? '', 'work'));
      await writer.goesOn();
      await setPassword(kind, port, 'one', 'pass-two');
      await until('connections were ended', async () => (await disconnect(kind, port, 'one')) > 0);
      await until('the client has noticed', () => /password authentication failed|Access denied/.test(pod.log()));
      const before = writer.lines;
      await new Promise((done) => setTimeout(done, 2000));
      assert.deepEqual([writer.errors, writer.lines <= before + 1], [[], true]);
      pod.project(world.configOf('one', 'pass-two', '2'));
      await writer.goesOn();
      assert.equal(pod.config().Credentials.Generation, '2');
      await using reader = await startPodProcesses(world.configOf('one', 'pass-two', '2'), { mounts: [{ readOnly: true }] });
      const folder = join(reader.targets[0] ?? '', 'work');
      await writer.end(async () => folder);
      assert.ok(readFileSync(join(folder, 'lines')).length > 0);
    });
  });
