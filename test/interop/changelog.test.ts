/**
 * The change log beside the official client, which is the judge: the same changes through a mount of its own and through ours leave the
 * same entries, over each database; its `changelog` reads ours, and ours its. JUICEPOD_CHANGES_SEED: the seed of the random changes.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, rmdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { noPython } from '../locks/locker.ts';
import { juicefs } from '../tools.ts';
import { comparable, inForeground, type Played, startWorld, type World } from './changelog-world.ts';
import { cannotInteroperate } from './official.ts';

const SEED = process.env['JUICEPOD_CHANGES_SEED'] ?? '20261122';
const bin = resolve(import.meta.dirname, '../../bin/juicepod');

/** What follows in the background, in no order: how many of each. */
const counts = ({ entries }: Played): readonly number[] =>
  ['DELSUSTAINED', 'NEWSESSION', 'CLEANSESSION'].map((wanted) => entries.filter(({ operation }) => operation === wanted).length);

/** The first line of a command that follows a log in which a directory is made; the command is ended. */
async function firstLineOf(command: string, args: readonly string[], make: () => void): Promise<string> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  const ended = new Promise<number | null>((done) => child.once('exit', done));
  // It begins with what is written once it reads: so something is, again and again.
  const making = setInterval(make, 100);
  try {
    for await (const line of createInterface({ input: child.stdout })) if (line.includes('|CREATE(1,directory')) return line;
    throw new Error(`${command} ended`);
  } finally {
    clearInterval(making);
    child.kill('SIGINT');
    await ended;
  }
}

for (const engine of ['redis', 'sqlite', 'postgres', 'mysql'] as const)
  describe(`the change log beside the official client over ${engine}`, { skip: cannotInteroperate || noPython }, () => {
    let world: World;
    before(async () => {
      world = await startWorld(engine);
    });
    after(() => world?.[Symbol.asyncDispose]());

    async function same(changes: readonly string[], options: Parameters<World['play']>[2]): Promise<readonly Played[]> {
      const official = await world.play('official', changes, options);
      const ours = await world.play('ours', changes, options);
      assert.equal(ours.answers, official.answers);
      assert.deepEqual(comparable(ours.entries.filter(inForeground)), comparable(official.entries.filter(inForeground)));
      assert.deepEqual(counts(ours), counts(official));
      const numbers = ours.entries.filter(({ session }) => session > 0).map(({ number }) => number);
      assert.equal(new Set(numbers).size, numbers.length, 'a client counts its entries');
      return [official, ours];
    }

    test('changes of every kind leave the same entries, with the trash', async () => {
      await same(['all'], { trashDays: 1 });
    });

    test('changes of every kind leave the same entries, without the trash and with access times', async () => {
      for (const { entries } of await same(['all'], { mount: ['--atime-mode', 'strictatime'] }))
        assert.ok(entries.some(({ operation }) => operation === 'ACCESS'));
    });

    test(`random changes leave the same entries (seed ${SEED})`, async () => {
      await same([SEED, '250'], { trashDays: 1 });
    });

    test('the official changelog follows what we write, and ours what the official client writes', async () => {
      const official = juicefs();
      assert.ok(official);
      for (const client of ['ours', 'official'] as const) {
        const lines: string[] = [];
        await world.play(client, ['1', '3'], {
          async then(folder, url) {
            let made = 0;
            const make = (): void => {
              const path = join(folder, `directory ${++made}`);
              mkdirSync(path);
              rmdirSync(path);
            };
            lines.push(await firstLineOf(official, ['--no-agent', 'changelog', url], make));
            lines.push(await firstLineOf(bin, ['changelog', url], make));
            lines.push(await firstLineOf(bin, ['changelog', url, '--output', 'json'], make));
          },
        });
        const [theirs = '', ours = '', json = ''] = lines;
        for (const line of [theirs, ours])
          assert.match(line, /^\d+: \d+\.\d{9}\|CREATE\(1,directory \d+,0,0,2,511,18,,linux,true\):\d+\|\(\d+,\d+\)$/);
        const { operation, args, number, entry } = JSON.parse(json) as Record<string, unknown>;
        assert.equal(operation, 'CREATE');
        assert.match(String((args as string[])[1]), /^directory/);
        assert.equal(typeof number, 'number');
        assert.match(String(entry), /\|CREATE\(1,directory/);
      }
    });
  });
