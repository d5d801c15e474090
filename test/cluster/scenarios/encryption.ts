/** Volumes that the operator makes with encryption, for pods and for the official client. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { juicefs } from '../../tools.ts';
import { get } from './kubectl.ts';
import { deletePod, idle, inside, shell, startPod } from './pods.ts';
import { readContent, writeContent } from './programs.ts';
import type { Scenario } from './scenario.ts';
import type { World } from './world.ts';

const volume = 'sealed';
const volumes = `${volume}=/data`;
const official = juicefs();
const bytes = 12 * 2 ** 20;
const words = 'not to be read by everybody';

const createSealed = (world: World): Promise<unknown> => world.createVolume(volume, { encryption: { algorithm: 'AES256GCM' } });

/** A pod that writes `name` and some words, and is gone. Resolves with the sha256 of what it wrote. */
async function writeFrom(world: World, name: string): Promise<string> {
  const { environment, namespace } = world;
  const pod = await startPod({ name, namespace, image: environment.image, command: idle, volumes });
  const sha256 = (await inside(pod, ['node', '-e', writeContent, `/data/${name}`, String(bytes)])).trim();
  await shell(pod, `for i in 1 2 3 4 5 6 7 8; do echo ${words}; done > /data/words`);
  await deletePod(pod);
  return sha256;
}

export const encryption: readonly Scenario[] = [
  {
    name: 'what a pod writes to an encrypted volume another pod reads, and who has the bucket does not',
    async run(world) {
      const { environment, namespace, s3 } = world;
      await createSealed(world);
      const sha256 = await writeFrom(world, 'writing-sealed');
      const bucket = join(s3.folder, world.bucket(volume));
      const objects = readdirSync(bucket, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
      assert.ok(objects.filter(({ parentPath }) => parentPath.includes('/chunks/')).length >= 4);
      for (const { parentPath, name } of objects)
        assert.ok(!readFileSync(join(parentPath, name)).includes(words), `${name} is in the clear`);

      const command = idle;
      const reader = await startPod({ name: 'reading-sealed', namespace, image: environment.image, command, volumes });
      assert.equal(await shell(reader, 'head -n 1 /data/words'), `${words}\n`);
      const read = JSON.parse(await inside(reader, ['node', '-e', readContent, '/data/writing-sealed'])) as object;
      assert.deepEqual(read, { sha256, size: bytes });
      await deletePod(reader);
    },
  },
  {
    name: 'the official client reads an encrypted volume that the operator made and a pod has written to',
    skip: official === undefined ? 'JUICEFS_BIN does not name the official client' : undefined,
    async run(world) {
      await createSealed(world);
      const sha256 = await writeFrom(world, 'writing-for-official');
      const secret = await get<{ data: { passphrase: string } }>(world.namespace, 'secret', `juicepod-passphrase-${volume}`);
      const folder = mkdtempSync(join(tmpdir(), 'juicepod-sealed-'));
      try {
        const passphrase = Buffer.from(secret.data.passphrase, 'base64').toString();
        const env = { ...process.env, HOME: folder, [volume]: world.metaUrl(volume), JFS_RSA_PASSPHRASE: passphrase };
        const args = ['sync', `jfs://${volume}/`, `${join(folder, 'out')}/`];
        await promisify(execFile)(official ?? '', args, { env, timeout: 60_000 });
        const copied = readFileSync(join(folder, 'out', 'writing-for-official'));
        assert.equal(createHash('sha256').update(copied).digest('hex'), sha256);
        assert.equal(readFileSync(join(folder, 'out', 'words'), 'utf8'), `${words}\n`.repeat(8));
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    },
  },
];
