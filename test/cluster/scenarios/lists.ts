/** A volume whose names are in PostgreSQL, with access control lists: what they say holds in every pod. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { ROOT_INO } from '../../../src/lib/int64.ts';
import { ruleToXattr } from '../../../src/meta/acl-rule.ts';
import { openMeta } from '../../../src/meta/open.ts';
import { makeUser, type SecureServer, startSecure } from '../../sql-servers.ts';
import { apply, get, kubectl } from './kubectl.ts';
import { deletePod, idle, inside, shell, startPod } from './pods.ts';
import type { Scenario } from './scenario.ts';

const volume = 'listed';
const member = 1001;
const root = { uid: 0, gid: 0, pid: 1 };

/** Makes a directory, whatever is made in which one user besides its owner may read and write. */
async function makeDirectory(metaUrl: string, name: string): Promise<void> {
  const meta = await openMeta(metaUrl, { backgroundJobs: false });
  try {
    const { ino } = await meta.mkdir(root, ROOT_INO, Buffer.from(name), 0o777, 0);
    const rule = { owner: 6, group: 0, mask: 6, other: 0, users: [{ id: member, permissions: 6 }], groups: [] };
    await meta.setxattr(root, ino, 'system.posix_acl_default', ruleToXattr(rule), {});
  } finally {
    await meta.close();
  }
}

/** UID PATH: what a user gets to read, or the code of the error. */
const readAs = `
const [uid, path] = process.argv.slice(1);
process.setgroups([]); process.setgid(Number(uid)); process.setuid(Number(uid));
try { process.stdout.write(require('node:fs').readFileSync(path, 'utf8')); } catch (error) { process.stdout.write(error.code); }
`;

function spec(host: string, server: SecureServer): object {
  return {
    metadata: {
      postgres: {
        host,
        port: server.port,
        database: 'postgres',
        authSecretRef: { name: 'postgres' },
        tls: { mode: 'VerifyFull', caSecretRef: { name: 'postgres' } },
      },
    },
    format: { enableACL: true },
  };
}

export const lists: readonly Scenario[] = [
  {
    name: 'names in PostgreSQL, with access control lists: the second pod reads what the first wrote, as whom a list lets in, and as nobody else',
    async run(world) {
      const { environment, namespace } = world;
      const { host } = environment;
      await using server = await startSecure('postgres', ['-c', `listen_addresses=127.0.0.1,${host}`]);
      await server.certify(`IP:${host}`);
      await makeUser('postgres', server.port, 'secure', 'a-word-of-the-tests');
      await apply({
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: 'postgres', namespace },
        stringData: { username: 'secure', password: 'a-word-of-the-tests', 'ca.crt': readFileSync(server.files.ca, 'utf8') },
      });
      await world.createVolume(volume, spec(host, server));
      const { status } = await get<{ status: { metadata: string } }>(namespace, 'juicevolume', volume);
      assert.equal(status.metadata, `postgres://${host}:${server.port}/postgres`);
      await makeDirectory(server.urlFor('secure', 'a-word-of-the-tests', host, 'sslmode=require'), 'team');

      const application = { namespace, image: environment.image, command: idle };
      const writer = await startPod({ ...application, name: 'listed-writer', volumes: `${volume}=/data` });
      // A list that is inherited counts, not the umask.
      await shell(writer, 'umask 077; echo ours > /data/team/file; echo mine > /data/private');
      await deletePod(writer);
      const reader = await startPod({ ...application, name: 'listed-reader', volumes: `${volume}=/data:ro` });
      const read = (uid: number, file: string): Promise<string> =>
        inside(reader, ['node', '-e', readAs, String(uid), `/data/${file}`]);
      assert.deepEqual(
        [await read(member, 'team/file'), await read(member + 1, 'team/file'), await read(member, 'private')],
        ['ours\n', 'EACCES', 'EACCES'],
      );
      assert.equal((await shell(reader, 'stat -c %a /data/team/file')).trim(), '660');
      await deletePod(reader);
      // It does not go without its server.
      await kubectl(['delete', 'juicevolume', volume, `--namespace=${namespace}`, '--timeout=60s']);
    },
  },
];
